"""What a set of images is, in a few facts, and what differs between two of them, in words."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

UNREADABLE = -1  # the size of a file that cannot be found, which is an image that cannot be read


def facts_of_files(folder: Path, classes: Sequence[str], files: Sequence[tuple[Path, int]]) -> dict[str, Any]:
    """The facts of images that are too many to be read: path and label of each; folder: that of their classes.

    The digest is of the classes, and of the paths within `folder` and the sizes of the files, in bytes and in that
    order. Times are left out, which a copy does not keep.
    """
    counts, listing = [0] * len(classes), []
    for path, label in files:
        counts[label] += 1
        listing.append([path.relative_to(folder).as_posix(), _size(path)])
    digest = hashlib.blake2b(json.dumps([list(classes), listing]).encode(), digest_size=16).hexdigest()
    return {"digest": digest, "images": len(files), "classes": list(classes), "counts": counts}


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between the facts of two sets of images, a line each; empty where the digests are equal.

    Such as "cat: 10 images there, 11 here", and one line where it is the images alone that are others.
    """
    if there["digest"] == here["digest"]:
        return []
    lines = [
        f"{what}: {there.get(name, 'unknown')} there, {here.get(name, 'unknown')} here"
        for name, what in (("side", "pixels a side"), ("channels", "channels"))
        if there.get(name) != here.get(name)
    ]
    before, after = (dict(zip(facts["classes"], facts["counts"], strict=True)) for facts in (there, here))
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            counts = (f"{found[name]:,} images" if name in found else "no such class" for found in (before, after))
            lines.append("class {}: {} there, {} here".format(name, *counts))
    if not lines and there["classes"] != here["classes"]:
        lines.append("the classes are in another order")
    return lines or [
        f"the same counts ({here['images']:,} images of {len(after)} classes), other images or another order"
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is named when it is read
        return UNREADABLE
