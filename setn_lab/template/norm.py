"""Batch normalization with the statistics of the batch.

torch's kernels for channels-last images on the CPU work along the channels of one pixel, and the template has few. Here
neighbouring pixels are taken together as one pixel of up to `WIDTH` channels, whose statistics are merged afterwards;
what remains of normalizing is x * scale + shift by channel, which can go straight into a sum.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5  # torch's own
WIDTH = 64
LEAST = 2**20  # values, below which torch's kernel takes less time than the small tensors of merging
aten = torch.ops.aten


class Scaled(NamedTuple):
    """The tensor x * scale + shift that is not computed yet: x (b, C, h, w), scale and shift (C,).

    spare: whether x may be overwritten.
    """

    x: Tensor
    scale: Tensor
    shift: Tensor
    spare: bool = False


class BatchNorm(nn.BatchNorm2d):
    """The template's batch norm, which takes a factor.

    It reads the statistics of the batch in training and in evaluation. One operation serves many candidates, so running
    averages would belong to none: there are none, unless `collect` is called to score one candidate. It is not affine:
    a learned scale could undo the mixing weights of Eq. 10.
    """

    def __init__(self, channels: int, overwrite: bool = False) -> None:
        """overwrite: whether the tensor that is normalized may be overwritten, where it needs no gradient."""
        super().__init__(channels, EPSILON, affine=False, track_running_stats=False, momentum=None)
        self.overwrite = overwrite

    def collect(self, device: torch.device) -> None:
        """Average the statistics of the batches that follow in training mode, for use in evaluation mode."""
        self.track_running_stats = True
        self.running_mean = torch.zeros(self.num_features, device=device)
        self.running_var = torch.ones(self.num_features, device=device)
        self.num_batches_tracked = torch.tensor(0, device=device)

    def forget(self) -> None:
        """Back to the statistics of the batch."""
        self.track_running_stats = False
        self.running_mean = self.running_var = self.num_batches_tracked = None

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """(b, C, h, w), normalised per channel, times the scalar `factor`."""
        if factor is None:
            if self._of_batch(x) and not torch.is_grad_enabled():
                return normalize(x, overwrite=self.overwrite)[0]
            return super().forward(x)
        return F.batch_norm(x, None, None, _each(factor, x), None, training=True, eps=self.eps)

    def scaled(self, x: Tensor) -> Tensor | Scaled:
        """`forward`, if possible left for `add_up` to compute; for use without gradients."""
        if self._of_batch(x):
            mean, inv_std = moments(x)
            return Scaled(x, inv_std, -mean * inv_std)
        return self(x)

    def _of_batch(self, x: Tensor) -> bool:
        return self.running_mean is None and suits(x)


def add_up(terms: Sequence[Tensor | Scaled]) -> Tensor:
    """The sum of tensors (b, C, h, w), which are left as they are, but for a spare one, with which it begins. Without a
    gradient where one of them is `Scaled`.
    """
    scaled = [term for term in terms if isinstance(term, Scaled)]
    plain = [term for term in terms if not isinstance(term, Scaled)]
    if not scaled:
        result, *rest = plain
        for term in rest:
            result = result + term
        return result
    first, *others = sorted(scaled, key=lambda term: not term.spare)
    shift = by_channel(torch.stack([term.shift for term in scaled]).sum(0))
    result = torch.addcmul(shift, first.x, by_channel(first.scale), out=first.x if first.spare else None)
    for other in others:
        result.addcmul_(other.x, by_channel(other.scale))
    for term in plain:
        result.add_(term)
    return result


def suits(x: Tensor) -> bool:
    """Whether `moments`, and what is built on it, are for such a tensor; torch's own kernels are for all others."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() >= LEAST
        and x.numel() > x.shape[1]  # one value a channel is refused by torch
    )


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of x (b, C, h, w) the mean and 1 / the standard deviation, each (C,)."""
    wide = _wide(x)
    means, variances = aten.batch_norm_update_stats(wide, None, None, 0.0)
    if wide is x:
        return means, variances.add_(EPSILON).rsqrt_()
    between, mean = torch.var_mean(means.view(-1, x.shape[1]), 0, correction=0)
    within = variances.view(-1, x.shape[1]).mean(0)
    return mean, within.add_(between).add_(EPSILON).rsqrt_()


def normalize(x: Tensor, factor: Tensor | None = None, overwrite: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) * inv_std, times the scalar `factor`, and mean and inv_std (C,), see `moments`.

    For any tensor (b, C, h, w); has no gradient.
    """
    if not suits(x):
        scale = None if factor is None else _each(factor, x)
        return torch.native_batch_norm(x, scale, None, None, None, True, 0.0, EPSILON)
    mean, inv_std = moments(x)
    scale = inv_std if factor is None else inv_std * factor
    result = torch.addcmul(by_channel(-mean * scale), x, by_channel(scale), out=x if overwrite else None)
    return result, mean, inv_std


class NodeSum:
    """A sum of weighed tensors (b, C, h, w), normalized or not; has no gradient.

    What normalizing subtracts by channel is gathered and added once, in the end.
    """

    def __init__(self) -> None:
        self.total: Any = None
        self.shift: Any = None

    def add(self, x: Tensor, factor: Tensor) -> None:
        """Adds x times `factor`, a scalar or one by channel (C, 1, 1); x is left as it is."""
        factor = factor.to(x.dtype)
        self.total = x * factor if self.total is None else self.total.addcmul_(x, factor)

    def add_normalized(self, x: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Adds `normalize(x, factor)`; returns the mean and inv_std of x (C,)."""
        if not suits(x):
            result, mean, inv_std = normalize(x, factor)
            self.total = result if self.total is None else self.total.add_(result)
            return mean, inv_std
        mean, inv_std = moments(x)
        scale = inv_std * factor
        self.add(x, by_channel(scale))
        self.shift = mean * scale if self.shift is None else self.shift.addcmul_(mean, scale)
        return mean, inv_std

    def result(self) -> Tensor:
        """The sum."""
        return self.total if self.shift is None else self.total.sub_(by_channel(self.shift))


def gradients(
    gradient: Tensor, x: Tensor, factor: Tensor | None, mean: Tensor, inv_std: Tensor, through: bool = True
) -> tuple[Tensor | None, Tensor]:
    """The gradients of x (None unless `through`) and, channel by channel (C,), of `factor`, from that of the result of
    `normalize`.
    """
    if not suits(x):
        scale = torch.ones_like(inv_std) if factor is None else _each(factor, x)
        wanted = [through, True, False]
        result = aten.native_batch_norm_backward(gradient, x, scale, None, None, mean, inv_std, True, EPSILON, wanted)
        return result[0] if through else None, result[1]
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    channels, wide = x.shape[1], _wide(x)
    together = wide.shape[1] // channels
    repeated = [part.repeat(together) if together > 1 else part for part in (mean, inv_std)]
    _, products, sums = aten.native_batch_norm_backward(
        _wide(gradient), wide, repeated[1], None, None, *repeated, True, EPSILON, [False, True, True]
    )
    if together > 1:
        products, sums = products.view(-1, channels).sum(0), sums.view(-1, channels).sum(0)
    if not through:
        return None, products
    count = x.numel() // channels
    scale = inv_std if factor is None else inv_std * factor
    slope = scale * inv_std * products / -count
    constant = -(slope * mean).addcmul_(scale, sums, value=1 / count)
    of_x = torch.addcmul(by_channel(constant), x, by_channel(slope))
    return of_x.addcmul_(gradient, by_channel(scale)), products


def by_channel(values: Tensor) -> Tensor:
    """(C,) as what is broadcast over images (b, C, h, w)."""
    return values[:, None, None]


def _each(factor: Tensor, x: Tensor) -> Tensor:
    """The factor as a batch norm's scale. Contiguous: the backward pass of torch's CPU kernel is wrong, and not
    reproducible, on an expanded one.
    """
    return factor.expand(x.shape[1]).contiguous()


def _wide(x: Tensor) -> Tensor:
    """Channels-last images (b, C, h, w) as (b, C k, h, w / k), a view: k neighbouring pixels of a row side by side."""
    batch, channels, height, width = x.shape
    together = 1
    while width % (2 * together) == 0 and 2 * together * channels <= WIDTH:
        together *= 2
    if together == 1:
        return x
    pixels = x.permute(0, 2, 3, 1).view(batch, height, width // together, channels * together)
    return pixels.permute(0, 3, 1, 2)
