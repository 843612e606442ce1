"""What is refused when a run folder is opened: a folder of something else, of another config, of changed contents."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import setn_lab.config
from setn_lab.runs import identity
from setn_lab.runs.errors import RunError
from setn_lab.runs.lock import MARKER


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds files and no config; a killed first start leaves no more than these three."""
    names = {path.name for path in folder.iterdir()} - {"lock", MARKER, ".config.json.tmp"}
    if names and "config.json" not in names:
        raise RunError(
            f"{folder} is neither an empty folder nor a run folder: it holds {', '.join(sorted(names)[:3])} "
            "and no config.json. Give another run_dir, or leave run_dir out"
        )


def refuse_other_config(folder: Path, config: Any) -> None:
    """Refuse a run that another config began, where a result depends on what differs."""
    if not (folder / "config.json").exists():
        return
    cls = type(config)
    here = setn_lab.config.decisive(cls, vars(config))
    there = setn_lab.config.decisive(cls, setn_lab.config.completed(cls, read_object(folder / "config.json")))
    stored = read_identity(folder)
    if stored is not None:  # what a place holds counts, not how it is written; an older version did not know that
        known = stored["contents"]
        here, there = ({name: value for name, value in part.items() if name not in known} for part in (here, there))
    if lines := setn_lab.config.differences(there, here):
        raise RunError(
            f"{folder} holds a run of another config:\n  "
            + "\n  ".join(lines)
            + "\nGive another run_dir, or leave run_dir out so that the folder is named from the config"
        )


def refuse_other_contents(folder: Path, found: dict[str, Mapping[str, Any]]) -> None:
    """Refuse a run that was made of something else than what its config points to now."""
    stored = read_identity(folder)
    if stored is None:
        return
    known = stored["contents"]
    changed = {name: identity.changes(known.get(name, {}), found.get(name, {})) for name in {**known, **found}}
    if lines := [f"{name}: {text}" for name, text in changed.items() if text]:
        raise RunError(_changed(folder, "\n  ".join(lines)) + ", or give another run_dir")


def refuse_changed(root: Path, kind: str, config: Any, found: dict[str, Mapping[str, Any]]) -> None:
    """Refuse a new run where one of the same parameters was made from what lay in the same place before."""
    if found and (other := identity.elsewhere(root, kind, config, found)):
        folder, lines = other
        raise RunError(_changed(folder, lines) + ", or give a run_dir of its own to a run of what is there now")


def _changed(folder: Path, lines: str) -> str:
    return (
        f"what {folder} was made of has changed since:\n  {lines}\nThe run cannot go on with it, nor be told from it. "
        "Put back what was there"
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file of the run. Raises RunError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a copy, or give another run_dir") from error
    return content


def read_identity(folder: Path) -> dict[str, Any] | None:
    """See `identity.read`. Raises RunError for a damaged one."""
    try:
        return identity.read(folder)
    except identity.IdentityError as error:
        raise RunError(str(error)) from error
