"""Image sets as uint8 tensors on the device: loading, the search split, batch order, augmentation.

A set of CIFAR's size (184 MB) fits on the device whole, so a step needs no loader: `batch_indices` says
which images, `ImageSet.take` gathers them, and `augment` or `prepare` makes the float batch, none of them
waiting for the device. Images stay channels last ([n, h, w, c]) from the decoder to the network.
"""

import difflib
import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from setn_lab.folders import DataError, load_folder
from setn_lab.streams import generator

BUILT_IN = ("digits", "cifar10", "cifar100")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images and their labels, on one device.

    images: uint8 [n, h, w, c] (channels last, h = w, c is 1 or 3); labels: int64 [n], each the position of
    the image's class in `classes`.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    @property
    def image_size(self) -> int:
        """The side of the images in pixels."""
        return self.images.shape[1]

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.images.shape[3]

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same set on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, indices: Tensor) -> "ImageSet":
        """The images at `indices` (int64 [m], on the host or on the device), in that order, as a copy."""
        indices = to_device(indices, self.images.device)
        return replace(self, images=self.images.index_select(0, indices), labels=self.labels[indices])


def load(dataset: str, data_dir: str | None = None, split: str = "train", cache_dir: Path | None = None) -> ImageSet:
    """Load one split of a data set into host memory.

    dataset: `digits` (scikit-learn's 1,797 grey 8 x 8 images, every fifth one is the test split), `cifar10`,
    `cifar100`, or a folder (`~` allowed) that holds `<split>/<class>/*` images of one square size. A folder
    whose images are all grey has one channel; otherwise all become RGB (transparency is dropped). Hidden
    files and files with other extensions are ignored; classes and files are in the order of their names.
    data_dir: where CIFAR lies or is downloaded to on first use; the other data sets do not use it.
    cache_dir: where the decoded images of a folder are kept. Both default to $SETN_LAB_CACHE, or
    $XDG_CACHE_HOME/setn_lab, or ~/.cache/setn_lab.
    split: `train` or `test`, for a folder any sub-folder's name.

    Raises DataError: unknown data set or split, no network, unreadable, mixed or non-square images, fewer
    than two classes, a class without images.
    """
    cache = Path(cache_dir) if cache_dir is not None else _default_cache()
    if dataset not in BUILT_IN:
        return _load_folder(dataset, split, cache)
    if split not in ("train", "test"):
        raise DataError(f"split: {split!r} given; {dataset} has 'train' and 'test'. Pass one of them.")
    if dataset == "digits":
        return _load_digits(split)
    return _load_cifar(dataset, Path(os.path.expanduser(data_dir)) if data_dir else cache, split)


def search_split(
    images: ImageSet,
    train_fraction: float,
    seed: int,
    limit_train: int | None = None,
    limit_valid: int | None = None,
) -> tuple[ImageSet, ImageSet]:
    """Split the training images at random into D_train and D_val of Algorithm 1.

    D_train holds round(n * train_fraction) images, D_val the others. A limit keeps the first images of its
    part; one larger than the part keeps them all. The permutation does not depend on fraction or limits.

    Raises DataError: train_fraction not in (0, 1), a limit below 1, or a part without images.
    """
    if not 0 < train_fraction < 1:
        raise DataError(
            f"train_fraction: {train_fraction} given, but both parts need images. "
            "Pass a number greater than 0 and less than 1, such as the paper's 0.5."
        )
    for name, limit in (("limit_train", limit_train), ("limit_valid", limit_valid)):
        if limit is not None and limit < 1:
            raise DataError(f"{name}: {limit} given. Pass at least 1, or None to keep all images.")
    count = round(len(images) * train_fraction)
    if not 0 < count < len(images):
        raise DataError(
            f"train_fraction: {train_fraction} of {len(images)} images leaves {count} for training and "
            f"{len(images) - count} for validation; both need at least one. Pass a fraction nearer to 0.5."
        )
    order = torch.from_numpy(generator(seed, "search split").permutation(len(images)))
    return images.take(order[:count][:limit_train]), images.take(order[count:][:limit_valid])


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

    padding: black pixels added on each side before a random crop of the old size, 0 is off; flip: mirror
    left-right with probability 1/2; cutout: side in pixels of the square that is zeroed, 0 is off.
    """

    padding: int
    flip: bool
    cutout: int

    def __post_init__(self) -> None:
        """Refuse negative lengths."""
        for name, value in (("padding", self.padding), ("cutout", self.cutout)):
            if value < 0:
                raise DataError(f"{name}: {value} given. Pass a number of pixels, 0 to switch it off.")


def prepare(images_u8: Tensor, normalization: Normalization) -> Tensor:
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


def augment(
    images_u8: Tensor, normalization: Normalization, augmentation: Augmentation, *rngs: np.random.Generator
) -> Tensor:
    """Crop, flip, normalize, cut out: uint8 [b, h, w, c] -> float32 [b, c, h, w], channels last in memory.

    The padding is black before normalizing. The cutout square is zeroed after normalizing (it is the mean
    colour); its centre, the pixel at side // 2 from its first row and column, is uniform over the image's
    pixels and the part that lies outside is lost (DeVries & Taylor's code).

    Each generator draws for an equal share of the images, in order, so that several batches can be made at once.
    All its draws are one call, rng.random((5, b)), with one row each for the crop's top and left (times
    2 * padding + 1), the flip (from 1/2 on), the cutout's centre row and column (times h, w), rounded
    down. They are made whatever is switched off, so that a switch does not change what the others draw.

    Raises DataError if the normalization is for another number of channels, or the images cannot be shared equally.
    """
    batch, height, width, _ = images_u8.shape
    if not rngs or batch % len(rngs):
        raise DataError(f"rngs: {len(rngs)} generators given for {batch} images. Pass one, or as many as divide them.")
    padding, side, device = augmentation.padding, augmentation.cutout, images_u8.device
    ranges = np.array([2 * padding + 1, 2 * padding + 1, 2, height, width])
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
    pixels = prepare(cropped, normalization)
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


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy without waiting: from pageable memory even a `non_blocking` copy to CUDA may block."""
    if tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _default_cache() -> Path:
    chosen = os.environ.get("SETN_LAB_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen))
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "setn_lab"


def _load_digits(split: str) -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    levels = digits.images.astype(np.int64)  # 0..16, whole numbers
    images = ((levels * 255 + 8) // 16).astype(np.uint8)[..., None]  # level * 255/16, to nearest, half up
    held_out = np.arange(len(images)) % 5 == 4
    chosen = held_out if split == "test" else ~held_out
    labels = torch.from_numpy(digits.target[chosen].astype(np.int64))
    return ImageSet(torch.from_numpy(images[chosen]), labels, tuple(map(str, digits.target_names)))


def _load_cifar(dataset: str, root: Path, split: str) -> ImageSet:
    from torchvision import datasets

    kind, archive = {
        "cifar10": (datasets.CIFAR10, "cifar-10-python.tar.gz"),
        "cifar100": (datasets.CIFAR100, "cifar-100-python.tar.gz"),
    }[dataset]
    try:
        cifar: Any = kind(str(root), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:  # a URLError is an OSError; a wrong MD5 is a RuntimeError
        raise DataError(
            f"dataset: {dataset!r} is not in {root} and could not be downloaded or unpacked there ({error}). "
            f"Put {archive} from {kind.url} into {root}, or pass as data_dir the folder that holds it, "
            "or pass as dataset a folder of images, <split>/<class>/*."
        ) from error
    images = torch.from_numpy(np.ascontiguousarray(cifar.data))
    return ImageSet(images, torch.tensor(cifar.targets, dtype=torch.int64), tuple(cifar.classes))


def _load_folder(dataset: str, split: str, cache: Path) -> ImageSet:
    folder = Path(os.path.expanduser(dataset))
    if not dataset or not folder.is_dir():
        near = difflib.get_close_matches(dataset.lower(), BUILT_IN, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        hint = " It is a file: unpack it and pass the folder." if folder.is_file() else hint
        raise DataError(
            f"dataset: {dataset!r} is neither {', '.join(map(repr, BUILT_IN))} nor a folder of images "
            f"(<split>/<class>/*).{hint}"
        )
    images, labels, classes = load_folder(folder, split, cache)
    return ImageSet(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64), classes)
