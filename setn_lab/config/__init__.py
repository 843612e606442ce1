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

from setn_lab.config.check import Config, ConfigError, build, expanded, validate
from setn_lab.config.fields import alternatives, bounded, choice, choices, later, limits, unhashed
from setn_lab.config.naming import (
    completed,
    contents,
    decisive,
    differences,
    digest,
    hashed,
    identity,
    redone,
    short_hash,
    values_of,
)
from setn_lab.config.yaml import to_json

__all__ = [
    "Config",
    "ConfigError",
    "alternatives",
    "bounded",
    "build",
    "choice",
    "choices",
    "completed",
    "contents",
    "decisive",
    "differences",
    "digest",
    "expanded",
    "hashed",
    "identity",
    "later",
    "limits",
    "redone",
    "short_hash",
    "to_json",
    "unhashed",
    "validate",
    "values_of",
]
