"""Images of any size in a folder, brought to one square size: in memory, or decoded as they are taken.

Which of the two is a question of memory alone: the pixels are the same, bit by bit, however many processes decode.
"""

import contextlib
import itertools
import os
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from setn_lab.compute.device import to_device
from setn_lab.data.batches import batch_indices
from setn_lab.data.folders import list_images, range_notice, read_square
from setn_lab.data.images import ImageSet, load_images, resolve_dataset
from setn_lab.data.pixels import GREY_16_BIT, NO_16_BITS, has_deep_colour, measured_pixels, opened

CHANNELS = 3  # images of any size are colours
LOOKED_AT = 32  # images whose levels are looked at before a training
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images and their labels, as `ImageSet` offers them, whose pixels are decoded each time that they are read.

    paths: of their files; labels: int64 [n], on the device; side: in pixels, see `pixels.to_square`. workers: processes
    that decode for a `stream`.
    """

    paths: Sequence[Path]
    labels: Tensor
    classes: tuple[str, ...]
    side: int
    image_range: int | None
    workers: int

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    @property
    def image_size(self) -> int:
        """The side of the images in pixels."""
        return self.side

    @property
    def channels(self) -> int:
        """3: all are colours."""
        return CHANNELS

    @property
    def size(self) -> int:
        """Bytes that the decoded images take."""
        return len(self) * self.side**2 * CHANNELS

    @property
    def images(self) -> Tensor:
        """The pixels, uint8 [n, side, side, 3], decoded now, in this process. Raises DataError for a bad file."""
        squares = _Squares(self)
        return to_device(torch.stack([squares[index] for index in range(len(self))]), self.labels.device)

    def to(self, device: torch.device | str) -> "ImageFiles":
        """The same images, decoded onto `device`."""
        return replace(self, labels=self.labels.to(device))

    def take(self, indices: Tensor) -> "ImageFiles":
        """Those at `indices` (int64 [m], on the host), in that order; nothing is decoded yet."""
        chosen = [self.paths[index] for index in indices.tolist()]
        return replace(self, paths=chosen, labels=self.labels[to_device(indices, self.labels.device)])

    def stream(self, batches: Iterable[Tensor]) -> Generator[ImageSet, None, None]:
        """The decoded images of each of the batches, `workers` processes decoding the next ones meanwhile.

        There may be endlessly many. To be closed, or read to its end: the workers end with it.
        """
        ahead, given = itertools.tee(batches)
        device = self.labels.device
        loader = read_ahead(_Squares(self), (indices.tolist() for indices in ahead), self.workers)
        for pixels, indices in zip(loader, given, strict=True):
            yield ImageSet(to_device(pixels, device), self.labels[to_device(indices, device)], self.classes)


Images = ImageSet | ImageFiles


class _Squares(Dataset[Tensor]):
    """The pixels of files, uint8 [side, side, 3]; without the labels, which may be on a device."""

    def __init__(self, files: ImageFiles) -> None:
        self.paths, self.side, self.image_range = files.paths, files.side, files.image_range

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(read_square(self.paths[index], self.side, self.image_range)[0].copy())


def load_any_size(
    dataset: str, resize: int, image_range: int | None, memory: float, workers: int, split: str = "train"
) -> Images:
    """The images of a folder's split, of any size: an ImageSet, or ImageFiles where it would take more than `memory`.

    resize, image_range: as `load_images` says. memory: in GiB. Raises what it raises, bad files but where they are
    read; warns of files that are left out, and of an image_range that does not fit some of the images.
    """
    folder = resolve_dataset(dataset)
    if isinstance(folder, Path):
        listing = list_images(folder, split)
        paths, labels = zip(*listing.files, strict=True)
        files = ImageFiles(paths, torch.tensor(labels), listing.classes, resize, image_range, at_most_cores(workers))
        if files.size > memory * 2**30:
            levels = range_notice(folder / split, highest_level(paths), image_range)
            for notice in (listing.left_out, levels):
                if notice:
                    warnings.warn(notice, stacklevel=2)
            return files
    return load_images(dataset, split=split, image_range=image_range, resize=resize)


def read_ahead(
    images: Dataset[Any], batches: Iterable[list[Any]], workers: int, pin_memory: bool = False
) -> "DataLoader[Any]":
    """A loader of the batches, each a list of keys of `images`, in order; `workers` processes decode the next ones."""
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader draws from the global one
    )


def at_most_cores(workers: int) -> int:
    """That many, or as many as there are cores: torch warns of more."""
    return min(workers, os.cpu_count() or 1)


def limited(images: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """So many images, drawn from all classes; all of them without a limit."""
    if limit is None or limit >= len(images):
        return images
    return [images[index] for index in batch_indices(len(images), limit, 0, "limit", 0).tolist()]


def highest_level(paths: Sequence[Path]) -> int:
    """The highest value among those with 16 bits of LOOKED_AT images, from all classes; NO_16_BITS without any.

    Others are not decoded, and one that cannot be read is named when it is.
    """
    highest = NO_16_BITS
    for path in limited(paths, LOOKED_AT):
        with contextlib.suppress(Exception), opened(path) as image:
            if image.mode in GREY_16_BIT or has_deep_colour(image):
                highest = max(highest, measured_pixels(image)[1])
    return highest
