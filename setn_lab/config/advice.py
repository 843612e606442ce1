"""What an error says of a value that is not allowed: what was given, what is allowed, what to write instead."""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any

from setn_lab.config.fields import NAMES, choices, fits, is_text_for_none, limits
from setn_lab.config.yaml import with_point


def given(value: Any) -> str:
    """The value and its type."""
    return f"{value!r} ({type(value).__name__}) given"


def described(kind: Any, bounds: Mapping[str, Any]) -> str:
    """What a kind allows, as "an integer of at least 1"."""
    if options := choices(kind, bounds):
        return "one of " + ", ".join(repr(option) for option in options)
    if kind not in (int, float) or not (text := limits(bounds)):
        return NAMES[kind]
    return f"{NAMES[kind]} {'of ' if text.startswith('at') else ''}{text}"


def question(f: dataclasses.Field[Any], value: Any, kinds: tuple[Any, ...]) -> str:
    """The question that comes before all that is allowed."""
    near = "" if is_text_for_none(value, kinds) else _near(f, value, kinds)
    return f"did you mean {near}? " if near else ""


def fix(f: dataclasses.Field[Any], value: Any, kinds: tuple[Any, ...]) -> str:
    """What to write instead."""
    is_text = isinstance(value, str)
    if is_text_for_none(value, kinds):
        return f"write None, as in -p {f.name} None"
    if bool in kinds:
        turned = is_text and value.lower() in ("true", "false")
        why = f"papermill turns {value} into a text: " if turned else ""
        return f"{why}write True or False, as in -p {f.name} {value.capitalize() if turned else bool(f.default)}"
    if int in kinds and fits(whole := _whole(value), int, f.metadata):
        what = "quotes, exponent or point" if is_text else "exponent or point"
        return f"write it without {what}, as in -p {f.name} {whole}"
    if float in kinds and is_text and re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", value):
        pointed = with_point(value)
        return f"write {pointed}" + (f", as YAML takes {value} for a text" if pointed != value else " without quotes")
    if near := _near(f, value, kinds):
        return f"write -p {f.name} {near}"
    if str in kinds and "among" not in f.metadata:
        lost = "" if isinstance(value, bool) else ", as it was typed: what is read as a number loses zeros in front"
        return f"give it as a text, as in -r {f.name} {value}{lost}"
    if f.default is dataclasses.MISSING:
        return "write such a value"
    return f"write such a value, as in -p {f.name} {f.default}"


def _near(f: dataclasses.Field[Any], value: Any, kinds: tuple[Any, ...]) -> str:
    """The listed value that is nearly what was given; empty without one."""
    options = [str(option) for kind in kinds for option in choices(kind, f.metadata)]
    return next(iter(difflib.get_close_matches(str(value), options, n=1)), "")


def _whole(value: Any) -> int | None:
    """The integer that a float or a text with an integral value was meant to be."""
    if not isinstance(value, (float, str)):
        return None
    try:
        meant = float(value)
    except ValueError:
        return None
    return int(meant) if meant.is_integer() else None
