"""The candidate operations (section 3), one module each: C channels in, C channels out, stride 1 or 2.

`FACTORIES` has a function for each name: (channels, stride, norm) to a module. `norm` makes the batch norms: affine
ones with running averages in final networks (`affine_norm`), those of `template.norm` in the template. Another
operation joins by `kits.register_operation`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]  # of so many channels
Factory = Callable[[int, int, Norm], nn.Module]


def affine_norm(channels: int) -> nn.Module:
    """The batch norm of final networks: affine, with running averages."""
    return nn.BatchNorm2d(channels)


class ReLUConvBN(nn.Module):
    """An operation with weights: ReLU, the `body`, batch norm.

    The parts are for those who can share the ReLU among operations that read the same state: `from_relu`.
    """

    def __init__(self, body: nn.Module, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = body
        self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) to (b, channels, ceil(h/stride), ceil(w/stride))."""
        return self.from_relu(F.relu(x))

    def from_relu(self, active: Tensor, factor: Tensor | None = None) -> Tensor:
        """The same from active = relu(x); with the template's batch norm, times the scalar `factor`."""
        result = self.body(active)
        return self.norm(result) if factor is None else self.norm(result, factor)


class FactorizedReduce(nn.Module):
    """Halves the resolution by two 1x1 convolutions of stride 2, the second one pixel further, side by side.

    An odd number of output channels is split as C//2 and C - C//2.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = StridedPointwise(inputs, outputs // 2)
        self.odd = StridedPointwise(inputs, outputs - outputs // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) to (b, outputs, ceil(h/2), ceil(w/2))."""
        height, width = x.shape[2:]
        shifted = F.pad(every_second(x, 1), (0, width % 2, 0, height % 2))  # an odd side gets one more zero
        return torch.cat([self.even(x), F.conv2d(shifted, self.odd.weight)], dim=1)


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution of stride 2: of every second pixel, at stride 1.

    The backward pass of oneDNN's own kernel for channels-last images writes beyond its memory where there are fewer
    than 16 input channels (oneDNN #6035): the process dies, or its gradients are wrong.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) to (b, outputs, ceil(h/2), ceil(w/2))."""
        return F.conv2d(every_second(x, 0), self.weight)


class SkippingDepthwise(nn.Conv2d):
    """A depthwise convolution with dilation 2 and stride 2, which reads every second pixel and no other.

    Of those it is a plain depthwise convolution, for which there are kernels; torch has none for the gradients of one
    that is both dilated and strided.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, C, ceil(h/2), ceil(w/2))."""
        half = self.kernel_size[0] // 2
        return F.conv2d(every_second(x, 0), self.weight, None, 1, half, 1, self.groups)


def every_second(x: Tensor, first: int) -> Tensor:
    """The pixels first, first + 2, ... along both sides of (b, C, h, w), a view.

    Sliced as (b, h, w, C): so the gradient is channels last too. torch makes that of a slice in the order of its
    dimensions, and adding tensors of different layouts is slow.
    """
    return x.permute(0, 2, 3, 1)[:, first::2, first::2].permute(0, 3, 1, 2)


class Pool(nn.Module):
    """3x3 pooling, maximum or average; the average leaves the padding out."""

    def __init__(self, mode: str, stride: int) -> None:
        super().__init__()
        if mode not in ("max", "avg"):
            raise ValueError(f"mode: {mode!r} given; 'max' or 'avg' is allowed")
        self.mode, self.stride = mode, stride

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, C, ceil(h/stride), ceil(w/stride))."""
        if self.mode == "max":
            return F.max_pool2d(x, 3, self.stride, padding=1)
        return F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=False)


class Zero(nn.Module):
    """Nothing: the `none` of older genotypes."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to zeros (b, C, ceil(h/stride), ceil(w/stride))."""
        return (x if self.stride == 1 else every_second(x, 0)) * 0


def pointwise_conv(inputs: int, outputs: int, norm: Norm) -> ReLUConvBN:
    """ReLU, a 1x1 convolution, batch norm."""
    return ReLUConvBN(nn.Conv2d(inputs, outputs, 1, bias=False), outputs, norm)


def normal_conv(inputs: int, outputs: int, kernel: int, stride: int, norm: Norm) -> ReLUConvBN:
    """ReLU, a dense convolution, batch norm."""
    if kernel == 1 and stride == 2:
        return ReLUConvBN(StridedPointwise(inputs, outputs), outputs, norm)
    return ReLUConvBN(nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), outputs, norm)


def factorized_reduction(inputs: int, outputs: int, norm: Norm) -> ReLUConvBN:
    """ReLU, a `FactorizedReduce`, batch norm: the stride-2 form of a 1x1 convolution and of the skip connection."""
    return ReLUConvBN(FactorizedReduce(inputs, outputs), outputs, norm)


def separable_conv(channels: int, kernel: int, stride: int, norm: Norm) -> ReLUConvBN:
    """ReLU, depthwise, pointwise, batch norm, applied twice; the first depthwise has the stride."""
    body = nn.Sequential(
        depthwise(channels, kernel, stride),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
        nn.ReLU(inplace=True),
        depthwise(channels, kernel, 1),
        nn.Conv2d(channels, channels, 1, bias=False),
    )
    return ReLUConvBN(body, channels, norm)


def dilated_conv(channels: int, kernel: int, stride: int, norm: Norm) -> ReLUConvBN:
    """ReLU, a depthwise convolution with dilation 2, pointwise, batch norm: applied once."""
    body = nn.Sequential(depthwise(channels, kernel, stride, dilation=2), nn.Conv2d(channels, channels, 1, bias=False))
    return ReLUConvBN(body, channels, norm)


def row_column_conv(channels: int, kernel: int, stride: int, norm: Norm) -> ReLUConvBN:
    """ReLU, dense 1xk with stride (1, s), dense kx1 with stride (s, 1), one batch norm."""
    half = kernel // 2
    body = nn.Sequential(
        nn.Conv2d(channels, channels, (1, kernel), (1, stride), padding=(0, half), bias=False),
        nn.Conv2d(channels, channels, (kernel, 1), (stride, 1), padding=(half, 0), bias=False),
    )
    return ReLUConvBN(body, channels, norm)


def skip_connection(channels: int, stride: int, norm: Norm) -> nn.Module:
    """The identity; a factorized reduction at stride 2."""
    return nn.Identity() if stride == 1 else factorized_reduction(channels, channels, norm)


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    """A depthwise convolution that keeps the size at stride 1."""
    padding = dilation * (kernel // 2)
    module = SkippingDepthwise if stride == dilation == 2 else nn.Conv2d
    return module(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)


FACTORIES: dict[str, Factory] = {
    "max_pool_3x3": lambda channels, stride, norm: Pool("max", stride),
    "avg_pool_3x3": lambda channels, stride, norm: Pool("avg", stride),
    "skip_connect": skip_connection,
    "none": lambda channels, stride, norm: Zero(stride),
    "sep_conv_3x3": lambda channels, stride, norm: separable_conv(channels, 3, stride, norm),
    "sep_conv_5x5": lambda channels, stride, norm: separable_conv(channels, 5, stride, norm),
    "sep_conv_7x7": lambda channels, stride, norm: separable_conv(channels, 7, stride, norm),
    "dil_conv_3x3": lambda channels, stride, norm: dilated_conv(channels, 3, stride, norm),
    "dil_conv_5x5": lambda channels, stride, norm: dilated_conv(channels, 5, stride, norm),
    "conv_3x1_1x3": lambda channels, stride, norm: row_column_conv(channels, 3, stride, norm),
    "conv_7x1_1x7": lambda channels, stride, norm: row_column_conv(channels, 7, stride, norm),
    "nor_conv_1x1": lambda channels, stride, norm: normal_conv(channels, channels, 1, stride, norm),
    "nor_conv_3x3": lambda channels, stride, norm: normal_conv(channels, channels, 3, stride, norm),
}


def build_operation(name: str, channels: int, stride: int, norm: Norm = affine_norm) -> nn.Module:
    """The module of one operation, C channels to C channels, by default as in a final network.

    Raises KeyError for a name that has no factory.
    """
    if name not in FACTORIES:
        raise KeyError(f"no module implements the operation {name!r}")
    return FACTORIES[name](channels, stride, norm)


def initialize(module: nn.Module, rng: np.random.Generator) -> None:
    """Fill every parameter from `rng`: weights uniform within 1/sqrt(fan in), as torch does; norms at (1, 0), their
    averages at (0, 1).

    The draws do not depend on the device, and the global random generator is not touched. A module of another kind
    that holds parameters or buffers fills them by a method `initialize(rng)`. Raises TypeError where it has none.
    """
    for part in module.modules():
        own: list[Any] = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        fill: Any = getattr(part, "initialize", None)
        if fill is not None:
            fill(rng)
        elif isinstance(part, nn.BatchNorm2d):
            if part.affine:
                nn.init.ones_(part.weight)
                nn.init.zeros_(part.bias)
            if part.track_running_stats:
                part.reset_running_stats()
        elif isinstance(part, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(part.weight[0].numel())
            for parameter in part.parameters(recurse=False):
                values = rng.uniform(-bound, bound, tuple(parameter.shape))
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(values))
        elif own:
            raise TypeError(
                f"{type(part).__name__} holds parameters or buffers that nothing fills: convolutions, linear layers "
                "and batch norms are filled here; give the class a method initialize(rng) that fills its own"
            )
