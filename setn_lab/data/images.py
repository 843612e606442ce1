"""Image sets as uint8 tensors on the device: loading and the search split.

A set of CIFAR's size (184 MB) fits on the device whole, so a step needs no loader. Images stay channels last
([n, h, w, c]) from the decoder to the network.
"""

import difflib
import functools
import hashlib
import json
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from setn_lab.compute.device import to_device
from setn_lab.compute.streams import generator
from setn_lab.config import expanded
from setn_lab.data.cache import Cache
from setn_lab.data.folders import DataError, load_folder

CACHE_LIMIT = 4.0  # GiB that decoded images may take on the disk
DOWNSAMPLED_TOGETHER = 4096  # images, whose float copies take 50 MB at CIFAR's size
BUILT_IN = ("digits", "cifar10", "cifar100")


class Takeable(Protocol):
    """Images of which some are chosen by number: an ImageSet, or `files.ImageFiles`."""

    def __len__(self) -> int:
        """The number of images."""

    def take(self, indices: Tensor) -> Self:
        """Those at `indices`, in that order."""


Images = TypeVar("Images", bound=Takeable)


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

    @functools.cached_property
    def digest(self) -> str:
        """32 hexadecimal characters of the pixels, the labels and the names of the classes; computed once.

        Sets share it that hold the same images in the same order, wherever they were read from and whatever device
        they are on. A set of CIFAR's size takes about a third of a second.
        """
        about = json.dumps([list(self.images.shape), self.classes]).encode()
        found = hashlib.blake2b(about, digest_size=16)
        found.update(self.images.cpu().contiguous().numpy().data)
        found.update(self.labels.cpu().numpy().astype("<i8").data)
        return found.hexdigest()

    def facts(self) -> dict[str, Any]:
        """What a person can compare, for JSON; counts: images of each class, side: in pixels."""
        counts = torch.bincount(self.labels.cpu(), minlength=len(self.classes)).tolist()
        return {
            "digest": self.digest,
            "images": len(self),
            "classes": list(self.classes),
            "counts": counts,
            "side": self.image_size,
            "channels": self.channels,
        }

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same set on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, indices: Tensor) -> "ImageSet":
        """The images at `indices` (int64 [m], on the host or on the device), in that order, as a copy."""
        indices = to_device(indices, self.images.device)
        return replace(self, images=self.images.index_select(0, indices), labels=self.labels[indices])

    def stream(self, batches: Iterable[Tensor]) -> Generator["ImageSet", None, None]:
        """What `take` gives for each of the batches."""
        return (self.take(indices) for indices in batches)


def load_images(
    dataset: str,
    data_dir: str | None = None,
    split: str = "train",
    cache_dir: Path | None = None,
    image_range: int | None = None,
    resize: int | None = None,
) -> ImageSet:
    """Load one split of a data set into host memory.

    dataset: `digits` (scikit-learn's 1,797 grey 8 x 8 images, every fifth one is the test split), `cifar10`,
    `cifar100`, or a folder (`~` allowed) that holds `<split>/<class>` folders with images of one square size, in them
    or in folders below them. Every kind of file that Pillow reads is taken, of an animation the first frame, and
    turned as its EXIF says. A folder whose images are all grey has one channel; otherwise all become RGB
    (transparency is dropped). Hidden files are passed over, and a warning counts other files that are left out;
    classes and files are in the order of their names.
    data_dir: where CIFAR lies or is downloaded to; the other data sets do not use it.
    cache_dir: where the decoded images of a folder are kept. Both default to $SETN_LAB_CACHE, or
    $XDG_CACHE_HOME/setn_lab, or ~/.cache/setn_lab. Beyond $SETN_LAB_CACHE_LIMIT GiB (4) the decoded images that were
    not used for longest are removed.
    split: `train` or `test`, for a folder any sub-folder's name.
    image_range: the value that is white in grey images of 16 bits, above which all is white; None: 65535. A warning
    says where it does not fit the images of a folder.
    resize: the side in pixels that images of a folder are brought to, of any size and shape: of each the largest square
    in the middle. All become RGB then. None: all have one square size.

    Raises DataError: unknown data set or split, no network, unreadable, mixed or non-square images, fewer
    than two classes, a class without images, an image_range for a data set of 8 bits, a resize for one that is no
    folder.
    """
    cache = Path(cache_dir) if cache_dir is not None else _default_cache()
    folder = resolve_dataset(dataset)
    if isinstance(folder, Path):
        images, labels, classes = load_folder(folder, split, Cache(cache, _cache_limit()), image_range, resize)
        return ImageSet(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64), classes)
    if image_range is not None:
        raise DataError(f"image_range: {image_range} given; {dataset} has images of 8 bits. Leave it None.")
    if resize is not None:
        raise DataError(f"resize: {resize} given; {dataset} has images of one size. Leave it None, or pass a folder.")
    if split not in ("train", "test"):
        raise DataError(f"split: {split!r} given; {dataset} has 'train' and 'test'. Pass one of them.")
    if dataset == "digits":
        return _load_digits(split)
    return _load_cifar(dataset, expanded(data_dir, "data_dir") if data_dir else cache, split)


def resolve_dataset(dataset: str) -> Path | str:
    """The name of a built-in data set as it is, or the one path of a folder: absolute, with links followed.

    Raises DataError for what is neither.
    """
    if dataset in BUILT_IN:
        return dataset
    folder = expanded(dataset, "dataset")
    if dataset and folder.is_dir():
        return folder.resolve()
    near = difflib.get_close_matches(dataset.lower(), BUILT_IN, n=1)
    hint = f"did you mean {near[0]!r}? It" if near else "it"
    unpack = " It is a file: unpack it and pass the folder." if folder.is_file() else ""
    raise DataError(
        f"dataset: {dataset!r} given; {hint} is neither {', '.join(map(repr, BUILT_IN))} nor a folder of images "
        f"(<split>/<class>/*).{unpack}"
    )


def downsample(images: ImageSet, side: int | None) -> ImageSet:
    """The images with that many pixels a side, each the mean of those it stands for; None: as they are.

    Raises DataError for a side above the images' own.
    """
    if side is None or side == images.image_size:
        return images
    if side > images.image_size:
        raise DataError(
            f"image_size: {side} given; images of {images.image_size} pixels a side can be made smaller: at most that "
            "is allowed, or None to leave them"
        )
    parts = [
        F.interpolate(part.permute(0, 3, 1, 2).float(), side, mode="area").round().to(torch.uint8).permute(0, 2, 3, 1)
        for part in images.images.split(DOWNSAMPLED_TOGETHER)
    ]
    return replace(images, images=torch.cat(parts).contiguous())


def search_split(
    images: Images,
    train_fraction: float,
    seed: int,
    limit_train: int | None = None,
    limit_valid: int | None = None,
) -> tuple[Images, Images]:
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


def _default_cache() -> Path:
    if chosen := os.environ.get("SETN_LAB_CACHE"):
        return expanded(chosen, "$SETN_LAB_CACHE")
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "$XDG_CACHE_HOME") / "setn_lab"


def _cache_limit() -> float:
    """What the cache may take, in bytes."""
    given = os.environ.get("SETN_LAB_CACHE_LIMIT") or CACHE_LIMIT
    try:
        limit = float(given)
    except ValueError:
        limit = -1
    if not limit >= 0:
        raise DataError(f"SETN_LAB_CACHE_LIMIT: {given!r} given. Set it to a number of GiB, at least 0, or unset it.")
    return limit * 2**30


def _load_digits(split: str) -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    levels = digits.images.astype(np.int64)  # 0..16, whole numbers
    images = ((levels * 255 + 8) // 16).astype(np.uint8)[..., None]  # level * 255/16, to nearest, half up
    held_out = np.arange(len(images)) % 5 == 4
    chosen = held_out if split == "test" else ~held_out
    labels = torch.from_numpy(digits.target[chosen].astype(np.int64))
    return ImageSet(torch.from_numpy(images[chosen]), labels, tuple(map(str, digits.target_names)))


def cifar_folder(dataset: str, data_dir: str | None) -> Path:
    """Where the unpacked files of CIFAR lie."""
    root = expanded(data_dir, "data_dir") if data_dir else _default_cache()
    return root / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[dataset]


def _load_cifar(dataset: str, root: Path, split: str) -> ImageSet:
    from torchvision import datasets

    cifar_class, archive = {
        "cifar10": (datasets.CIFAR10, "cifar-10-python.tar.gz"),
        "cifar100": (datasets.CIFAR100, "cifar-100-python.tar.gz"),
    }[dataset]
    try:
        cifar: Any = cifar_class(str(root), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:  # a URLError is an OSError; a wrong MD5 is a RuntimeError
        raise DataError(
            f"dataset: {dataset!r} is not in {root} and could not be downloaded or unpacked there ({error}). Do one of "
            "these three:\n"
            "  - try it offline, on handwritten digits, in minutes: -p preset quick\n"
            "  - give a folder of your own images, train/<class>/* in it: -p dataset FOLDER\n"
            f"  - put {archive} from {cifar_class.url} into {root}, or into another folder: -p data_dir FOLDER"
        ) from error
    images = torch.from_numpy(np.ascontiguousarray(cifar.data))
    return ImageSet(images, torch.tensor(cifar.targets, dtype=torch.int64), tuple(cifar.classes))
