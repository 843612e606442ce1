"""Values as JSON that YAML 1.1 reads alike."""

import dataclasses
import json
from typing import Any


def to_json(config: Any) -> str:
    """All fields as JSON that YAML 1.1 reads as the same values, so that `papermill -f` repeats the run."""
    lines = [f"  {_text(f.name)}: {_text(getattr(config, f.name))}" for f in dataclasses.fields(config)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _text(value: Any) -> str:
    """One value as JSON that YAML 1.1 reads alike."""
    if isinstance(value, float):
        return with_point(repr(float(value)))
    if isinstance(value, str):  # YAML does not join JSON's surrogate pairs, so characters beyond 16 bits stay
        return '"' + "".join(c if c > "\uffff" else json.dumps(c)[1:-1] for c in value) + '"'
    return json.dumps(value)


def with_point(text: str) -> str:
    """A float's text as YAML 1.1 knows it, with a point and a signed exponent: 1e-3 becomes 1.0e-3."""
    mantissa, e, exponent = text.lower().partition("e")
    if e and "." not in mantissa:
        mantissa += ".0"
    if e and exponent[0] not in "+-":
        exponent = "+" + exponent
    return mantissa + e + exponent
