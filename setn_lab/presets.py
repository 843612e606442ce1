"""Presets: files of parameters, which fill what a user has not given.

A preset is a file in notebooks/presets/ of the checkout. Its name begins with that of the notebook that it is for, such
as ablation-quick.yaml, the preset `quick` of ablation.ipynb; a name that begins with none, such as quick.yaml, is for
search.ipynb. The class attribute `presets` of a config class says whose presets it takes.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from setn_lab.config import ConfigError
from setn_lab.runs.environment import checkout
from setn_lab.runs.place import found

PARAMETER = "preset"  # in a notebook's parameter cell and among the options; no field, since what it fills is recorded
DESCRIPTION = "values for what is not given, None: the defaults"
UNNAMED = "search"  # the notebook of the presets that name none


def preset_files(cls: type) -> dict[str, Path]:
    """The preset files for a config class by the names that a user gives; none for a class without presets.

    None either where setn_lab was installed without a checkout.
    """
    folder, notebook = checkout(), getattr(cls, "presets", None)
    if folder is None or notebook is None:
        return {}
    notebooks = {path.stem for path in (folder / "notebooks").glob("*.ipynb")} | {notebook}
    found = {}
    for path in sorted((folder / "notebooks" / "presets").glob("*.yaml")):
        first, _, rest = path.stem.partition("-")
        owner, name = (first, rest) if first in notebooks and rest else (UNNAMED, path.stem)
        if owner == notebook:
            found[name] = path
    return found


def filled(cls: type, values: Mapping[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """The values of a config without the preset among them: those `given` as they are, the others by the preset.

    Raises ConfigError for a preset that there is not.
    """
    rest = {name: value for name, value in values.items() if name != PARAMETER}
    preset = values.get(PARAMETER)
    if preset is None:
        return rest
    files = preset_files(cls)
    if preset not in files:
        near = difflib.get_close_matches(str(preset), files, n=1) if isinstance(preset, str) else []
        hint = f"did you mean {near[0]}? Write -p {PARAMETER} {near[0]}. " if near else ""
        allowed = ", ".join([*files, "None"]) if files else "None, as there are no presets here: give a file of values,"
        raise ConfigError(f"{PARAMETER}: {preset!r} ({type(preset).__name__}) given; {hint}{allowed} is allowed")
    return {**rest, **read_parameters(files[preset]), **{name: rest[name] for name in given if name in rest}}


def read_parameters(path: str | Path) -> dict[str, Any]:
    """The parameters in a file of YAML or JSON. Raises ConfigError."""
    try:
        content = yaml.safe_load(found(path, "file", "a file of parameters").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} was given as a file of parameters, but cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(
            f"{path} was given as a file of parameters, but holds no names with values; lines such as `epochs: 400` "
            "are allowed"
        )
    return content
