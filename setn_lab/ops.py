"""The candidate operations, one module each: C channels in, C channels out, stride 1 or 2.

An operation with weights is ReLU, convolutions, batch norm. It has one method beside `forward`, for the mixed
pass: `activated(active, factor)` starts from active = relu(x), which all operations on one input share, and
multiplies the result by a scalar inside the batch norm, so that no weighted copy of it is ever written.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab.batch_norm import BatchNorm


class Convolution(nn.Module):
    """An operation with weights: ReLU, the `body`, batch norm."""

    def __init__(self, body: nn.Module, channels: int, affine: bool) -> None:
        super().__init__()
        self.body = body
        self.norm = BatchNorm(channels, affine, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) to (b, channels, ceil(h/stride), ceil(w/stride))."""
        return self.activated(F.relu(x))

    def activated(self, active: Tensor, factor: Tensor | None = None) -> Tensor:
        """The same from active = relu(x), times the scalar `factor`."""
        result = self.body(active)
        return self.norm(result) if factor is None else self.norm(result, factor)


class ShiftedPair(nn.Module):
    """Halves the resolution by two 1x1 convolutions of stride 2, the second one pixel further, side by side.

    An odd number of output channels is split as C//2 and C - C//2.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) to (b, outputs, ceil(h/2), ceil(w/2))."""
        height, width = x.shape[2:]
        shifted = F.pad(every_second(x, 1), (0, width % 2, 0, height % 2))  # an odd side gets one more zero
        return torch.cat([self.even(x), F.conv2d(shifted, self.odd.weight)], dim=1)


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

    def __init__(self, kind: str, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, C, ceil(h/stride), ceil(w/stride))."""
        if self.kind == "max":
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


class TemplatePool(Pool):
    """The same values by faster ways on the CPU, whose own pooling is slow on channels-last images.

    Final networks do not take it, since the convolution would count as multiply-adds of theirs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, C, ceil(h/stride), ceil(w/stride))."""
        if x.device.type != "cpu":
            return super().forward(x)
        if self.kind == "avg":
            window, ones = x.new_ones(x.shape[1], 1, 3, 3), x.new_ones(1, 1, *x.shape[2:])
            count = F.conv2d(ones, window[:1], stride=self.stride, padding=1)  # fewer than 9 at the border
            return F.conv2d(x, window, stride=self.stride, padding=1, groups=x.shape[1]).div_(count)
        if torch.is_grad_enabled():
            return super().forward(x)
        return _of_three(_of_three(x, 3, self.stride), 2, self.stride)  # along the rows, then the columns


def _of_three(x: Tensor, side: int, stride: int) -> Tensor:
    """The maximum of every stride-th pixel and its two neighbours along one side; has no gradient."""
    pixels = x.movedim(side, 0)
    centres, before, after = pixels[::stride], pixels[stride - 1 :: stride], pixels[1::stride]
    shape = [len(centres) if dimension == side else size for dimension, size in enumerate(x.shape)]
    result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    first, rest = result.movedim(side, 0).split((1, len(centres) - 1))
    first.copy_(centres[:1])
    torch.maximum(centres[1:], before[: len(rest)], out=rest)
    with_after = result.movedim(side, 0)[: len(after)]
    torch.maximum(with_after, after, out=with_after)
    return result


def pointwise_conv(inputs: int, outputs: int, affine: bool) -> Convolution:
    """ReLU, a 1x1 convolution, batch norm."""
    return Convolution(nn.Conv2d(inputs, outputs, 1, bias=False), outputs, affine)


def normal_conv(inputs: int, outputs: int, kernel: int, stride: int, affine: bool) -> Convolution:
    """ReLU, a dense convolution, batch norm."""
    body = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return Convolution(body, outputs, affine)


def factorized_reduction(inputs: int, outputs: int, affine: bool) -> Convolution:
    """ReLU, a `ShiftedPair`, batch norm: the stride-2 form of a 1x1 convolution and of the skip connection."""
    return Convolution(ShiftedPair(inputs, outputs), outputs, affine)


def separable_conv(channels: int, kernel: int, stride: int, affine: bool) -> Convolution:
    """ReLU, depthwise, pointwise, batch norm, applied twice; the first depthwise has the stride."""
    body = nn.Sequential(
        depthwise(channels, kernel, stride),
        nn.Conv2d(channels, channels, 1, bias=False),
        BatchNorm(channels, affine, inplace=True),
        nn.ReLU(inplace=True),
        depthwise(channels, kernel, 1),
        nn.Conv2d(channels, channels, 1, bias=False),
    )
    return Convolution(body, channels, affine)


def dilated_conv(channels: int, kernel: int, stride: int, affine: bool) -> Convolution:
    """ReLU, a depthwise convolution with dilation 2, pointwise, batch norm: applied once."""
    body = nn.Sequential(depthwise(channels, kernel, stride, dilation=2), nn.Conv2d(channels, channels, 1, bias=False))
    return Convolution(body, channels, affine)


def row_column_conv(channels: int, kernel: int, stride: int, affine: bool) -> Convolution:
    """ReLU, dense 1xk with stride (1, s), dense kx1 with stride (s, 1), one batch norm."""
    half = kernel // 2
    body = nn.Sequential(
        nn.Conv2d(channels, channels, (1, kernel), (1, stride), padding=(0, half), bias=False),
        nn.Conv2d(channels, channels, (kernel, 1), (stride, 1), padding=(half, 0), bias=False),
    )
    return Convolution(body, channels, affine)


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    """A depthwise convolution that keeps the size at stride 1."""
    padding = dilation * (kernel // 2)
    module = SkippingDepthwise if stride == dilation == 2 else nn.Conv2d
    return module(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)


def build(name: str, channels: int, stride: int, affine: bool) -> nn.Module:
    """The module of one operation of the search spaces, C channels to C channels. Raises KeyError if unknown.

    affine: as in a final network. Without it, as in the template, a batch norm follows the pools too: sums of
    pooled states that nothing normalizes grow with depth, and the template then hardly learns.
    """
    match name:
        case "max_pool_3x3" | "avg_pool_3x3":
            if affine:
                return Pool(name[:3], stride)
            return nn.Sequential(TemplatePool(name[:3], stride), BatchNorm(channels, affine))
        case "skip_connect":
            return nn.Identity() if stride == 1 else factorized_reduction(channels, channels, affine)
        case "none":
            return Zero(stride)
        case "sep_conv_3x3" | "sep_conv_5x5" | "sep_conv_7x7":
            return separable_conv(channels, int(name[-1]), stride, affine)
        case "dil_conv_3x3" | "dil_conv_5x5":
            return dilated_conv(channels, int(name[-1]), stride, affine)
        case "conv_3x1_1x3" | "conv_7x1_1x7":
            return row_column_conv(channels, int(name[-1]), stride, affine)
        case "nor_conv_1x1" | "nor_conv_3x3":
            return normal_conv(channels, channels, int(name[-1]), stride, affine)
    raise KeyError(f"no module implements the operation {name!r}")


def initialize(module: nn.Module, rng: np.random.Generator) -> None:
    """Fill every parameter from `rng`: weights uniform within 1/sqrt(fan in), as torch does; norms at (1, 0), their
    averages at (0, 1).

    The draws do not depend on the device, and the global random generator is not touched.
    """
    for part in module.modules():
        if isinstance(part, BatchNorm) and part.affine:
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
            part.reset_running_stats()
        elif isinstance(part, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(part.weight[0].numel())
            for parameter in part.parameters(recurse=False):
                values = rng.uniform(-bound, bound, tuple(parameter.shape))
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(values))
