"""Where a network's training and test images come from: on the device (CIFAR), or decoded by workers (ImageNet).

A source gives the batches of any steps of any seed. What a step reads depends on its number alone, not on the number
of processes that share it: each takes an equal part of the global batch, in order.
"""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from setn_lab.compute.distributed import Shard
from setn_lab.compute.streams import generator
from setn_lab.data.batches import Augmentation, Normalization, augment, batch_indices, normalize_images, scoring_batches
from setn_lab.data.folders import DataError, list_images, to_pixels
from setn_lab.data.images import ImageSet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, as the field normalizes with


NONE_BAD = -1
Item = TypeVar("Item")


class Batch(NamedTuple):
    """Images (b, c, h, w), normalised, and labels (b,). bad: (b,) the image that could not be read, or NONE_BAD.

    A bad image is replaced in training, and does not count in a test.
    """

    images: Tensor
    labels: Tensor
    bad: Tensor | None = None


@dataclass(frozen=True, eq=False)
class OnDevice:
    """Image sets that live on the device as bytes."""

    training: ImageSet
    testing: ImageSet
    normalization: Normalization
    augmentation: Augmentation
    batch_size: int
    test_batch_size: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.training.classes

    @property
    def image_channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.training.channels

    @property
    def image_size(self) -> int:
        """The side of the images in pixels."""
        return self.training.image_size

    @property
    def steps(self) -> int:
        """Steps in an epoch: full batches of the training images."""
        return len(self.training) // self.batch_size

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel, of pixels scaled to 0 .. 1."""
        return tuple(self.normalization.mean.tolist())

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of each channel."""
        return tuple(self.normalization.std.tolist())

    def to(self, device: torch.device) -> "OnDevice":
        """The same images on `device`."""
        return replace(
            self,
            training=self.training.to(device),
            testing=self.testing.to(device),
            normalization=self.normalization.to(device),
        )

    def train(self, seed: int, steps: range, share: Shard) -> Generator[Batch, None, None]:
        """This process's part of the batches of global steps, augmented.

        All processes augment the whole batch with the same draws, which takes little, and keep their part.
        """
        for step in steps:
            indices = batch_indices(len(self.training), self.batch_size, seed, "training order", step)
            chosen = self.training.take(indices)
            rng = generator(seed, "training augmentation", step)
            images = augment(chosen.images, self.normalization, self.augmentation, rng)
            yield Batch(share.of(images), share.of(chosen.labels))

    def test(self, share: Shard) -> Generator[Batch, None, None]:
        """This process's test batches, which are dealt out in turn, without augmentation."""
        for indices in scoring_batches(len(self.testing), self.test_batch_size)[share.rank :: share.processes]:
            chosen = self.testing.take(indices)
            yield Batch(normalize_images(chosen.images, self.normalization), chosen.labels)

    def name(self, split: Literal["train", "test"], image: int) -> str:
        """What to call an image in a message."""
        return f"{split} image {image}"


class Decoded:
    """Folders `train/<class>/*` and `val/<class>/*` of images of any size, decoded by worker processes.

    Training: random resized crop, flip, colour jitter. Test: the shorter side to 256/224 of the image size, centre
    crop. bad_images: an image that cannot be read ends the training ("fail"), or is left out and counted ("skip").
    Raises DataError for a folder that is not so, or classes of `val` that are not those of `train`.
    """

    image_channels = 3
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __init__(
        self,
        folder: Path,
        image_size: int,
        batch_size: int,
        test_batch_size: int,
        workers: int,
        bad_images: Literal["fail", "skip"],
        limit_train: int | None = None,
        limit_test: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        if not folder.is_dir():
            raise DataError(
                f"dataset: {folder} is no folder; one that holds train/<class>/* and val/<class>/* is allowed"
            )
        self.classes, training = list_images(folder, "train")
        classes, testing = list_images(folder, "val")
        if classes != self.classes:
            different = sorted(set(classes) ^ set(self.classes))
            raise DataError(f"dataset: {folder}/train and {folder}/val differ in their classes: {different[:10]}")
        self.image_size, self.batch_size = image_size, batch_size
        self.workers = min(workers, os.cpu_count() or 1)  # torch warns of more
        self.test_batch_size, self.pin_memory = test_batch_size, pin_memory
        normalize = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        crop = v2.RandomResizedCrop(image_size, antialias=True)
        augmented = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0.2), *normalize])
        centred = v2.Compose(
            [v2.Resize(image_size * 256 // 224, antialias=True), v2.CenterCrop(image_size), *normalize]
        )
        self.training = _Files(limited(training, limit_train), augmented, bad_images)
        self.testing = _Files(limited(testing, limit_test), centred, bad_images)
        self.steps = len(self.training) // batch_size

    def train(self, seed: int, steps: range, share: Shard) -> Generator[Batch, None, None]:
        """This process's part of the batches of global steps, augmented.

        The draws of an image's transforms are those of its place in the stream, whichever worker makes them.
        """
        count, size = len(self.training), self.batch_size
        batches = []
        for step in steps:
            order = batch_indices(count, size, seed, "training order", step)
            places = torch.arange(size) + step * size
            batches.append(
                [(i, seed, place) for i, place in torch.stack([share.of(order), share.of(places)]).T.tolist()]
            )
        return self._load(self.training, batches)

    def test(self, share: Shard) -> Generator[Batch, None, None]:
        """This process's test batches, which are dealt out in turn, without augmentation."""
        batches = scoring_batches(len(self.testing), self.test_batch_size)[share.rank :: share.processes]
        return self._load(self.testing, [[(image, 0, image) for image in batch.tolist()] for batch in batches])

    def name(self, split: Literal["train", "test"], image: int) -> str:
        """What to call an image in a message."""
        return str((self.training if split == "train" else self.testing).files[image][0])

    def _load(self, files: "_Files", batches: list[list[tuple[int, int, int]]]) -> Generator[Batch, None, None]:
        loader = DataLoader(
            files,
            batch_sampler=batches,
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),  # else the loader draws from the global one
        )
        for images, labels, bad in loader:
            yield Batch(images, labels, bad)


def limited(images: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """So many images, drawn from all classes; all of them without a limit."""
    if limit is None or limit >= len(images):
        return images
    return [images[index] for index in batch_indices(len(images), limit, 0, "limit", 0).tolist()]


ImageSource = OnDevice | Decoded


class _Files(Dataset[tuple[Tensor, int, int]]):
    """Images by (index, seed, place in the stream of samples)."""

    def __init__(
        self, files: Sequence[tuple[Path, int]], transform: v2.Transform, bad_images: Literal["fail", "skip"]
    ) -> None:
        self.files, self.transform, self.bad_images = files, transform, bad_images

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, int, int]:
        index, seed, place = key
        bad = NONE_BAD
        for offset in range(len(self.files)):
            path, label = self.files[(index + offset) % len(self.files)]
            try:
                with Image.open(path) as image:
                    pixels = to_pixels(image)
                picture = Image.fromarray(np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels)
            except Exception as error:  # decoders of broken files raise nearly anything
                if self.bad_images == "fail":
                    raise DataError(
                        f"dataset: the image {path} cannot be read ({type(error).__name__}: {error}). Replace or "
                        "remove it, or pass bad_images 'skip' to leave out such images"
                    ) from error
                bad = index
                continue
            with torch.random.fork_rng(devices=[]):  # the transforms draw from the global generator
                draw = int(generator(seed, "training augmentation", place).integers(np.iinfo(np.int64).max))
                torch.default_generator.manual_seed(draw)  # torch.manual_seed would seed CUDA's too, which takes long
                return self.transform(picture), label, bad
        raise DataError(f"dataset: none of the {len(self.files)} images can be read, {self.files[0][0]} the first")
