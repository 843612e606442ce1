"""What of a config decides a run's result, and the digest that names its folder."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any


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
    return _naming(cls, values, decisive(cls, values))


def redone(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the fields that are `redone`, without those that `hashed` would leave out."""
    return _naming(cls, values, {name: values[name] for name in getattr(cls, "redone", ())})


def _naming(cls: type, values: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Those found that an older version would have written too, or that say something else than it did."""
    before = _values_before(cls, values)
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


def _values_before(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """What versions without them did, for the fields that were added later."""
    return {f.name: f.metadata["before"](values) for f in dataclasses.fields(cls) if "before" in f.metadata}


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
