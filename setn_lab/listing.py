"""All run folders in a table, for a shell and for the first notebook; failed starts can be removed."""

import os
from datetime import datetime
from pathlib import Path

from setn_lab.inspection import runs
from setn_lab.runs.lock import MARKER, LockError, in_use, take_lock

HEAD = ("folder", "kind", "started", "state", "best", "cost")
BEGUN = {"config.json", "identity.json", "environment.json", "costs.json", "lock", MARKER}  # before anything is done


def failed_starts(root: Path) -> list[Path]:
    """The run folders in `root` in which nothing was ever recorded, and which nobody has open."""
    return [path.parent for path in sorted(root.glob("*/config.json")) if _is_failed(path.parent)]


def _is_failed(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= BEGUN and not in_use(folder)


def remove_failed(root: Path) -> list[Path]:
    """Delete `failed_starts`; returns those that are gone. One that is opened in the same moment stays."""
    removed = []
    for folder in failed_starts(root):
        try:
            lock = take_lock(folder, 0)
        except LockError:
            continue
        try:
            names = {path.name for path in folder.iterdir()}
            if names <= BEGUN:
                for name in names - {"lock", MARKER}:
                    (folder / name).unlink()
                removed.append(folder)
        finally:
            lock.free()
        if folder in removed:
            (folder / "lock").unlink(missing_ok=True)
            folder.rmdir()
    return removed


def newest(root: Path, here: Path, count: int = 10) -> str:
    """The newest runs as Markdown for a notebook in the folder `here`: a table with links to what they have drawn."""
    rows = listing(root)[:count]
    if not rows:
        return f"{root} holds no run yet."
    lines = ["| run | what | started | state | result | cost | open |", "|---|---|---|---|---|---|---|"]
    for name, *rest in rows:
        figures = sorted((root / name).glob("*.svg"))
        links = [f"[{path.stem}]({os.path.relpath(path, here)})" for path in figures]
        lines.append("| " + " | ".join([f"`{name}`", *rest, ", ".join(links)]) + " |")
    return "\n".join(lines)


def listing(root: Path) -> list[tuple[str, ...]]:
    """The rows of `inspection.runs` as texts, as HEAD says, the newest first."""
    return [
        (row.name, row.kind, f"{datetime.fromtimestamp(row.started):%Y-%m-%d %H:%M}", row.state, row.best, row.cost)
        for row in runs.rows(root)
    ]


def as_text(rows: list[tuple[str, ...]]) -> str:
    """The rows below HEAD in columns."""
    lines = [HEAD, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
