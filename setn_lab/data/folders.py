"""Folders of images: which there are, decoding them in threads, and the cache of what was decoded."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from setn_lab.data.cache import Cache
from setn_lab.data.pixels import GREY, NO_16_BITS, NO_LEVELS, WHITE, extensions, measured_pixels, opened, to_square

DECODING = 2  # the version of the rules by which files become pixels, here and in `pixels`
HELD_OUT = ("test", "val", "valid", "validation")  # what a folder of test images may be called
HASHED_TOGETHER = 500  # files in a thread: to hand over each alone takes longer than to read it


class DataError(ValueError):
    """Bad data or a bad data parameter; the message names it, what was given, what is allowed and the fix."""


@dataclass(frozen=True)
class Listing:
    """The images of one split, in a fixed order.

    classes: their names; files: the path of each image and the position of its class in `classes`;
    left_out: what was not taken, as a sentence for the user, or an empty text.
    """

    classes: tuple[str, ...]
    files: list[tuple[Path, int]]
    left_out: str


def load_folder(
    folder: Path, split: str, cache: Cache, image_range: int | None = None, resize: int | None = None
) -> tuple[np.ndarray, list[int], tuple[str, ...]]:
    """The images of `folder`/`split`/<class>/**: uint8 [n, h, w, c], the class of each, and the class names.

    Decoded once, then read from a file in `cache`. image_range, resize: as `data.load_images` says.
    Raises DataError as it says; warns of files that are left out, and of an image_range that the images do not have.
    """
    listing = list_images(folder, split)
    paths = [path for path, _ in listing.files]
    # The name is a digest of all that the pixels depend on: a file that was replaced never finds an old cache, whatever
    # its time and size, and a folder that was moved finds its own. Reading all bytes takes a seventh of decoding them.
    resized = [] if resize is None else [resize]
    identity = json.dumps([DECODING, image_range, _digests(paths), *resized]).encode()
    key = hashlib.blake2b(identity, digest_size=16).hexdigest()
    found = cache.read(key, len(paths))
    if found is None:
        found = _decode_all(paths, image_range) if resize is None else _square_all(paths, image_range, resize)
        cache.write(key, *found)
    images, highest = found
    for notice in (listing.left_out, range_notice(folder / split, highest, image_range)):
        if notice:
            warnings.warn(notice, stacklevel=3)
    return images, [label for _, label in listing.files], listing.classes


def held_out(folder: Path, first: str) -> str:
    """What the folder of test images is called in `folder`: `first`, or another of HELD_OUT where that is not there."""
    return next((name for name in (first, *HELD_OUT) if (folder / name).is_dir()), first)


def list_images(folder: Path, split: str) -> Listing:
    """The images of `folder`/`split`/<class>, also those in folders below a class: all that Pillow reads.

    Hidden files and folders are passed over. Raises DataError for a folder that is not so.
    """
    if not (folder / split).is_dir():
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        raise DataError(
            f"dataset: {folder} has no folder {split!r}; its folders are {_some(found)}. "
            f"Pass a folder that holds {split}/<class>/* images."
        )
    entries = _entries(folder / split)
    class_folders = [entry for entry in entries if _is_folder(entry)]
    if len(class_folders) < 2:
        raise DataError(
            f"dataset: {folder / split} has {len(class_folders)} class folders "
            f"({_some([entry.name for entry in class_folders])}), at least 2 are needed. "
            f"Put the images of each class into a folder of its own, {split}/<class>/*."
        )
    files: list[tuple[Path, int]] = []
    others: Counter[str] = Counter()
    for label, class_folder in enumerate(class_folders):
        before = len(files)
        for path in _below(Path(class_folder)):
            kind = path.suffix.lower()
            if kind in extensions():
                files.append((path, label))
            else:
                others[kind or "without extension"] += 1
        if len(files) == before:
            raise DataError(
                f"dataset: the class folder {class_folder.path} has no images that Pillow reads. "
                "Put images into it or remove it."
            )
    alone = sum(not _is_folder(entry) and Path(entry).suffix.lower() in extensions() for entry in entries)
    left_out = _left_out(folder / split, others, alone)
    return Listing(tuple(entry.name for entry in class_folders), files, left_out)


def _left_out(folder: Path, others: Counter[str], alone: int) -> str:
    """The sentence on files that are no images, counted by extension, and images that lie in no class folder."""
    parts = []
    if others:
        kinds = _some([f"{kind} {count}" for kind, count in others.most_common()])
        parts.append(f"{others.total()} files of other kinds were left out: {kinds}")
    if alone:
        parts.append(f"{alone} images were left out that lie beside the class folders, in none of them")
    return f"dataset: of {folder}, {'; '.join(parts)}." if parts else ""


def range_notice(folder: Path, highest: int, image_range: int | None) -> str:
    """What is wrong with an image_range for 16-bit images that reach that value, as a sentence, or an empty text."""
    if highest == NO_16_BITS:
        none = f"image_range: {image_range} given, but {folder} has no grey image of 16 bits, on which it would act."
        return none if image_range is not None else ""
    white = image_range or WHITE
    if highest > white:
        return f"image_range: {white} given; images of {folder} reach {highest}, and all above the range becomes white."
    if 10 * highest < white:
        return (
            f"image_range: the 16-bit images of {folder} reach {highest} of {white} at most, so that nearly all grey "
            "levels are lost. Pass what is white in them, such as 4095 for a camera of 12 bits; colours, of which "
            "Pillow reads the upper 8 bits alone, have to be saved with 8 bits."
        )
    return ""


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder and is not hidden.

    The order of a folder differs between file systems: it is sorted by code points, so that no locale matters either.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"dataset: {folder} cannot be read ({error}). Make it readable or remove it.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a link in a circle, where `is_dir` alone would raise."""
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The files in a folder and in those below it, links among them, in the order of their paths."""
    above = (*above, os.path.realpath(folder))
    for entry in _entries(folder):
        if not _is_folder(entry):
            yield Path(entry)
        elif entry.is_symlink() and os.path.realpath(entry) in above:
            raise DataError(f"dataset: {entry.path} is a link to a folder that it lies in. Remove it.")
        else:
            yield from _below(Path(entry), above)


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "none"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever reading the file raises becomes a DataError that names it."""
    try:
        yield
    except Exception as error:  # decoders of broken files raise nearly anything
        raise DataError(
            f"dataset: the image {path} cannot be read ({type(error).__name__}: {error}). "
            "It must be a complete image file of 8 or 16 bits a channel. Replace or remove it."
        ) from error


def _digests(paths: list[Path]) -> list[str]:
    """A digest of the content of each file."""

    def of(part: list[Path]) -> list[str]:
        found = []
        for path in part:
            with _naming(path):  # a link to nowhere fails here: a silent gap would be worse
                found.append(hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest())
        return found

    parts = [paths[start : start + HASHED_TOGETHER] for start in range(0, len(paths), HASHED_TOGETHER)]
    with ThreadPoolExecutor() as pool:  # hides what a disk of the network takes to answer
        return [digest for digests in pool.map(of, parts) for digest in digests]


def _decode_all(paths: list[Path], image_range: int | None) -> tuple[np.ndarray, int]:
    """Decode to uint8 [n, h, w, c], and the highest value of those of 16 bits.

    The headers come first, so one array of the right size is filled.
    """
    with ThreadPoolExecutor() as pool:  # Pillow's decoders release the interpreter lock
        headers = list(pool.map(_header, paths))
        (width, height), _ = headers[0]
        for path, (size, _) in zip(paths, headers, strict=True):
            if size != (width, height):
                raise DataError(
                    f"dataset: the images differ in size: {paths[0]} is {width} x {height}, {path} is "
                    f"{size[0]} x {size[1]} (width x height). All must have one size; a search brings images of any "
                    "size to one by its parameter resize."
                )
        if width != height:
            raise DataError(
                f"dataset: the images are not square: {paths[0]} is {width} x {height} (width x height). "
                "Width and height must be equal; a search crops them by its parameter resize."
            )
        channels = 1 if all(mode in GREY for _, mode in headers) else 3
        images = np.empty((len(paths), height, width, channels), dtype=np.uint8)

        def fill(index: int) -> int:
            with _naming(paths[index]), opened(paths[index]) as image:
                images[index], highest = measured_pixels(image, image_range)  # a grey one among colours is broadcast
            return highest

        return images, max(pool.map(fill, range(len(paths))))


def _square_all(paths: list[Path], image_range: int | None, side: int) -> tuple[np.ndarray, int]:
    """The same of images of any size, each as `read_square` has it."""
    images = np.empty((len(paths), side, side, 3), dtype=np.uint8)

    def fill(index: int) -> int:
        images[index], highest = read_square(paths[index], side, image_range)
        return highest

    with ThreadPoolExecutor() as pool:
        return images, max(pool.map(fill, range(len(paths))))


def read_square(path: Path, side: int, image_range: int | None = None) -> tuple[np.ndarray, int]:
    """An image of any size as uint8 [side, side, 3], see `pixels.to_square`, and what `measured_pixels` says of it.

    Raises DataError, which names the file, where it cannot be read.
    """
    with _naming(path), opened(path) as image:
        image.draft(None, (2 * side, 2 * side))  # a JPEG is decoded at an 8th of its size, a quarter or a half
        pixels, highest = measured_pixels(image, image_range)
        return to_square(pixels, side), highest


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """An image's (width, height) in pixels and Pillow's mode."""
    with _naming(path), opened(path) as image:
        if image.mode in NO_LEVELS:
            raise ValueError(f"32-bit pixels, mode {image.mode!r}")
        return image.size, image.mode
