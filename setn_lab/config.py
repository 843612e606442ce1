"""Configs: flat frozen dataclasses whose fields are the parameters of a notebook.

papermill only warns on a misspelt parameter and guesses types (`false` becomes a text, `4e2` a float), so a
config checks names, types and bounds strictly. A config is declared as

    @dataclass(frozen=True, kw_only=True)
    class SearchConfig:
        epochs: int = bounded(400, at_least=1)
        strategy: Literal["setn", "setn-lr"] = "setn"
        space: str = choice("small", KITS)
        run_dir: str | None = unhashed(None)

        def __post_init__(self) -> None:
            validate(self)

with annotations among int, float, bool, str, Literal[...] and each of these `| None`.

A field that says where something lies, such as a folder of images, does not say what lies there. Where a run depends on
that, the class has a method `contents()`: by the name of the field what was found, a mapping with a `digest` and with
what a person can compare. It takes the field's place in the identity. Fields named in the class's `redone` belong to
the last part of a run, which is done again where they change: they have no part in its identity. Those in
`once_named` had one in earlier versions, and are in the names of their folders.
"""

import dataclasses
import difflib
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")
_WORDS = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
_NAMES = {int: "an integer", float: "a number", bool: "True or False", str: "a text", NoneType: "None"}


class ConfigError(ValueError):
    """A parameter is unknown, missing, or has a value that is not allowed: one line for each problem."""


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
            problems.append(f"{name}: {_given(value)}; {what}")
    checked, wrong = _check(cls, {name: value for name, value in values.items() if name in names})
    if problems or wrong:
        raise ConfigError("\n".join(problems + wrong))
    return cls(**checked)


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


def to_json(config: Any) -> str:
    """All fields as JSON that YAML 1.1 reads as the same values, so that `papermill -f` repeats the run."""
    lines = [f"  {_text(f.name)}: {_text(getattr(config, f.name))}" for f in dataclasses.fields(config)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def values_of(config: Any) -> dict[str, Any]:
    """All fields."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def identity(config: Any) -> dict[str, Any]:
    """The fields that decide the result, see `hashed`."""
    return hashed(type(config), values_of(config))


def contents(config: Any) -> dict[str, Mapping[str, Any]]:
    """What was found where the fields say, by field; empty for a class without `contents`."""
    return config.contents() if hasattr(config, "contents") else {}


def hashed(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the `decisive` values which name the run.

    Left out are fields added later that have the value of versions without them: so the values that an older version
    wrote come to the same.
    """
    before = _values_before(cls, values)
    found = decisive(cls, values)
    return {name: value for name, value in found.items() if name not in before or value != before[name]}


def decisive(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config of that class that decide the result.

    Left out are the fields declared with `unhashed` or `identity=False`, and those that are `redone`.
    """
    left_out = {f.name for f in dataclasses.fields(cls) if not f.metadata.get("identity", True)}
    left_out |= set(getattr(cls, "redone", ()))
    return {name: value for name, value in values.items() if name not in left_out}


def completed(cls: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says, and for fields that a later version added, what its own version did."""
    return {**_values_before(cls, stored), **stored}


def digest(config: Any, found: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """10 hexadecimal characters that two configs share when their class and their identity are the same.

    found: the config's `contents`, whose digests take the place of the fields.
    """
    found = found or {}
    replaced = {**identity(config), **{name: facts["digest"] for name, facts in found.items()}}
    return short_hash([type(config).__name__, replaced])


def short_hash(value: Any) -> str:
    """10 hexadecimal characters that values share when they are the same as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between `a` (there) and `b` (here), as "epochs: 3 there, 4 here"."""
    lines = []
    for name in [*a, *(name for name in b if name not in a)]:
        there, here = (repr(values[name]) if name in values else "absent" for values in (a, b))
        same_kind = isinstance(a.get(name), bool) == isinstance(b.get(name), bool)  # True == 1 in Python
        if (name in a) != (name in b) or a[name] != b[name] or not same_kind:
            lines.append(f"{name}: {there} there, {here} here")
    return lines


def _before(before: Any) -> dict[str, Any]:
    """The metadata of a field that a later version added."""
    return {"before": before if callable(before) else lambda values: before}


def _values_before(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """What versions without them did, for the fields that were added later."""
    return {f.name: f.metadata["before"](values) for f in dataclasses.fields(cls) if "before" in f.metadata}


def _check(cls: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values as they are to be stored, and one line for each that is missing or not allowed."""
    hints = get_type_hints(cls)
    checked: dict[str, Any] = {}
    problems: list[str] = []
    for f in dataclasses.fields(cls):
        kinds = alternatives(hints[f.name])
        allowed = " or ".join(_describe(kind, f.metadata) for kind in kinds) + " is allowed"
        if f.name not in values:
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                problems.append(f"{f.name}: not given; {allowed}: it has no default, give it")
            continue
        value = values[f.name]
        fitting = [kind for kind in kinds if _fits(value, kind, f.metadata)]
        if not fitting or _is_text_for_none(value, kinds):
            problems.append(f"{f.name}: {_given(value)}; {_meant(f, value, kinds)}{allowed}: {_fix(f, value, kinds)}")
        else:
            checked[f.name] = float(value) if fitting == [float] else value
    return checked, problems


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation: (int, NoneType) for `int | None`."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for kind in kinds:
        if kind not in _NAMES and get_origin(kind) is not Literal:
            raise TypeError(f"{kind} given; a config's field is int, float, bool, str, Literal or one of them | None")
    return kinds


def _fits(value: Any, kind: Any, bounds: Mapping[str, Any]) -> bool:
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


def _is_text_for_none(value: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether a text was meant to be None: it would pass as the name of a folder."""
    return NoneType in kinds and isinstance(value, str) and value.lower() in ("none", "null")


def _given(value: Any) -> str:
    return f"{value!r} ({type(value).__name__}) given"


def _describe(kind: Any, bounds: Mapping[str, Any]) -> str:
    """What a kind allows, as "an integer of at least 1"."""
    if options := choices(kind, bounds):
        return "one of " + ", ".join(repr(option) for option in options)
    if kind not in (int, float) or not (text := limits(bounds)):
        return _NAMES[kind]
    return f"{_NAMES[kind]} {'of ' if text.startswith('at') else ''}{text}"


def limits(bounds: Mapping[str, Any]) -> str:
    """The bounds of a number, a field's metadata, as "at least 0 and below 1"; empty without any."""
    return " and ".join(f"{word} {bounds[key]}" for key, word in _WORDS.items() if key in bounds)


def choices(kind: Any, bounds: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values that a kind allows, where it lists them."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(bounds["among"]) if kind is str and "among" in bounds else ()


def _near(f: dataclasses.Field[Any], value: Any, kinds: tuple[Any, ...]) -> str:
    """The listed value that is nearly what was given; empty without one."""
    options = [str(option) for kind in kinds for option in choices(kind, f.metadata)]
    return next(iter(difflib.get_close_matches(str(value), options, n=1)), "")


def _meant(f: dataclasses.Field[Any], value: Any, kinds: tuple[Any, ...]) -> str:
    """The question that comes before all that is allowed."""
    near = "" if _is_text_for_none(value, kinds) else _near(f, value, kinds)
    return f"did you mean {near}? " if near else ""


def _fix(f: dataclasses.Field[Any], value: Any, kinds: tuple[Any, ...]) -> str:
    """What to write instead."""
    is_text = isinstance(value, str)
    if _is_text_for_none(value, kinds):
        return f"write None, as in -p {f.name} None"
    if bool in kinds:
        turned = is_text and value.lower() in ("true", "false")
        why = f"papermill turns {value} into a text: " if turned else ""
        return f"{why}write True or False, as in -p {f.name} {value.capitalize() if turned else bool(f.default)}"
    if int in kinds and _fits(whole := _whole(value), int, f.metadata):
        what = "quotes, exponent or point" if is_text else "exponent or point"
        return f"write it without {what}, as in -p {f.name} {whole}"
    if float in kinds and is_text and re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", value):
        pointed = _with_point(value)
        return f"write {pointed}" + (f", as YAML takes {value} for a text" if pointed != value else " without quotes")
    if near := _near(f, value, kinds):
        return f"write -p {f.name} {near}"
    if str in kinds and "among" not in f.metadata:
        lost = "" if isinstance(value, bool) else ", as it was typed: what is read as a number loses zeros in front"
        return f"give it as a text, as in -r {f.name} {value}{lost}"
    if f.default is dataclasses.MISSING:
        return "write such a value"
    return f"write such a value, as in -p {f.name} {f.default}"


def _whole(value: Any) -> int | None:
    """The integer that a float or a text with an integral value was meant to be."""
    if not isinstance(value, (float, str)):
        return None
    try:
        meant = float(value)
    except ValueError:
        return None
    return int(meant) if meant.is_integer() else None


def _with_point(text: str) -> str:
    """A float's text as YAML 1.1 knows it, with a point and a signed exponent: 1e-3 becomes 1.0e-3."""
    mantissa, e, exponent = text.lower().partition("e")
    if e and "." not in mantissa:
        mantissa += ".0"
    if e and exponent[0] not in "+-":
        exponent = "+" + exponent
    return mantissa + e + exponent


def _text(value: Any) -> str:
    """One value as JSON that YAML 1.1 reads alike."""
    if isinstance(value, float):
        return _with_point(repr(float(value)))
    if isinstance(value, str):  # YAML does not join JSON's surrogate pairs, so characters beyond 16 bits stay
        return '"' + "".join(c if c > "\uffff" else json.dumps(c)[1:-1] for c in value) + '"'
    return json.dumps(value)
