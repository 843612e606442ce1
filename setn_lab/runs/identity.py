"""What a run is made of: its parameters, and what was found where they point to, such as the images of a folder.

A run folder keeps this in `identity.json`: of the parameters a digest; what was found, by the name of the parameter;
of each stage and product that may grow old the digest of what it was made from.
"""

import json
from collections.abc import Mapping
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


def read(folder: Path) -> dict[str, Any] | None:
    """What a run folder says of itself; None where nothing, or nothing that can be read, is there."""
    try:
        stored = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) and {"parameters", "contents", "products"} <= stored.keys() else None


def older_digest(config: Any) -> str:
    """The digest in the names of folders that have no identity.json: of the fields as they are written."""
    cls = type(config)
    named = {name: getattr(config, name) for name in (*getattr(cls, "redone", ()), *getattr(cls, "once_named", ()))}
    return setn_lab.config.short_hash([cls.__name__, {**setn_lab.config.identity(config), **named}])


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """In words what differs between two findings of one field; empty where nothing does."""
    if there.get("digest") == here.get("digest"):
        return ""
    lines = []
    for name in [*there, *(name for name in here if name not in there)]:
        old, new = there.get(name, "nothing"), here.get(name, "nothing")
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


def elsewhere(root: Path, kind: str, config: Any, found: Mapping[str, Mapping[str, Any]]) -> tuple[Path, str] | None:
    """A run of the same parameters and places, where other things were found: its folder and what differs."""
    here = record(config, found)
    for path in sorted(root.glob(f"{kind}-*/{NAME}")):
        stored = read(path.parent)
        if stored is None or stored["parameters"] != here["parameters"]:
            continue
        there = stored["contents"]
        same_places = there.keys() == found.keys() and all(
            there[name].get("where") == facts.get("where") for name, facts in found.items()
        )
        changed = {name: changes(there[name], facts) for name, facts in found.items()} if same_places else {}
        if lines := [f"{name}: {text}" for name, text in changed.items() if text]:
            return path.parent, "\n  ".join(lines)
    return None
