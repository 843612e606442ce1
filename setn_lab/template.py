"""The template network: every candidate of the search space, its weights shared by all of them.

Weights belong to one (cell, node, input, operation). Two ways through them:
- `Template.sampled` (Eq. 1) follows one architecture and touches only what it uses;
- `Template.mixed` (Eq. 10) weighs every operation on every input by the evaluator's probabilities.

The macro-structure is that of the discrete network for CIFAR, see `macro`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from setn_lab import ops
from setn_lab.batch_norm import Scaled, total
from setn_lab.macro import CellPlan, edge_stride, plan, preprocessing, stem
from setn_lab.space import INPUTS, SearchSpace, Space

Results = dict[nn.Module, Any]


def recall(known: Results | None, compute: Callable[[Any, Any], Any], module: nn.Module, argument: Any) -> Any:
    """compute(module, argument); if there is a dictionary `known`, the first result of the module, kept in it."""
    if known is None:
        return compute(module, argument)
    if module not in known:
        known[module] = compute(module, argument)
    return known[module]


def _stem(module: nn.Module, images: Tensor) -> Tensor:
    return module(images).relu_()


class Joined(torch.autograd.Function):
    """A cell's output after the ReLU that follows it: relu of its nodes (b, C, h, w) side by side, (b, B C, h, w).

    Each node is read and written once, and gets a dense gradient: kernels are slow on slices of a concatenation.
    """

    @staticmethod
    def forward(ctx: Any, *nodes: Tensor) -> Tensor:
        """The output, channels last."""
        batch, channels, height, width = nodes[0].shape
        if nodes[0].device.type == "cpu":
            shape = batch, len(nodes) * channels, height, width
            kind = functools.reduce(torch.promote_types, (node.dtype for node in nodes))
            output = torch.empty(shape, dtype=kind, memory_format=torch.channels_last)
            for node, part in zip(nodes, output.chunk(len(nodes), 1), strict=True):
                torch.clamp_min(node.to(kind), 0, out=part)
        else:
            output = torch.cat(nodes, 1).clamp_min_(0)
        ctx.save_for_backward(output)
        ctx.kinds = [node.dtype for node in nodes]
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Of each node."""
        (output,) = ctx.saved_tensors
        parts = zip(gradient.chunk(len(ctx.kinds), 1), output.chunk(len(ctx.kinds), 1), ctx.kinds, strict=True)
        return tuple(torch.ops.aten.threshold_backward(part, active, 0).to(kind) for part, active, kind in parts)


def pooled(nodes: Sequence[Tensor]) -> Tensor:
    """The last cell's output, averaged over the image: (b, B C). Adaptive pooling is not deterministic on CUDA."""
    return torch.cat([node.mean((2, 3)) for node in nodes], dim=1)


class Operations(nn.Module):
    """All operations on all edges of one cell, in whichever space: `edges[node][state][operation]`."""

    edges: Any  # nested ModuleLists, whose elements type checkers cannot know

    def __init__(self, space: Space, channels: int, strides: Callable[[int], int]) -> None:
        """strides: the stride of the operations on a state."""
        super().__init__()
        self.space = space
        self.edges = nn.ModuleList(
            nn.ModuleList(
                nn.ModuleList(ops.build(name, channels, strides(state), affine=False) for name in space.operations)
                for state in range(space.inputs(node))
            )
            for node in range(space.nodes)
        )

    def sampled_states(
        self, states: list[Tensor], cell: np.ndarray, keep: Tensor | None, known: Sequence[Results | None]
    ) -> list[Tensor]:
        """Eq. 1: the cell's inputs `states` and then its nodes' sums, for one architecture of this cell.

        `keep` (B, slots, b) is the path dropout of the operations of each node, one factor a sample; None is none.
        The identity is never dropped. `known`: what is known of each input, see `recall`.
        """
        active: dict[int, Tensor] = {}  # relu of the states that operations start with
        lazy = keep is None and not torch.is_grad_enabled()  # normalizing goes into the node's sum

        def result(module: Any, state: int) -> Tensor | Scaled:
            body: Any
            norm: Any
            if isinstance(module, ops.Convolution):
                if state not in active:
                    active[state] = F.relu(states[state])
                body, norm, x = module.body, module.norm, active[state]
            elif isinstance(module, nn.Sequential):  # a pool
                body, norm, x = module[0], module[1], states[state]
            else:
                return module(states[state])
            return norm.scaled(body(x)) if lazy else norm(body(x))

        for node, chosen in enumerate(self.space.terms(cell)):
            terms: list[Any] = []
            for slot, (operation, state) in enumerate(chosen):
                module = self.edges[node][state][operation]
                if isinstance(module, ops.Zero) and (terms or slot + 1 < len(chosen)):
                    continue
                memory = known[state] if state < len(known) else None
                term = recall(memory, result, module, state)
                if isinstance(term, Scaled) and memory is None:
                    term = term._replace(spare=True)
                if keep is not None and not isinstance(module, nn.Identity):
                    term = term * keep[node, slot, :, None, None, None]
                terms.append(term)
            states.append(total(terms))  # H_i = f1(I1) + f2(I2)
        return states

    def mixed_states(self, states: list[Tensor], weights: Tensor) -> list[Tensor]:
        """Eq. 10: the same with `weights` (edges, |O|), the factor of each operation on each edge."""
        active: list[Tensor] = []  # relu of each state, shared by all operations that start with it
        shared: list[dict[int, Tensor]] = []  # results without weights of their own, the same on every edge
        edge = iter(weights)
        for node in self.edges:
            mixture: Any = None
            for state, operations in enumerate(node):
                if state == len(active):
                    active.append(F.relu(states[state]))
                    shared.append({})
                factors = next(edge)
                for index, module in enumerate(operations):
                    if isinstance(module, ops.Zero):
                        continue
                    if isinstance(module, ops.Convolution):
                        term = module.activated(active[state], factors[index])
                    else:
                        if index not in shared[state]:
                            shared[state][index] = module(states[state])
                        term = factors[index] * shared[state][index]
                    mixture = term if mixture is None else mixture.add_(term)  # in place: no copy per term
            states.append(mixture)
        return states


class TemplateCell(Operations):
    """A cell of the paper's space: two inputs, brought to its size, and all nodes as its output."""

    def __init__(self, space: Space, cell: CellPlan) -> None:
        super().__init__(space, cell.channels, lambda state: edge_stride(cell.kind, state))
        edges = self._modules.pop("edges")
        self.preprocess0, self.preprocess1 = preprocessing(cell, affine=False)
        self.edges = edges  # last: the order of a cell's parts is that in which its weights are drawn

    def sampled(
        self,
        before: Tensor,
        previous: Tensor,
        quadruples: np.ndarray,
        keep: Tensor | None,
        known: tuple[Results | None, Results | None] = (None, None),
    ) -> list[Tensor]:
        """The nodes by Eq. 1 for one architecture: quadruples (B, 4), from `before` and `previous` after their ReLU.

        keep: (B, 2, b). known: what is known of `before` and of `previous`.
        """
        states = [
            recall(known[0], ops.Convolution.activated, self.preprocess0, before),
            recall(known[1], ops.Convolution.activated, self.preprocess1, previous),
        ]
        return self.sampled_states(states, quadruples, keep, known)[INPUTS:]

    def mixed(self, before: Tensor, previous: Tensor, weights: Tensor) -> list[Tensor]:
        """The nodes by Eq. 10 with `weights` (edges, |O|), see `evaluator.mix`; from the same."""
        states = [self.preprocess0.activated(before), self.preprocess1.activated(previous)]
        return self.mixed_states(states, weights)[INPUTS:]


class Template(nn.Module):
    """The weight-sharing network of a search space, for images of `image_channels` and `num_classes` classes.

    Weights are filled from `rng` alone. They are kept channels-last, the layout in which depthwise convolutions
    are fast on every device.
    """

    cells: Any  # a ModuleList of TemplateCells

    def __init__(
        self,
        space: SearchSpace,
        channels: int,
        repeats: int,
        image_channels: int,
        num_classes: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        self.space = space
        with torch.device("meta"):  # modules are laid out without drawing weights from the global generator
            self.plan = plan(channels, repeats, (space.nodes, space.nodes))
            self.stem = stem(image_channels, channels, affine=False)
            self.cells = nn.ModuleList(TemplateCell(space, cell) for cell in self.plan)
            self.classifier = nn.Linear(space.nodes * self.plan[-1].channels, num_classes)
        self.to_empty(device="cpu")
        ops.initialize(self, rng)
        self.to(memory_format=torch.channels_last)

    def sampled(
        self, images: Tensor, quadruples: np.ndarray, keep: Tensor | None = None, known: Results | None = None
    ) -> Tensor:
        """Logits (b, classes) of one architecture per cell (Eq. 1).

        images: (b, c, h, w), normalised. quadruples: (cells, B, 4), one architecture for each cell of the
        network. keep: path dropout factors (cells, B, 2, b), or None. known: an empty dictionary, to be passed again
        with the next architectures on the same images, which takes up the results on the stem's output (the first
        cell's two inputs and the second's first one): they are the same for all, up to the order of sums. For use
        without gradients and without `keep`.
        """
        before = previous = recall(known, _stem, self.stem, images)
        for index, cell in enumerate(self.cells):
            of_stem = INPUTS - index  # so many of the cell's inputs are the stem's output
            nodes = cell.sampled(
                before,
                previous,
                quadruples[index],
                None if keep is None else keep[index],
                (known if of_stem > 0 else None, known if of_stem > 1 else None),
            )
            if index < len(self.cells) - 1:
                before, previous = previous, Joined.apply(*nodes)  # the next two cells read it after a ReLU
        return self.classifier(pooled(nodes))

    def mixed(self, images: Tensor, weights: Tensor) -> Tensor:
        """Logits (b, classes) with every operation weighed (Eq. 10).

        images: (b, c, h, w), normalised. weights: (2, edges, |O|), normal cells first.
        """
        before = previous = self.stem(images).relu_()
        for index, (spot, cell) in enumerate(zip(self.plan, self.cells, strict=True)):
            nodes = cell.mixed(before, previous, weights[spot.kind])
            if index < len(self.cells) - 1:
                before, previous = previous, Joined.apply(*nodes)
        return self.classifier(pooled(nodes))

    def per_cell(self, quadruples: np.ndarray) -> np.ndarray:
        """One architecture (2, B, 4), a normal and a reduction cell, as the (cells, B, 4) that `sampled` takes."""
        return quadruples[[spot.kind for spot in self.plan]]
