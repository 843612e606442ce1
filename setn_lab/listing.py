"""All run folders in a table, for a shell and for the first notebook; failed starts can be removed."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from setn_lab.config import completed
from setn_lab.inspection import runs
from setn_lab.inspection.kinds import FINISHED
from setn_lab.runs.lock import MARKER, LockError, holder, in_use, take_lock
from setn_lab.runs.place import run_folder, written
from setn_lab.runs.run import default_folder

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
    """The newest runs as Markdown for a notebook in the folder `here`: a table with links to what they have drawn.

    Failed starts would push them out of the table: they are counted below it.
    """
    failed = {folder.name for folder in failed_starts(root)}
    rows = [row for row in listing(root) if row[0] not in failed][:count]
    left_out = (
        f"\n\nLeft out: {len(failed)} in which nothing was ever recorded; `setn-lab runs --remove-failed` deletes them."
        if failed
        else ""
    )
    if not rows:
        return f"{root} holds no run yet.{left_out}"
    lines = ["| run | what | started | state | result | cost | open |", "|---|---|---|---|---|---|---|"]
    for name, *rest in rows:
        figures = sorted((root / name).glob("*.svg"))
        links = [f"[{path.stem}]({os.path.relpath(path, here)})" for path in figures]
        lines.append("| " + " | ".join([f"`{name}`", *rest, ", ".join(links)]) + " |")
    return "\n".join(lines) + left_out


def standing(config: Any, kind: str) -> str:
    """Where the run of this config stands, in a line; `kind` is for example "search".

    Raises what looking for its folder does: ConfigError, and errors of the images that name it.
    """
    folder = default_folder(config, kind) if config.run_dir is None else run_folder(config.run_dir, "run_dir")
    name = written(folder)
    if not (folder / "config.json").exists():
        return f"{name}: a new run"
    row = runs.row(folder, kind)
    if not row.readable:
        return f"{name}: {row.state}"
    if in_use(folder):
        return f"{name}: {row.state}, by {holder(folder)}; inspect.ipynb shows it with run_dir = {name!r} and `follow`"
    best = f", {row.best}" if row.best else ""
    stored = completed(type(config), json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if others := [field for field in getattr(config, "redone", ()) if stored[field] != getattr(config, field)]:
        return f"{name}: {row.state}{best}; the training is kept, the candidates are others now ({', '.join(others)})"
    end = "nothing is left to compute" if row.state == FINISHED else "goes on from there"
    return f"{name}: {row.state}{best}; {end}"


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
