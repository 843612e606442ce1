"""What a set of images is, in a few facts, for those that are too many to be read."""

import hashlib
import json
from collections.abc import Sequence
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is named when it is read
        return UNREADABLE
