"""Folders of images: listing, decoding in threads, and a cache of the decoded pixels."""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # in any case
GREY_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
GREY = ("1", "L", *GREY_16_BIT)  # Pillow's modes; all others become RGB
NO_LEVELS = ("I", "F")  # 32-bit: what is white is not stated in the file, so there is no right scale


class DataError(ValueError):
    """Bad data or a bad data parameter; the message names it, what was given, what is allowed and the fix."""


def load_folder(folder: Path, split: str, cache: Path) -> tuple[np.ndarray, list[int], tuple[str, ...]]:
    """The images of `folder`/`split`/<class>/*: uint8 [n, h, w, c], the class of each, and the class names.

    Decoded once, then read from a file in `cache`. Raises DataError as `data.load` says.
    """
    folder = folder.resolve()
    classes, files = list_images(folder, split)
    paths = [path for path, _ in files]
    # The name is a digest of all that the images depend on, so a changed folder never finds an old cache.
    # "1" is the version of the decoding rules below.
    listing = []
    for path in paths:
        with _naming(path):  # a link to nowhere fails here: a silent gap would be worse
            status = path.stat()
        listing.append([path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns])
    identity = json.dumps([1, str(folder), split, listing]).encode()
    cached = cache / f"{hashlib.blake2b(identity, digest_size=16).hexdigest()}.npz"
    images = _read_cache(cached, len(paths)) if os.path.lexists(cached) else None
    if images is None:
        images = _decode_all(paths)
        _write_cache(cached, images)
    return images, [label for _, label in files], classes


def list_images(folder: Path, split: str) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The class names, and the path and label of each image of `folder`/`split`/<class>/*, in a fixed order.

    Raises DataError for a folder that is not so.
    """
    if not (folder / split).is_dir():
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        raise DataError(
            f"dataset: {folder} has no folder {split!r}; its folders are {_some(found)}. "
            f"Pass a folder that holds {split}/<class>/* images."
        )
    # iterdir's order differs between file systems: sort, by code points, so that no locale matters either.
    entries = sorted((folder / split).iterdir(), key=lambda entry: entry.name)
    class_folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if len(class_folders) < 2:
        raise DataError(
            f"dataset: {folder / split} has {len(class_folders)} class folders "
            f"({_some([entry.name for entry in class_folders])}), at least 2 are needed. "
            f"Put the images of each class into a folder of its own, {split}/<class>/*."
        )
    files: list[tuple[Path, int]] = []
    for label, class_folder in enumerate(class_folders):
        paths = [path for path in class_folder.iterdir() if path.suffix.lower() in EXTENSIONS]
        paths = sorted((path for path in paths if not path.name.startswith(".")), key=lambda path: path.name)
        if not paths:
            raise DataError(
                f"dataset: the class folder {class_folder} has no images ({', '.join(EXTENSIONS)}). "
                "Put images into it or remove it."
            )
        files += [(path, label) for path in paths]
    return tuple(entry.name for entry in class_folders), files


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


def _decode_all(paths: list[Path]) -> np.ndarray:
    """Decode to uint8 [n, h, w, c]; the headers come first, so one array of the right size is filled."""
    with ThreadPoolExecutor() as pool:  # Pillow's decoders release the interpreter lock
        headers = list(pool.map(_header, paths))
        (width, height), _ = headers[0]
        for path, (size, _) in zip(paths, headers, strict=True):
            if size != (width, height):
                raise DataError(
                    f"dataset: the images differ in size: {paths[0]} is {width} x {height}, {path} is "
                    f"{size[0]} x {size[1]} (width x height). All must have one size; resize them."
                )
        if width != height:
            raise DataError(
                f"dataset: the images are not square: {paths[0]} is {width} x {height} (width x height). "
                "Width and height must be equal; crop or resize them."
            )
        channels = 1 if all(mode in GREY for _, mode in headers) else 3
        images = np.empty((len(paths), height, width, channels), dtype=np.uint8)

        def fill(index: int) -> None:
            images[index] = _decode(paths[index])

        for _ in pool.map(fill, range(len(paths))):
            pass  # reading the results raises what a thread raised
    return images


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """An image's (width, height) in pixels and Pillow's mode."""
    with _naming(path), Image.open(path) as image:
        if image.mode in NO_LEVELS:
            raise ValueError(f"32-bit pixels, mode {image.mode!r}")
        return image.size, image.mode


def _decode(path: Path) -> np.ndarray:
    """One image as uint8 [h, w, 1] or [h, w, 3]; a grey one among colours is left to broadcasting."""
    with _naming(path), Image.open(path) as image:
        return to_pixels(image)


def to_pixels(image: Image.Image) -> np.ndarray:
    """A Pillow image as uint8 [h, w, 1], if it is grey, or [h, w, 3]. Raises ValueError for 32-bit pixels."""
    if image.mode in NO_LEVELS:
        raise ValueError(f"32-bit pixels, mode {image.mode!r}")
    if image.mode in GREY_16_BIT:  # Pillow would clip at 255; 65535 / 257 = 255, rounded to nearest
        return ((np.asarray(image).astype(np.int64) + 128) // 257).astype(np.uint8)[..., None]
    if image.mode in GREY:
        return np.asarray(image.convert("L"))[..., None]
    if "transparency" in image.info:  # straight to RGB, Pillow warns about some palettes
        return np.asarray(image.convert("RGBA"))[..., :3]
    return np.asarray(image.convert("RGB"))


def _read_cache(path: Path, count: int) -> np.ndarray | None:
    """The cached images, or None with a warning. Nothing in the file is ever executed."""
    try:
        # Opened here, as numpy leaves a broken archive open. Zip checksums find changed bytes.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            images = archive["images"]
        shape = images.shape
        fits = len(shape) == 4 and shape[0] == count and shape[1] == shape[2] > 0 and shape[3] in (1, 3)
        if not fits or images.dtype != np.uint8:
            raise ValueError(f"{images.dtype} {list(shape)} for {count} images")
        return images
    except Exception as error:  # a cache can hold anything, and no fault in it may end a run
        warnings.warn(
            f"{path} is not a valid cache ({type(error).__name__}: {error}); "
            "the images are decoded again and it is replaced.",
            stacklevel=5,
        )
        return None


def _write_cache(path: Path, images: np.ndarray) -> None:
    """Write a temporary file and rename it, so that no other process ever sees half a cache."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            np.savez(file, images=images)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        warnings.warn(
            f"The decoded images could not be cached in {path.parent} ({error}); the next run decodes them "
            "again. Set SETN_LAB_CACHE to a folder that can be written.",
            stacklevel=5,
        )
    finally:
        if temporary is not None:  # not only on OSError: an interrupted run leaves no rubbish either
            Path(temporary).unlink(missing_ok=True)
