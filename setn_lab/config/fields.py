"""How a config declares its fields: bounds, choices, what came later, what does not name the run."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
NAMES = {int: "an integer", float: "a number", bool: "True or False", str: "a text", NoneType: "None"}


def bounded(
    default: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    identity: bool = True,
    added: bool = False,
) -> Any:
    """A field for a number that must lie within these bounds; not part of `identity` where that is False.

    added: as in `choice`.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {name: bound for name, bound in bounds.items() if bound is not None}
    later = _before(default) if added else {}
    return dataclasses.field(default=default, metadata={**metadata, **later, "identity": identity})


def choice(default: str, among: Mapping[str, Any], added: bool = False) -> Any:
    """A field for one of the keys of a mapping, which may grow.

    added: whether a later version added the field with a default that keeps what was done before, see `later`.
    """
    metadata = {"among": among, **(_before(default) if added else {})}
    return dataclasses.field(default=default, metadata=metadata)


def later(default: Any, before: Any | Callable[[Mapping[str, Any]], Any]) -> Any:
    """A field that a later version added.

    before: what versions without it did, a value or a function of a config's other values. A config.json that lacks the
    field means that, and at that value the field has no part in `identity`, so that older runs stay what they are.
    """
    return dataclasses.field(default=default, metadata=_before(before))


def unhashed(default: Any) -> Any:
    """A field that says where things lie or how they are shown: it has no part in `identity`."""
    return dataclasses.field(default=default, metadata={"identity": False})


def _before(before: Any) -> dict[str, Any]:
    """The metadata of a field that a later version added."""
    return {"before": before if callable(before) else lambda values: before}


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation: (int, NoneType) for `int | None`."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for kind in kinds:
        if kind not in NAMES and get_origin(kind) is not Literal:
            raise TypeError(f"{kind} given; a config's field is int, float, bool, str, Literal or one of them | None")
    return kinds


def limits(bounds: Mapping[str, Any]) -> str:
    """The bounds of a number, a field's metadata, as "at least 0 and below 1"; empty without any."""
    return " and ".join(f"{word} {bounds[key]}" for key, word in _WORDS.items() if key in bounds)


def choices(kind: Any, bounds: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values that a kind allows, where it lists them."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(bounds["among"]) if kind is str and "among" in bounds else ()


def fits(value: Any, kind: Any, bounds: Mapping[str, Any]) -> bool:
    """Whether the value is of that kind and within the bounds, a field's metadata."""
    if get_origin(kind) is Literal:
        return any(type(value) is type(option) and value == option for option in get_args(kind))
    if kind not in (int, float):
        return isinstance(value, kind) and (kind is not str or value in bounds.get("among", (value,)))
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return (
        (kind is int or abs(value) <= sys.float_info.max)  # false for nan and inf, and for 10**400
        and value >= bounds.get("at_least", value)
        and value <= bounds.get("at_most", value)
        and ("above" not in bounds or value > bounds["above"])
        and ("below" not in bounds or value < bounds["below"])
    )


def is_text_for_none(value: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether a text was meant to be None: it would pass as the name of a folder."""
    return NoneType in kinds and isinstance(value, str) and value.lower() in ("none", "null")
