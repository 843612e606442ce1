"""Where a user means: what a notebook or a shell prints can be given to any other, whichever folder that works in."""

import os
from pathlib import Path

from setn_lab.config import ConfigError, expanded
from setn_lab.runs.environment import checkout


def root_folder() -> Path:
    """$SETN_LAB_RUNS, else reports/runs of the checkout that setn_lab is imported from, else of the working folder.

    Raises ConfigError where that begins with the home of a user that is not known.
    """
    if root := os.environ.get("SETN_LAB_RUNS"):
        return expanded(root, "$SETN_LAB_RUNS")
    return (checkout() or Path()) / "reports" / "runs"


def bases() -> list[Path]:
    """The folders below which a path that is not absolute may lie: the working folder first."""
    return [base for base in (Path.cwd(), checkout(), root_folder()) if base is not None]


def places(text: str | Path, name: str) -> list[Path]:
    """Where a path may lie: below the working folder, the checkout and the folder of the runs, in this order.

    name: of the parameter that gives it. Raises ConfigError for the home of a user that is not known.
    """
    path = expanded(text, name)
    return list(dict.fromkeys((base / path).absolute() for base in bases()))  # one alone where it is absolute


def find(text: str | Path, name: str) -> Path | None:
    """The first of `places` where something lies; None without any. Raises ConfigError as `places` does."""
    for path in places(text, name):
        try:
            if path.exists():
                return path
        except OSError:  # a text longer than a path can be
            return None
    return None


def found(text: str | Path, name: str, what: str = "a run folder") -> Path:
    """What a user has named. Raises ConfigError which says where was looked for it, and as `places` does."""
    path = find(text, name)
    if path is None:
        looked = ", ".join(map(str, places(text, name)))
        raise ConfigError(f"{name}: {str(text)!r} given, which does not exist; {what} is allowed. Looked for: {looked}")
    return path


def run_folder(text: str | Path, name: str) -> Path:
    """The run folder that is meant to be made or gone on with: one that is there, else in the working folder.

    Raises ConfigError as `places` does.
    """
    first, *others = places(text, name)
    return next((path for path in (first, *others) if (path / "config.json").exists()), first)


def written(folder: Path) -> str:
    """How a run folder is best written for a user: by its name alone where it lies among the others."""
    return folder.name if folder.absolute().parent == root_folder().absolute() else str(folder.absolute())
