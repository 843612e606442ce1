"""The operations as the template has them: not affine, and a batch norm behind the pools.

Sums of pooled states that nothing normalizes grow with depth, and the template then hardly learns. Pools take faster
ways on the CPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab.network.operations import Pool, build_operation
from setn_lab.template.norm import BatchNorm


def template_operation(name: str, channels: int, stride: int) -> nn.Module:
    """The module of one operation in the template, C channels to C channels. Raises KeyError for an unknown name."""
    module = build_operation(name, channels, stride, BatchNorm)
    return PoolBN(TemplatePool(module.mode, stride), channels) if type(module) is Pool else module


class PoolBN(nn.Module):
    """A pool and a batch norm."""

    def __init__(self, pool: Pool, channels: int) -> None:
        super().__init__()
        self.pool, self.norm = pool, BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, C, ceil(h/stride), ceil(w/stride))."""
        return self.norm(self.pool(x))


class TemplatePool(Pool):
    """The same values by faster ways on the CPU, whose own pooling is slow on channels-last images.

    Final networks do not take it, since the convolution would count as multiply-adds of theirs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) to (b, C, ceil(h/stride), ceil(w/stride))."""
        if x.device.type != "cpu":
            return super().forward(x)
        if self.mode == "avg":
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
