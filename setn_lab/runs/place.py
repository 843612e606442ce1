"""Where a user means: what a notebook or a shell prints can be given to any other, whichever folder that works in."""

from pathlib import Path

from setn_lab.config import ConfigError, expanded
from setn_lab.runs.environment import checkout
from setn_lab.runs.run import root_folder


def places(text: str | Path, name: str) -> list[Path]:
    """Where a path may lie: below the working folder, the checkout and the folder of the runs, in this order.

    name: of the parameter that gives it. Raises ConfigError for the home of a user that is not known.
    """
    path = expanded(text, name)
    bases = [Path.cwd()] if path.is_absolute() else [Path.cwd(), checkout(), root_folder()]
    return list(dict.fromkeys((base / path).absolute() for base in bases if base is not None))


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


def written(folder: Path) -> str:
    """How a run folder is best written for a user: by its name alone where it lies among the others."""
    return folder.name if folder.absolute().parent == root_folder().absolute() else str(folder.absolute())
