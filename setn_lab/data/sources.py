"""Where a network's training and test images come from: on the device (CIFAR), or decoded by workers (ImageNet).

A source gives the batches of any steps of any seed. What a step reads depends on its number alone, not on the number
of processes that share it: each takes an equal part of the global batch, in order.
"""

import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from setn_lab.compute.distributed import Shard
from setn_lab.compute.streams import generator
from setn_lab.data.batches import (
    Augmentation,
    Normalization,
    augment,
    batch_indices,
    centre,
    normalize_images,
    scoring_batches,
)
from setn_lab.data.files import CHANNELS, Images, at_most_cores, highest_level, limited, read_ahead
from setn_lab.data.folders import DataError, held_out, list_images, range_notice
from setn_lab.data.pixels import opened, to_pixels

if TYPE_CHECKING:  # importing it takes seconds, and few who import this need it
    from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, as the field normalizes with
NONE_BAD = -1


class Batch(NamedTuple):
    """Images (b, c, h, w), normalised, and labels (b,). bad: (b,) the image that could not be read, or NONE_BAD.

    A bad image is replaced in training, and does not count in a test.
    """

    images: Tensor
    labels: Tensor
    bad: Tensor | None = None


@dataclass(frozen=True, eq=False)
class OnDevice:
    """Images of one square size, on the device as bytes or decoded onto it.

    test_split: what the test images' folder is called.
    """

    training: Images
    testing: Images
    normalization: Normalization
    augmentation: Augmentation
    batch_size: int
    test_batch_size: int
    test_split: str = "test"
    image_range: int | None = None  # as the images were read with
    resize: ClassVar[int | None] = None  # an image to be classified has the size of these

    @property
    def augmented(self) -> str:
        """What becomes of training images, in words."""
        how = self.augmentation
        crops = f"crops of {how.crop} pixels a side" if how.crop else "crops" if how.padding else "no crops"
        return ", ".join(
            [
                f"{crops} after {how.padding} black pixels on each side" if how.padding else crops,
                "flips" if how.flip else "no flips",
                f"cutout of {how.cutout} pixels" if how.cutout else "no cutout",
            ]
        )

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
        """The side in pixels of what a network sees of an image."""
        return self.augmentation.crop or self.training.image_size

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
        count, size = len(self.training), self.batch_size
        batches = (batch_indices(count, size, seed, "training order", step) for step in steps)
        with closing(self.training.stream(batches)) as read:
            for step, chosen in zip(steps, read, strict=True):
                rng = generator(seed, "training augmentation", step)
                images = augment(chosen.images, self.normalization, self.augmentation, rng)
                yield Batch(share.of(images), share.of(chosen.labels))

    def test(self, share: Shard) -> Generator[Batch, None, None]:
        """This process's test batches, which are dealt out in turn, without augmentation."""
        batches = scoring_batches(len(self.testing), self.test_batch_size)[share.rank :: share.processes]
        with closing(self.testing.stream(batches)) as read:
            for chosen in read:
                images = centre(chosen.images, self.augmentation.crop)
                yield Batch(normalize_images(images, self.normalization), chosen.labels)

    def name(self, split: Literal["train", "test"], image: int) -> str:
        """What to call an image in a message."""
        return f"{split} image {image}"


def centred(shorter: int, image_size: int, mean: Sequence[float], std: Sequence[float]) -> "v2.Transform":
    """From a Pillow image, RGB, to what a network is tested on, (3, image_size, image_size).

    The shorter side becomes that many pixels, the centre is cropped, and the pixels, scaled to 0 .. 1, normalised.
    """
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(shorter, antialias=True), v2.CenterCrop(image_size), *_normalize(mean, std)])


def _normalize(mean: Sequence[float], std: Sequence[float]) -> "list[v2.Transform]":
    from torchvision.transforms import v2

    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


class Decoded:
    """Folders `train/<class>` and `val/<class>` of images of any size, decoded by worker processes.

    Where there is no `val`, another folder of HELD_OUT is the test, which `test_split` says. Which files are images is
    as `list_images` says, and a warning counts those that are left out.
    Training: random resized crop, flip, colour jitter. Test: the shorter side to 256/224 of the image size, centre
    crop. bad_images: an image that cannot be read ends the training ("fail"), or is left out and counted ("skip").
    image_range: the value that is white in grey images of 16 bits; a warning says where it does not fit some of them.
    Raises DataError for a folder that is not so, or test classes that are not those of `train`.
    """

    image_channels = CHANNELS
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    augmented = "random resized crops, flips and colour jitter, without crop_padding and cutout"

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
        image_range: int | None = None,
    ) -> None:
        from torchvision.transforms import v2

        if not folder.is_dir():
            raise DataError(
                f"dataset: {folder} is no folder; one that holds train/<class>/* and val/<class>/* is allowed"
            )
        self.folder, self.test_split = folder, held_out(folder, "val")
        training, testing = list_images(folder, "train"), list_images(folder, self.test_split)
        self.classes = training.classes
        if testing.classes != self.classes:
            different = sorted(set(testing.classes) ^ set(self.classes))
            raise DataError(
                f"dataset: {folder}/train and {folder}/{self.test_split} differ in their classes: {different[:10]}"
            )
        self.image_size, self.batch_size, self.image_range = image_size, batch_size, image_range
        self.resize = image_size * 256 // 224
        self.workers = at_most_cores(workers)
        self.test_batch_size, self.pin_memory = test_batch_size, pin_memory
        crop = v2.RandomResizedCrop(image_size, antialias=True)
        jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.2)
        augmented = v2.Compose([crop, v2.RandomHorizontalFlip(), jitter, *_normalize(MEAN, STD)])
        tested = centred(self.resize, image_size, MEAN, STD)
        self.training = _Files(limited(training.files, limit_train), augmented, bad_images, image_range)
        self.testing = _Files(limited(testing.files, limit_test), tested, bad_images, image_range)
        self.steps = len(self.training) // batch_size
        highest = highest_level([path for path, _ in self.training.files])
        levels = range_notice(folder / "train", highest, image_range)
        for notice in (training.left_out, testing.left_out, levels):
            if notice:
                warnings.warn(notice, stacklevel=2)

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
        for images, labels, bad in read_ahead(files, batches, self.workers, self.pin_memory):
            yield Batch(images, labels, bad)


ImageSource = OnDevice | Decoded


class _Files(Dataset[tuple[Tensor, int, int]]):
    """Images by (index, seed, place in the stream of samples)."""

    def __init__(
        self,
        files: Sequence[tuple[Path, int]],
        transform: "v2.Transform",
        bad_images: Literal["fail", "skip"],
        image_range: int | None,
    ) -> None:
        self.files, self.transform, self.bad_images, self.image_range = files, transform, bad_images, image_range

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, int, int]:
        index, seed, place = key
        bad = NONE_BAD
        for offset in range(len(self.files)):
            path, label = self.files[(index + offset) % len(self.files)]
            try:
                with opened(path) as image:
                    pixels = to_pixels(image, self.image_range)
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
