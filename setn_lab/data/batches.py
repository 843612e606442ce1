"""Batches of an image set: their order, augmentation, normalization.

`batch_indices` says which images, `ImageSet.take` gathers them, and `augment` or `normalize_images` makes the float
batch, none of them waiting for the device.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from setn_lab.compute.device import to_device
from setn_lab.compute.streams import generator
from setn_lab.data.folders import DataError
from setn_lab.data.images import ImageSet


@dataclass(frozen=True, eq=False)
class Normalization:
    """Per-channel mean and standard deviation (float32 [c]) of pixels scaled to 0..1."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, images: ImageSet) -> "Normalization":
        """Measure a set; the population standard deviation, at least one grey level (1/255).

        The floor keeps a constant channel from dividing by zero.
        """
        level = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        # A histogram is exact and needs no float copy of the images, which would be four times their size.
        for channel in images.images.unbind(dim=3):
            share = torch.bincount(channel.flatten(), minlength=256).cpu().double() / channel.numel()
            mean.append((share * level).sum())
            std.append((share * (level - mean[-1]) ** 2).sum().sqrt().clamp(min=1 / 255))
        device = images.images.device
        return cls(torch.stack(mean).float().to(device), torch.stack(std).float().to(device))

    def to(self, device: torch.device | str) -> "Normalization":
        """The same numbers on `device`."""
        return Normalization(self.mean.to(device), self.std.to(device))


@dataclass(frozen=True)
class Augmentation:
    """How `augment` changes training images; raises DataError on a negative length.

    padding: black pixels added on each side before a random crop, 0 is off; flip: mirror left-right with probability
    1/2; cutout: side in pixels of the square that is zeroed, 0 is off; crop: side of the crop in pixels, None: that of
    the images.
    """

    padding: int
    flip: bool
    cutout: int
    crop: int | None = None

    def __post_init__(self) -> None:
        """Refuse negative lengths."""
        for name, value in (("padding", self.padding), ("cutout", self.cutout)):
            if value < 0:
                raise DataError(f"{name}: {value} given. Pass a number of pixels, 0 to switch it off.")


def normalize_images(images_u8: Tensor, normalization: Normalization) -> Tensor:
    """Scale to 0..1 and normalize: uint8 [b, h, w, c] -> float32 [b, c, h, w], channels last in memory.

    Raises DataError if the normalization is for another number of channels.
    """
    given, measured = images_u8.shape[3], len(normalization.mean)
    if given != measured:  # one channel would broadcast to three without a word
        raise DataError(
            f"normalization: measured on {measured} channels, but the images have {given}. "
            "Measure it on images of the same data set, Normalization.of(images)."
        )
    batch, height, width, channels = images_u8.shape
    # Whole rows at a time, each with its scale and shift: loops over the few channels alone are slow.
    scale = (1 / (255 * normalization.std)).repeat(width)
    shift = (-normalization.mean / normalization.std).repeat(width)
    rows = images_u8.reshape(batch, height, width * channels).float().mul_(scale).add_(shift)
    # a view: channels last is the memory order that it already has
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def centre(images_u8: Tensor, side: int | None) -> Tensor:
    """The square of that side in the middle of uint8 [b, h, w, c], a view; None: all of it.

    Of an odd number of pixels left over, the smaller part is above and on the left.
    """
    if side is None:
        return images_u8
    top, left = ((whole - side) // 2 for whole in images_u8.shape[1:3])
    return images_u8[:, top : top + side, left : left + side]


def augment(
    images_u8: Tensor, normalization: Normalization, augmentation: Augmentation, *rngs: np.random.Generator
) -> Tensor:
    """Crop, flip, normalize, cut out: uint8 [b, h, w, c] -> float32 [b, c, h, w], channels last in memory.

    With a crop of side s the results have h = w = s. The padding is black before normalizing. The cutout square is
    zeroed after normalizing (it is the mean colour); its centre, the pixel at side // 2 from its first row and column,
    is uniform over the crop's pixels and the part that lies outside is lost (DeVries & Taylor's code).

    Each generator draws for an equal share of the images, in order, so that several batches can be made at once.
    All its draws are one call, rng.random((5, b)), with one row each for the crop's top and left (times the number of
    its places, 2 * padding + 1 if it is as large as the image), the flip (from 1/2 on), the cutout's centre row and
    column (times the crop's h, w), rounded down. They are made whatever is switched off, so that a switch does not
    change what the others draw.

    Raises DataError if the normalization is for another number of channels, or the images cannot be shared equally.
    """
    batch, rows, columns, _ = images_u8.shape
    height, width = (rows, columns) if augmentation.crop is None else (augmentation.crop, augmentation.crop)
    if not rngs or batch % len(rngs):
        raise DataError(f"rngs: {len(rngs)} generators given for {batch} images. Pass one, or as many as divide them.")
    padding, side, device = augmentation.padding, augmentation.cutout, images_u8.device
    ranges = np.array([rows - height + 2 * padding + 1, columns - width + 2 * padding + 1, 2, height, width])
    uniform = np.concatenate([rng.random((5, batch // len(rngs))) for rng in rngs], axis=1)
    draws = torch.from_numpy((uniform * ranges[:, None]).astype(np.int64))
    # Five [b, 1] columns from one copy; the draws of a batch are its only transfer to the device.
    top, left, mirrored, centre_row, centre_column = to_device(draws, device)[:, :, None].unbind()
    image = torch.arange(batch, device=device)
    padded = F.pad(images_u8, (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)  # [b, top, left, h, w, c]
    cropped = windows[image, top[:, 0], left[:, 0]]  # [b, h, w, c], copied in whole rows
    if augmentation.flip:
        mirror = cropped.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1)  # torch flips channels-last images fast
        cropped = torch.cat([cropped, mirror]).index_select(0, image + batch * mirrored[:, 0])
    pixels = normalize_images(cropped, normalization)
    if side:
        row, column = torch.arange(height, device=device), torch.arange(width, device=device)
        first_row, first_column = centre_row - side // 2, centre_column - side // 2
        in_rows = (row >= first_row) & (row < first_row + side)  # [b, h]
        in_columns = (column >= first_column) & (column < first_column + side)  # [b, w]
        pixels.masked_fill_((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)
    return pixels


def batch_indices(count: int, batch_size: int, seed: int, stream: str, step: int) -> Tensor:
    """The images of global step `step` (from 0): int64 [batch_size], on the host.

    The steps run through endless passes, each a fresh permutation of `count` images drawn from
    generator(seed, stream, pass). A pass has count // batch_size batches; what is left over is dropped.

    Raises DataError: batch_size below 1 or above `count`, or a negative step.
    """
    if batch_size < 1:
        raise DataError(f"batch_size: {batch_size} given. Pass at least 1.")
    if count < batch_size:
        raise DataError(
            f"batch_size: {batch_size} given, but there are only {count} images, not one full batch. "
            f"Pass a batch_size of at most {count}, or use more images (a larger limit or data set)."
        )
    if step < 0:
        raise DataError(f"step: {step} given. Steps count from 0.")
    pass_number, batch = divmod(step, count // batch_size)
    order = _permutation(count, seed, stream, pass_number)
    return order[batch * batch_size : (batch + 1) * batch_size].clone()  # the caller must not hold the cache


def scoring_batches(count: int, batch_size: int) -> list[Tensor]:
    """All of `count` images in order, in the fewest batches of at most `batch_size`; sizes differ by at most 1."""
    return list(torch.arange(count).tensor_split(-(-count // batch_size)))


@functools.lru_cache(maxsize=8)  # a search interleaves a few streams; each needs its current pass only
def _permutation(count: int, seed: int, stream: str, pass_number: int) -> Tensor:
    return torch.from_numpy(generator(seed, stream, pass_number).permutation(count))
