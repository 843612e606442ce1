"""Eq. 10 with the template's weights as constants: the pass that the evaluator's update takes.

The numbers are those of `Template.mixed` up to rounding. It is faster by what it need not keep or compute:

- A convolution with constant weights keeps nothing: its backward pass is its adjoint, another convolution. A batch
  norm keeps its input and two numbers a channel, a ReLU its result. So an operation keeps one tensor, or three with a
  second batch norm, where autograd keeps two or five, and the working set stays near the processor.
- No gradient is computed for an input that nothing trainable lies behind, such as the stem's output.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from setn_lab import ops
from setn_lab.batch_norm import BatchNorm, NodeSum, gradients, normalize
from setn_lab.template import Joined, Template, TemplateCell, pooled

aten = torch.ops.aten
Linear = nn.Conv2d | ops.ShiftedPair


class ConstantMixing:
    """`Template.mixed` for a template whose weights do not require gradients; made once, called each step."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.cells = [_chains(cell) for cell in template.cells]

    def __call__(self, images: Tensor, weights: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, c, h, w), with weights (2, edges, |O|) for each operation (Eq. 10)."""
        template = self.template
        before = previous = template.stem(images).relu_()
        for index, (spot, cell, chains) in enumerate(zip(template.plan, template.cells, self.cells, strict=True)):
            states = cell.preprocess0.activated(before), cell.preprocess1.activated(previous)
            nodes = _MixedCell.apply(chains, *states, weights[spot.kind])
            if index < len(self.cells) - 1:
                before, previous = previous, Joined.apply(*nodes)
        return template.classifier(pooled(nodes))


@dataclass(frozen=True)
class _Chain:
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
                active, mean, deviation = normalize(x)
                tape.append((x, mean, deviation, sizes, active.relu_()))
            else:
                tape.append((x, *node.add_normalized(x, factor), sizes, None))
        return tape

    def backward(
        self, gradient: Tensor, factor: Tensor, tape: list[Any], through: bool
    ) -> tuple[Tensor | None, Tensor]:
        """The gradients of `active` (None unless `through`) and of `factor`, from that of the result."""
        result: Any
        x, mean, deviation, sizes, _ = tape.pop()
        result, products = gradients(gradient, x, factor, mean, deviation, through)
        if not through:
            return None, products.sum()
        result = _adjoint_all(self.stages[-1], result, sizes)
        for stage in reversed(self.stages[:-1]):
            x, mean, deviation, sizes, active = tape.pop()
            result, _ = gradients(_masked(result, active), x, None, mean, deviation)
            result = _adjoint_all(stage, result, sizes)
        return result, products.sum()


def _chains(cell: TemplateCell) -> list[list[list[_Chain | nn.Module]]]:
    """The operations of a cell as `edges[node][state][operation]`; those without weights as they are."""
    return [
        [[_chain(module) if isinstance(module, ops.Convolution) else module for module in edge] for edge in node]
        for node in cell.edges
    ]


def _chain(operation: ops.Convolution) -> _Chain:
    stages: list[list[Any]] = [[]]
    for part in operation.body if isinstance(operation.body, nn.Sequential) else [operation.body]:
        if isinstance(part, BatchNorm):
            stages.append([])
        elif not isinstance(part, nn.ReLU):
            stages[-1].append(part)
    return _Chain(stages)


class _MixedCell(torch.autograd.Function):
    """One cell of Eq. 10, `TemplateCell.mixed` after its preprocessing, with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, chains: list[Any], state0: Tensor, state1: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        states = [state0, state1]
        active: list[Tensor] = []  # relu of each state, shared by all operations that start with it
        shared: list[dict[int, tuple[Tensor, Tensor]]] = []  # input and result of the operations without weights
        tapes = []
        edge = iter(weights)
        for node in chains:
            total = NodeSum()
            for state, operations in enumerate(node):
                if state == len(active):
                    active.append(F.relu(states[state]))
                    shared.append({})
                factors = next(edge)
                for index, operation in enumerate(operations):
                    if isinstance(operation, _Chain):
                        tapes.append(operation.forward(active[state], factors[index], total))
                    else:
                        if index not in shared[state]:
                            shared[state][index] = _recorded(operation, states[state])
                        total.add(shared[state][index][1].detach(), factors[index])
            states.append(total.result())
        ctx.chains, ctx.shared, ctx.tapes = chains, shared, tapes
        ctx.save_for_backward(weights, *states)
        return tuple(state.detach() for state in states[2:])  # what is kept must not be the outputs: a cycle

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_nodes: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.tapes is None:
            raise RuntimeError("a second backward pass through the same mixed pass: the first has freed its results")
        weights, *states = ctx.saved_tensors
        tapes, ctx.tapes = ctx.tapes, None
        shared = ctx.shared
        through = [ctx.needs_input_grad[1], ctx.needs_input_grad[2], *[True] * len(of_nodes)]
        # changed in place below: `Joined` and the mean make each of them anew, for this cell alone
        dense = [part.contiguous(memory_format=torch.channels_last) for part in of_nodes]
        summed: list[Any] = [None, None, *dense]  # the gradient of each state, as its parts come
        active: list[Any] = [None] * len(states)  # of relu of each state
        results: list[dict[int, Any]] = [{} for _ in states]  # of the shared results of each state
        of_weights: list[Tensor] = []  # in reverse order
        edge = len(weights)

        def close(state: int) -> Any:
            """The whole gradient of a state, once all nodes that read it have been passed."""
            total = summed[state]
            parts = [] if active[state] is None else [_masked(active[state], states[state])]
            for index, part in results[state].items():
                x, result = shared[state][index]
                parts.append(part if x is result else torch.autograd.grad(result, x, part)[0])
            for part in parts:
                total = _plus(total, part)
            summed[state] = active[state] = None
            results[state] = {}
            return total

        for number in reversed(range(len(ctx.chains))):
            node, incoming = ctx.chains[number], close(number + 2)
            for state in reversed(range(len(node))):
                edge -= 1
                for index in reversed(range(len(node[state]))):
                    operation, factor = node[state][index], weights[edge, index]
                    if isinstance(operation, _Chain):
                        part, of_factor = operation.backward(incoming, factor, tapes.pop(), through[state])
                        if part is not None:
                            active[state] = _plus(active[state], part)
                    else:
                        of_factor = _dot(shared[state][index][1].detach(), incoming)
                        if through[state]:
                            results[state][index] = _plus_product(results[state].get(index), incoming, factor)
                    of_weights.append(of_factor)
        of_states = [close(state) if through[state] else None for state in (0, 1)]
        return None, *of_states, torch.stack(of_weights[::-1]).view_as(weights).to(weights.dtype)


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


def _recorded(operation: nn.Module, state: Tensor) -> tuple[Tensor, Tensor]:
    """The result of an operation without weights, with its own small graph: (input, result)."""
    if isinstance(operation, nn.Identity):
        return state, state
    with torch.enable_grad():
        x = state.detach().requires_grad_(True)
        return x, operation(x)


def _apply(linear: Linear, x: Tensor) -> Tensor:
    if isinstance(linear, ops.ShiftedPair):
        return linear(x)
    return F.conv2d(x, linear.weight.to(x.dtype), None, linear.stride, linear.padding, linear.dilation, linear.groups)


def _adjoint_all(stage: list[Linear], gradient: Tensor, sizes: list[torch.Size]) -> Tensor:
    for linear, size in zip(reversed(stage), reversed(sizes), strict=True):
        gradient = _adjoint(linear, gradient, size)
    return gradient


def _adjoint(linear: Linear, gradient: Tensor, size: torch.Size) -> Tensor:
    """The gradient of a linear map's input, of that size, from that of its output."""
    if isinstance(linear, ops.ShiftedPair):
        even, odd = gradient.split((linear.even.out_channels, linear.odd.out_channels), dim=1)
        result = _zeros(gradient, size)
        height, width = size[2] // 2, size[3] // 2  # of the shifted grid; an odd side was padded for it
        result[:, :, ::2, ::2] = F.conv2d(even, linear.even.weight.to(even.dtype).transpose(0, 1))
        shifted = F.conv2d(odd, linear.odd.weight.to(odd.dtype).transpose(0, 1))
        result[:, :, 1::2, 1::2] = shifted[:, :, :height, :width]
        return result
    weight, half = linear.weight.to(gradient.dtype), [side // 2 for side in linear.kernel_size]
    if isinstance(linear, ops.SkippingDepthwise):
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
