"""What a data set holds, in a digest and in a few numbers that a person can compare, to notice that it has changed."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from setn_lab.data.folders import list_images
from setn_lab.data.images import BUILT_IN, ImageSet, cifar_folder, load_images

_known: dict[tuple[Any, ...], tuple[list[Any], dict[str, Any]]] = {}  # by what was asked for: the files, the facts


def image_facts(dataset: str, data_dir: str | None, splits: tuple[str, ...] = ("train",)) -> dict[str, Any]:
    """The facts of those splits of a data set, all of whose images are read: see `load_images`.

    digest: the same for the same pixels, labels and names of classes, wherever they lie. where: the folder. images,
    side in pixels, channels, classes: the number of images of each, of all splits. They are read again where a file
    has changed. Raises DataError.
    """
    asked = (dataset, data_dir, splits)
    before = _stamps(dataset, data_dir, splits)
    if asked not in _known or _known[asked][0] != before:
        sets = [load_images(dataset, data_dir, split) for split in splits]
        files = _stamps(dataset, data_dir, splits)  # a first use may have downloaded them
        facts: dict[str, Any] = {
            "digest": _digest([part for images in sets for part in (images.classes, *_bytes(images))]),
            "where": dataset if dataset in BUILT_IN else str(Path(dataset).expanduser().resolve()),
            "images": sum(map(len, sets)),
            "side": sets[0].image_size,
            "channels": sets[0].channels,
            "classes": dict(sum((_counts(images) for images in sets), Counter())),
        }
        _known[asked] = files, facts
    return dict(_known[asked][1])


def listed_facts(dataset: str, splits: tuple[str, ...]) -> dict[str, Any]:
    """The same of a folder too large to be read: of the names and sizes of its images. Raises DataError."""
    folder = Path(dataset).expanduser().resolve()
    listing: list[Any] = []
    counts: Counter[str] = Counter()
    for split in splits:
        classes, files = list_images(folder, split)
        counts.update(classes[label] for _, label in files)
        listing += [classes, [[path.relative_to(folder).as_posix(), path.stat().st_size] for path, _ in files]]
    return {"digest": _digest(listing), "where": str(folder), "images": counts.total(), "classes": dict(counts)}


def _counts(images: ImageSet) -> Counter[str]:
    numbers = torch.bincount(images.labels, minlength=len(images.classes)).tolist()
    return Counter(dict(zip(images.classes, numbers, strict=True)))


def _bytes(images: ImageSet) -> Iterator[Any]:
    yield list(images.images.shape)
    yield images.labels.cpu().numpy()
    yield images.images.cpu().contiguous().numpy()


def _digest(parts: list[Any]) -> str:
    """Of arrays their bytes, of everything else its JSON."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        total.update(part.data if hasattr(part, "data") else json.dumps(part).encode())
    return total.hexdigest()


def _stamps(dataset: str, data_dir: str | None, splits: tuple[str, ...]) -> list[Any]:
    """What changes when a file of the data set does; nothing of the digits, which a package holds."""
    if dataset == "digits":
        return []
    folders = [Path(dataset).expanduser() / split for split in splits]
    if dataset in BUILT_IN:
        folders = [cifar_folder(dataset, data_dir)]
    return sorted(
        (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        for folder in folders
        for base, _, names in os.walk(folder, followlinks=True)
        for path in (os.path.join(base, name) for name in names)
        if (status := _status(path)) is not None
    )


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # a link to nowhere: reading the images names it
        return None
