"""The checks of a config's names, types and bounds."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from setn_lab.config.advice import described, fix, given, question
from setn_lab.config.fields import alternatives, fits, is_text_for_none

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A parameter is unknown, missing, or has a value that is not allowed: one line for each problem."""


def validate(config: Any) -> None:
    """Check every field against its annotation and bounds; an integer in a float field becomes a float.

    Raises ConfigError naming every field at fault, and TypeError for an annotation that no config may have.
    """
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    checked, problems = _check(type(config), values)
    if problems:
        raise ConfigError("\n".join(problems))
    for name, value in checked.items():
        object.__setattr__(config, name, value)


def build(cls: type[Config], values: Mapping[str, object]) -> Config:
    """The config with these values and defaults for the rest.

    Raises ConfigError for unknown and missing names and for values that are not allowed, all in one message.
    """
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    problems = []
    for name, value in values.items():
        if name not in names:
            known = ["preset", *names] if hasattr(cls, "presets") else names
            near = difflib.get_close_matches(name, known, n=1)
            first, last = (f"did you mean {near[0]}? ", "") if near else ("", "Leave it out. ")
            what = f"{first}{cls.__name__} has no such parameter. {last}Allowed: {', '.join(known)}"
            problems.append(f"{name}: {given(value)}; {what}")
    checked, wrong = _check(cls, {name: value for name, value in values.items() if name in names})
    if problems or wrong:
        raise ConfigError("\n".join(problems + wrong))
    return cls(**checked)


def _check(cls: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values as they are to be stored, and one line for each that is missing or not allowed."""
    hints = get_type_hints(cls)
    checked: dict[str, Any] = {}
    problems: list[str] = []
    for f in dataclasses.fields(cls):
        kinds = alternatives(hints[f.name])
        allowed = " or ".join(described(kind, f.metadata) for kind in kinds) + " is allowed"
        if f.name not in values:
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                problems.append(f"{f.name}: not given; {allowed}: it has no default, give it")
            continue
        value = values[f.name]
        fitting = [kind for kind in kinds if fits(value, kind, f.metadata)]
        if not fitting or is_text_for_none(value, kinds):
            problems.append(f"{f.name}: {given(value)}; {question(f, value, kinds)}{allowed}: {fix(f, value, kinds)}")
        else:
            checked[f.name] = float(value) if fitting == [float] else value
    return checked, problems


def expanded(text: str | Path, name: str) -> Path:
    """The path, the home in place of a leading `~` or `~user`.

    name: of the parameter or the environment variable that gives it. Raises ConfigError where that home is not known:
    a folder named `~` would be made.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{name}: {str(text)!r} given, and no home is known for its user: write the whole path, or set HOME"
        ) from error
