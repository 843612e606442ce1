"""What a run is made of: its parameters, and what was found where they point to, such as the images of a folder.

A run folder keeps this in `identity.json`: of the parameters a digest; what was found, by the name of the parameter;
of each stage and product that may grow old the digest of what it was made from.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import setn_lab.config

NAME = "identity.json"
_ANY = {"digest": ""}  # in place of what was found, where that does not matter


def record(config: Any, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What identity.json holds of a run in the beginning."""
    return {
        "parameters": setn_lab.config.digest(config, dict.fromkeys(found, _ANY)),
        "contents": {name: dict(facts) for name, facts in found.items()},
        "products": {},
    }


class IdentityError(ValueError):
    """An identity.json that cannot be read, so that nobody knows what its run is made of."""


def read(folder: Path) -> dict[str, Any] | None:
    """What a run folder says of itself; None where it says nothing, as in earlier versions. Raises IdentityError."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(stored["parameters"], str) and isinstance(stored["products"], dict)):
            raise ValueError("it has another form")
        if not all(isinstance(facts["digest"], str) for facts in stored["contents"].values()):
            raise ValueError("it has another form")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IdentityError(
            f"{path} is damaged ({error!r}): restore it from a copy, or give another run_dir"
        ) from error
    return stored


def _neighbours(root: Path, kind: str, parameters: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The runs of those parameters and what was found for them; those that cannot be read are passed over."""
    for path in sorted(root.glob(f"{kind}-*/{NAME}")):
        with suppress(IdentityError):
            stored = read(path.parent)
            if stored is not None and stored["parameters"] == parameters:
                yield path.parent, stored["contents"]


def older_digest(config: Any) -> str:
    """The digest in the names of folders that have no identity.json: of the fields as they are written."""
    cls = type(config)
    values = setn_lab.config.values_of(config)
    named = {**setn_lab.config.redone(cls, values), **{name: values[name] for name in getattr(cls, "once_named", ())}}
    return setn_lab.config.short_hash([cls.__name__, {**setn_lab.config.identity(config), **named}])


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """In words what differs between two findings of one field; empty where nothing does."""
    if there.get("digest") == here.get("digest"):
        return ""
    if not there or not here:
        return f"given {'here' if here else 'there'} alone"
    lines = []
    for name in [*there, *(name for name in here if name not in there)]:
        old, new = there.get(name), here.get(name)
        if name in ("digest", "where") or old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += [f"{name}: {part} only there" for part in old if part not in new]
            lines += [f"{name}: {part} only here" for part in new if part not in old]
            lines += [
                f"{name}: {part} {old[part]} there, {new[part]} here"
                for part in old
                if part in new and old[part] != new[part]
            ]
        else:
            lines.append(f"{name}: {old} there, {new} here")
    return "; ".join(lines[:8]) + (f"; and {len(lines) - 8} more" if len(lines) > 8 else "") or "other content"


def same(root: Path, kind: str, config: Any, found: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """The folder of the same run under another name, as earlier versions gave; None where there is none."""
    digests = {name: facts["digest"] for name, facts in found.items()}
    for folder, there in _neighbours(root, kind, record(config, found)["parameters"]):
        named = re.fullmatch(rf"{re.escape(kind)}-[0-9a-f]{{10}}", folder.name)  # not by a person
        if named and {name: facts["digest"] for name, facts in there.items()} == digests:
            return folder
    return None


def elsewhere(root: Path, kind: str, config: Any, found: Mapping[str, Mapping[str, Any]]) -> tuple[Path, str] | None:
    """A run of the same parameters and places, where other things were found: its folder and what differs."""
    for folder, there in _neighbours(root, kind, record(config, found)["parameters"]):
        same_places = there.keys() == found.keys() and all(
            there[name].get("where") == facts.get("where") for name, facts in found.items()
        )
        changed = {name: changes(there[name], facts) for name, facts in found.items()} if same_places else {}
        if lines := [f"{name}: {text}" for name, text in changed.items() if text]:
            return folder, "\n  ".join(lines)
    return None
