"""What a notebook makes of papermill's parameters, without a kernel."""

import json
from pathlib import Path
from types import SimpleNamespace

from setn_lab.notebook import from_notebook

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def config_of_notebook(notebook: str, cls: type, name: str, text: str):
    """The config of `papermill -p name text` on notebooks/<notebook>.ipynb."""
    from papermill.cli import _resolve_type  # how papermill guesses a type
    from papermill.translators import PythonTranslator

    parameters = "".join(json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"][1]["source"])
    injected = PythonTranslator.codify({name: _resolve_type(text)})
    names: dict[str, object] = {}
    exec(parameters, names)
    exec(injected, names)
    return from_notebook(cls, SimpleNamespace(user_ns={**names, "In": ["", parameters, injected, "next"]}))
