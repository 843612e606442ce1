"""One cell of the template: Eq. 1 and Eq. 10 over all operations on all edges, in whichever search space."""

import functools
import operator
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from setn_lab.network.operations import ReLUConvBN, Zero
from setn_lab.space.protocol import Space
from setn_lab.template.norm import BatchNorm
from setn_lab.template.operations import template_operation

Cache = dict[nn.Module, Any]


class Cell(nn.Module):
    """All operations on all edges of one cell: `edges[node][state][operation]`, each with weights of its own.

    strides: the stride of the operations on a state.
    """

    edges: Any  # nested ModuleLists, whose elements type checkers cannot know

    def __init__(self, space: Space, channels: int, strides: Callable[[int], int]) -> None:
        super().__init__()
        self.space = space
        self.edges = nn.ModuleList(
            nn.ModuleList(
                nn.ModuleList(template_operation(name, channels, strides(state)) for name in space.operations)
                for state in range(space.inputs(node))
            )
            for node in range(space.nodes)
        )

    def sampled_states(
        self,
        inputs: list[Tensor],
        architecture: np.ndarray,
        drop_path: Tensor | None = None,
        caches: Sequence[Cache | None] = (),
    ) -> list[Tensor]:
        """Eq. 1: the cell's inputs and then its nodes, for the architecture of this cell alone.

        drop_path: (B, slots, b), a factor a sample for each operation of a node but the identity; None is none.
        caches: one for each input whose results other architectures share, see `cached`.
        """
        states = list(inputs)
        results = _SampledResults(states, drop_path, caches)
        for node, pairs in enumerate(self.space.terms(architecture)):
            chosen = [
                (slot, self.edges[node][state][operation], state) for slot, (operation, state) in enumerate(pairs)
            ]
            terms = [results.term(node, slot, operation, state) for slot, operation, state in _without_zeros(chosen)]
            states.append(functools.reduce(operator.add, terms))  # Eq. 1: H = f1(I1) + f2(I2)
        return states

    def mixed_states(self, inputs: list[Tensor], weights: Tensor) -> list[Tensor]:
        """Eq. 10: the same with every operation, times its weight: (edges, |O|)."""
        states = list(inputs)
        results = _MixedResults(states)
        edge = iter(weights)
        for operations_by_state in self.edges:
            node: Any = None
            for state, operations in enumerate(operations_by_state):
                for index, (weight, operation) in enumerate(zip(next(edge), operations, strict=True)):
                    if isinstance(operation, Zero):
                        continue
                    term = results.weighted(operation, index, state, weight)
                    node = term if node is None else node.add_(term)  # in place: no copy per term
            states.append(node)
        return states


def _without_zeros(chosen: list[tuple[int, nn.Module, int]]) -> list[tuple[int, nn.Module, int]]:
    """What a node sums, without operations that give nothing; the last of them where there is nothing else."""
    return [choice for choice in chosen if not isinstance(choice[1], Zero)] or chosen[-1:]


class _SampledResults:
    """The results of Eq. 1's operations, without doing twice what architectures or operations share.

    Operations that read the same state share its ReLU. Architectures on the same images share the results in `caches`.
    """

    def __init__(self, states: list[Tensor], drop_path: Tensor | None, caches: Sequence[Cache | None]) -> None:
        self.states, self.caches = states, caches
        # in the states' precision, which a factor of float32 would raise
        self.drop_path = None if drop_path is None else drop_path.to(states[0].dtype)
        self.relus: dict[int, Tensor] = {}

    def term(self, node: int, slot: int, operation: nn.Module, state: int) -> Tensor:
        """What the operation adds to the node."""
        cache = self.caches[state] if state < len(self.caches) else None
        term = cached(cache, self._result, operation, state)
        if self.drop_path is not None and not isinstance(operation, nn.Identity):
            return term * self.drop_path[node, slot, :, None, None, None]
        return term

    def _result(self, operation: nn.Module, state: int) -> Tensor:
        if not shares_relu(operation):
            return operation(self.states[state])
        if state not in self.relus:
            self.relus[state] = F.relu(self.states[state])
        return operation.from_relu(self.relus[state])


class _MixedResults:
    """The weighted results of Eq. 10's operations, without doing twice what edges share.

    Operations that read the same state share its ReLU, and on all edges the results of one without weights of its own.
    """

    def __init__(self, states: list[Tensor]) -> None:
        self.states = states
        self.relus: dict[int, Tensor] = {}
        self.shared: dict[tuple[int, int], Tensor] = {}

    def weighted(self, operation: nn.Module, index: int, state: int, weight: Tensor) -> Tensor:
        """weight times the operation's result on the state; the operation is the index-th of its edge."""
        if state not in self.relus:  # before the first operation: gradients of a state add up in a fixed order
            self.relus[state] = F.relu(self.states[state])
        if shares_relu(operation):
            return operation.from_relu(self.relus[state], weight)
        if has_weights(operation):
            return weight * operation(self.states[state])
        if (state, index) not in self.shared:
            self.shared[state, index] = operation(self.states[state])
        return weight * self.shared[state, index]


def shares_relu(operation: nn.Module) -> TypeGuard[ReLUConvBN]:
    """Whether the operation is its ReLU, body and norm by turns; what inherits from it may be something else."""
    return type(operation) is ReLUConvBN and type(operation.norm) is BatchNorm


def has_weights(operation: nn.Module) -> bool:
    """Whether the operation has parameters or buffers of its own, so that it gives another result on each edge."""
    return any(True for _ in chain(operation.parameters(), operation.buffers()))


def cached(cache: Cache | None, compute: Callable[[Any, Any], Any], module: nn.Module, argument: Any) -> Any:
    """compute(module, argument); where there is a cache, the first result of the module, kept in it."""
    if cache is None:
        return compute(module, argument)
    if module not in cache:
        cache[module] = compute(module, argument)
    return cache[module]


class ConcatReLU(torch.autograd.Function):
    """A cell's output after the ReLU that follows it: relu of its nodes (b, C, h, w) side by side, (b, B C, h, w).

    Each node is read and written once, and gets a dense gradient: kernels are slow on slices of a concatenation.
    """

    @staticmethod
    def forward(ctx: Any, *nodes: Tensor) -> Tensor:
        """The output, channels last."""
        batch, channels, height, width = nodes[0].shape
        if nodes[0].device.type == "cpu":
            shape = batch, len(nodes) * channels, height, width
            dtype = functools.reduce(torch.promote_types, (node.dtype for node in nodes))
            output = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
            for node, part in zip(nodes, output.chunk(len(nodes), 1), strict=True):
                torch.clamp_min(node.to(dtype), 0, out=part)
        else:
            output = torch.cat(nodes, 1).clamp_min_(0)
        ctx.save_for_backward(output)
        ctx.dtypes = [node.dtype for node in nodes]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Of each node."""
        (output,) = ctx.saved_tensors
        parts = zip(gradient.chunk(len(ctx.dtypes), 1), output.chunk(len(ctx.dtypes), 1), ctx.dtypes, strict=True)
        return tuple(torch.ops.aten.threshold_backward(part, active, 0).to(dtype) for part, active, dtype in parts)


def pooled(nodes: Sequence[Tensor], norm: BatchNorm | None = None) -> Tensor:
    """The last cell's nodes (b, C, h, w), averaged over the image: (b, B C); with a norm, after it and a ReLU.

    Adaptive pooling is not deterministic on CUDA.
    """
    if norm is None:
        return torch.cat([node.mean((2, 3)) for node in nodes], dim=1)
    return F.relu(norm(torch.cat(list(nodes), dim=1))).mean((2, 3))
