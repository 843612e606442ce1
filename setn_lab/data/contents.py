"""What a data set holds, as a run keeps it to notice that it has changed: a digest, and what a person can compare."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setn_lab.data.facts import facts_of_files
from setn_lab.data.folders import held_out, list_images
from setn_lab.data.images import cifar_folder, load_images, resolve_dataset

_known: dict[tuple[Any, ...], tuple[list[Any], dict[str, Any]]] = {}  # by what was asked for: the files, the facts


def image_contents(
    dataset: str, data_dir: str | None, image_range: int | None, with_test: bool = False
) -> dict[str, Any]:
    """Of the training images, and of the test images where asked for, all of which are read: see `load_images`.

    digest: the same for the same pixels, labels and names of classes, wherever they lie. where: the folder. images,
    side in pixels, channels, classes: the number of images of each. They are read again where a file has changed.
    Raises DataError.
    """
    place = resolve_dataset(dataset)
    splits = ["train"]
    if with_test:
        splits.append("test" if isinstance(place, str) else held_out(place, "test"))
    asked = (str(place), data_dir, image_range, *splits)
    before = _stamps(place, data_dir, splits)
    if asked not in _known or _known[asked][0] != before:
        found = [load_images(dataset, data_dir, split, image_range=image_range).facts() for split in splits]
        same = {"side": found[0]["side"], "channels": found[0]["channels"]}
        files = _stamps(place, data_dir, splits)  # a first use may have downloaded them
        _known[asked] = files, {**_together(place, found), **same}
    return dict(_known[asked][1])


def listed_contents(dataset: str, with_test: bool = True) -> dict[str, Any]:
    """The same of folders too large to be read, without side and channels: of the names and sizes. Raises DataError."""
    place = Path(resolve_dataset(dataset))
    splits = ("train", held_out(place, "val")) if with_test else ("train",)
    listings = {split: list_images(place, split) for split in splits}
    return _together(
        place, [facts_of_files(place / split, listing.classes, listing.files) for split, listing in listings.items()]
    )


def _together(place: Path | str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The facts of several splits in one."""
    counts: Counter[str] = Counter()
    for facts in found:
        counts.update(dict(zip(facts["classes"], facts["counts"], strict=True)))
    digest = hashlib.blake2b("".join(facts["digest"] for facts in found).encode(), digest_size=8).hexdigest()
    return {"digest": digest, "where": str(place), "images": counts.total(), "classes": dict(counts)}


def _stamps(place: Path | str, data_dir: str | None, splits: list[str]) -> list[Any]:
    """What changes when a file of the data set does; nothing of the digits, which a package holds."""
    if place == "digits":
        return []
    folders = [place / split for split in splits] if isinstance(place, Path) else [cifar_folder(place, data_dir)]
    return sorted(
        (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        for folder in folders
        for base, names in _walk(folder)
        for path in (os.path.join(base, name) for name in names)
        if (status := _status(path)) is not None
    )


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder below one, and its files; links are followed, each folder once, so that no circle is endless."""
    seen: set[str] = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield base, names


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # a link to nowhere: reading the images names it
        return None
