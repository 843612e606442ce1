"""Parameters as a user gives them: to a notebook by papermill, without a kernel, and to the command line."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from setn_lab.config import ConfigError
from setn_lab.notebook import from_notebook

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def config_of_notebook(notebook: str, cls: type, name: str, text: str):
    """The config of `papermill -p name text` on notebooks/<notebook>.ipynb."""
    from papermill.cli import _resolve_type  # how papermill guesses a type
    from papermill.translators import PythonTranslator

    parameters = "".join(
        json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"][1]["source"]
    )
    injected = PythonTranslator.codify({name: _resolve_type(text)})
    names: dict[str, object] = {}
    exec(parameters, names)
    exec(injected, names)
    return from_notebook(cls, SimpleNamespace(user_ns={**names, "In": ["", parameters, injected, "next"]}))


def check_refusal(notebook: str, cls: type, name: str, text: str, parts: list[str]) -> None:
    """`papermill -p name text` is refused in one line that holds these parts."""
    with pytest.raises(ConfigError) as caught:
        config_of_notebook(notebook, cls, name, text)
    (line,) = str(caught.value).splitlines()
    for part in parts:
        assert part in line


def as_options(values: dict[str, object]) -> list[str]:
    """The words that give the command line these values."""
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
