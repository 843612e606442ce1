"""Eq. 10 with the template's weights as constants: the pass that the evaluator's update takes on the CPU.

The numbers are those of `Template.mixed` up to rounding. It is faster by what it need not keep or compute:

- A convolution with constant weights keeps nothing: its backward pass is its adjoint, another convolution. A batch
  norm keeps its input and two numbers a channel, a ReLU its result. So an operation keeps one tensor, or three with a
  second batch norm, where autograd keeps two or five, and the working set stays near the processor.
- No gradient is computed for an input that nothing trainable lies behind, such as the stem's output.

An operation that is no chain of the linear maps below and batch norms is left to autograd.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from setn_lab.network.operations import FactorizedReduce, SkippingDepthwise, Zero
from setn_lab.template.cell import Cell, has_weights, shares_relu
from setn_lab.template.norm import BatchNorm, NodeSum, gradients, normalize

aten = torch.ops.aten
Linear = nn.Conv2d | FactorizedReduce


class FrozenMixing:
    """`Cell.mixed_states` of each cell of a template whose weights do not require gradients; made once for a template.

    Called, it gives the template's logits, as `Template.mixed` does.
    """

    def __init__(self, template: Any) -> None:
        self.template = template
        self.cells = [_FrozenCell(cell) for cell in template.cells]

    def __call__(self, images: Tensor, weights: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, c, h, w), with weights (cell types, edges, |O|) for each operation."""
        return self.template.mixed(images, weights, self.cells)


class _FrozenCell:
    """The mixed pass of one cell."""

    def __init__(self, cell: Cell) -> None:
        self.edges = [
            [[chain_of(operation) or operation for operation in edge] for edge in node] for node in cell.edges
        ]

    def __call__(self, inputs: list[Tensor], weights: Tensor) -> list[Tensor]:
        """The states of the cell, as `Cell.mixed_states` gives them."""
        return [*inputs, *_MixedCell.apply(self.edges, weights, *inputs)]


@dataclass(frozen=True)
class Chain:
    """An operation with weights, after its ReLU: stages of linear maps, each stage followed by a batch norm.

    Between two stages there is a ReLU; the last batch norm is multiplied by the mixing weight.
    """

    stages: list[list[Linear]]

    def forward(self, active: Tensor, factor: Tensor, node: NodeSum) -> list[Any]:
        """Adds to `node` the operation's result from active = relu(state), times `factor`; what `backward` needs."""
        tape: list[Any] = []
        for number, stage in enumerate(self.stages, 1):
            x, sizes = active, []
            for linear in stage:
                sizes.append(x.shape)
                x = _apply(linear, x)
            if number < len(self.stages):
                active, mean, inv_std = normalize(x)
                tape.append((x, mean, inv_std, sizes, active.relu_()))
            else:
                tape.append((x, *node.add_normalized(x, factor), sizes, None))
        return tape

    def backward(
        self, gradient: Tensor, factor: Tensor, tape: list[Any], through: bool
    ) -> tuple[Tensor | None, Tensor]:
        """The gradients of `active` (None unless `through`) and of `factor`, from that of the result."""
        result: Any
        x, mean, inv_std, sizes, _ = tape.pop()
        result, products = gradients(gradient, x, factor, mean, inv_std, through)
        if not through:
            return None, products.sum()
        result = _adjoint_all(self.stages[-1], result, sizes)
        for stage in reversed(self.stages[:-1]):
            x, mean, inv_std, sizes, active = tape.pop()
            result, _ = gradients(_masked(result, active), x, None, mean, inv_std)
            result = _adjoint_all(stage, result, sizes)
        return result, products.sum()


def chain_of(operation: nn.Module) -> Chain | None:
    """The operation as a chain; None where it is none, so that nothing of it is passed over in silence.

    It is one where it is ReLU, linear maps without bias, the template's batch norm, and so on by turns.
    """
    if not shares_relu(operation):
        return None
    body = list(operation.body) if type(operation.body) is nn.Sequential else [operation.body]
    stages: list[list[Any]] = [[]]
    for place, part in enumerate(body):
        if type(part) is BatchNorm and place + 1 < len(body) and type(body[place + 1]) is nn.ReLU:
            stages.append([])
        elif type(part) is nn.ReLU and place > 0 and type(body[place - 1]) is BatchNorm:
            continue
        elif _is_linear(part):
            stages[-1].append(part)
        else:
            return None
    return Chain(stages) if all(stages) else None


def _is_linear(part: nn.Module) -> bool:
    """Whether `_apply` and `_adjoint` know the map."""
    if type(part) in (FactorizedReduce, SkippingDepthwise):
        return True
    if (
        type(part) is not nn.Conv2d
        or part.bias is not None
        or part.padding_mode != "zeros"
        or isinstance(part.padding, str)
    ):
        return False
    keeps_size = all(
        kernel % 2 == 1 and padding == dilation * (kernel // 2)
        for kernel, padding, dilation in zip(part.kernel_size, part.padding, part.dilation, strict=True)
    )
    depthwise = part.groups == part.in_channels == part.out_channels
    dense_or_strided = part.dilation == (1, 1) or part.stride == (1, 1)
    return keeps_size and (part.groups == 1 or depthwise) and dense_or_strided


class _MixedCell(torch.autograd.Function):
    """`Cell.mixed_states` with a backward pass of its own: edges, weights (edges, |O|), inputs to the nodes."""

    @staticmethod
    def forward(ctx: Any, edges: list[Any], weights: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        states = list(inputs)
        relus: list[Tensor] = []  # of each state, shared by all operations that start with it
        recorded: list[
            dict[Any, tuple[Tensor, Tensor]]
        ] = []  # by state: input and result of what autograd goes through
        tapes = []
        edge = iter(weights)
        for node in edges:
            total = NodeSum()
            for state, operations in enumerate(node):
                if state == len(relus):
                    relus.append(F.relu(states[state]))
                    recorded.append({})
                factors = next(edge)
                for index, operation in enumerate(operations):
                    if isinstance(operation, Chain):
                        tapes.append(operation.forward(relus[state], factors[index], total))
                    elif not isinstance(operation, Zero):
                        key = _key(operation, index)
                        if key not in recorded[state]:
                            recorded[state][key] = _record(operation, states[state])
                        total.add(recorded[state][key][1].detach(), factors[index])
            states.append(total.result())
        ctx.edges, ctx.recorded, ctx.tapes, ctx.inputs = edges, recorded, tapes, len(inputs)
        ctx.save_for_backward(weights, *states)
        return tuple(state.detach() for state in states[len(inputs) :])  # what is kept must not be the outputs: a cycle

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_nodes: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.tapes is None:
            raise RuntimeError("a second backward pass through the same mixed pass: the first has freed its results")
        weights, *states = ctx.saved_tensors
        tapes, ctx.tapes = ctx.tapes, None
        gradient = _StateGradients(states, ctx.recorded, of_nodes)
        through = [*ctx.needs_input_grad[2:], *[True] * len(of_nodes)]
        of_weights: list[Tensor] = []  # in reverse order
        edge = len(weights)
        for number in reversed(range(len(ctx.edges))):
            node, incoming = ctx.edges[number], gradient.whole(number + ctx.inputs)
            for state in reversed(range(len(node))):
                edge -= 1
                for index in reversed(range(len(node[state]))):
                    operation, factor = node[state][index], weights[edge, index]
                    if isinstance(operation, Chain):
                        part, of_factor = operation.backward(incoming, factor, tapes.pop(), through[state])
                        if part is not None:
                            gradient.add_to_relu(state, part)
                    elif isinstance(operation, Zero):
                        of_factor = weights.new_zeros(())
                    else:
                        key = _key(operation, index)
                        of_factor = _dot(ctx.recorded[state][key][1].detach(), incoming)
                        if through[state]:
                            gradient.add_to_result(state, key, incoming, factor)
                    of_weights.append(of_factor)
        of_inputs = [gradient.whole(state) if through[state] else None for state in range(ctx.inputs)]
        return None, torch.stack(of_weights[::-1]).view_as(weights).to(weights.dtype), *of_inputs


class _StateGradients:
    """The gradient of each state, as its parts come in: of the state, of its ReLU, of what autograd goes through."""

    def __init__(self, states: list[Tensor], recorded: list[dict[Any, tuple[Tensor, Tensor]]], of_nodes: Any) -> None:
        self.states, self.recorded = states, recorded
        # changed in place below: `ConcatReLU` and the mean make each of them anew, for this cell alone
        dense = [part.contiguous(memory_format=torch.channels_last) for part in of_nodes]
        self.of_state: list[Any] = [None] * (len(states) - len(dense)) + dense
        self.of_relu: list[Any] = [None] * len(states)
        self.of_result: list[dict[Any, Any]] = [{} for _ in states]

    def add_to_relu(self, state: int, part: Tensor) -> None:
        self.of_relu[state] = _plus(self.of_relu[state], part)

    def add_to_result(self, state: int, key: Any, part: Tensor, factor: Tensor) -> None:
        self.of_result[state][key] = _plus_product(self.of_result[state].get(key), part, factor)

    def whole(self, state: int) -> Any:
        """The whole gradient of a state, once all nodes that read it have been passed."""
        total = self.of_state[state]
        parts = [] if self.of_relu[state] is None else [_masked(self.of_relu[state], self.states[state])]
        for key, part in self.of_result[state].items():
            x, result = self.recorded[state][key]
            parts.append(part if x is result else torch.autograd.grad(result, x, part)[0])
        for part in parts:
            total = _plus(total, part)
        self.of_state[state] = self.of_relu[state] = None
        self.of_result[state] = {}
        return total


def _key(operation: nn.Module, index: int) -> Any:
    """Edges share the result of an operation without weights, the index-th of each edge; others have their own."""
    return operation if has_weights(operation) else index


def _masked(gradient: Tensor, state: Tensor) -> Tensor:
    """The gradient of a state before its ReLU, in place."""
    return aten.threshold_backward.grad_input(gradient, state, 0, grad_input=gradient)


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    """total + part, in place where there is a total."""
    return part if total is None else total.add_(part)


def _plus_product(total: Tensor | None, part: Tensor, factor: Tensor) -> Tensor:
    """total + part * factor, in place where there is a total."""
    factor = factor.to(part.dtype)
    return part * factor if total is None else total.addcmul_(part, factor)


def _record(operation: nn.Module, state: Tensor) -> tuple[Tensor, Tensor]:
    """The result of an operation that is no chain, with its own small graph: (input, result)."""
    if isinstance(operation, nn.Identity):
        return state, state
    with torch.enable_grad():
        x = state.detach().requires_grad_(True)
        return x, operation(x)


def _apply(linear: Linear, x: Tensor) -> Tensor:
    if isinstance(linear, FactorizedReduce):
        return linear(x)
    return F.conv2d(x, linear.weight.to(x.dtype), None, linear.stride, linear.padding, linear.dilation, linear.groups)


def _adjoint_all(stage: list[Linear], gradient: Tensor, sizes: list[torch.Size]) -> Tensor:
    for linear, size in zip(reversed(stage), reversed(sizes), strict=True):
        gradient = _adjoint(linear, gradient, size)
    return gradient


def _adjoint(linear: Linear, gradient: Tensor, size: torch.Size) -> Tensor:
    """The gradient of a linear map's input, of that size, from that of its output."""
    if isinstance(linear, FactorizedReduce):
        even, odd = gradient.split((linear.even.out_channels, linear.odd.out_channels), dim=1)
        result = _zeros(gradient, size)
        height, width = size[2] // 2, size[3] // 2  # of the shifted grid; an odd side was padded for it
        result[:, :, ::2, ::2] = F.conv2d(even, linear.even.weight.to(even.dtype).transpose(0, 1))
        shifted = F.conv2d(odd, linear.odd.weight.to(odd.dtype).transpose(0, 1))
        result[:, :, 1::2, 1::2] = shifted[:, :, :height, :width]
        return result
    weight, half = linear.weight.to(gradient.dtype), [side // 2 for side in linear.kernel_size]
    if isinstance(linear, SkippingDepthwise):
        result = _zeros(gradient, size)
        result[:, :, ::2, ::2] = F.conv2d(gradient, weight.flip(2, 3), None, 1, half, 1, linear.groups)
        return result
    if linear.stride == (1, 1):  # of odd kernels that keep the size: a convolution with the kernel turned round
        turned = weight if linear.kernel_size == (1, 1) else weight.flip(2, 3)
        turned = turned if linear.groups > 1 else turned.transpose(0, 1)
        return F.conv2d(gradient, turned, None, 1, linear.padding, linear.dilation, linear.groups)
    rest = [  # rows and columns at the end that the stride leaves out
        side - stride * (small - 1) - 1
        for side, small, stride in zip(size[2:], gradient.shape[2:], linear.stride, strict=True)
    ]
    return F.conv_transpose2d(gradient, weight, None, linear.stride, half, rest, linear.groups)


def _zeros(like: Tensor, size: torch.Size) -> Tensor:
    """Channels last from the start: `contiguous` afterwards would be slower than all that fills them."""
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last).zero_()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b, both channels last, without writing the product."""
    return torch.dot(a.permute(0, 2, 3, 1).reshape(-1), b.permute(0, 2, 3, 1).reshape(-1))
