"""The site: pages of docs/, reports/ and notebooks/, and the docstrings. `make docs` builds it.

The source folder is the checkout, so that links between files work here as they do on GitHub.
"""

import re
from pathlib import Path
from typing import Any

import setn_lab

ROOT = Path(__file__).parents[1]

project = "setn_lab"
author = copyright = "the setn_lab developers"
version = release = setn_lab.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["docs/**", "reports/*.md", "reports/*/README.md", "notebooks/*.ipynb", "*.md"]
exclude_patterns = ["reports/runs", "README.md", "docs/templates"]

html_theme = "furo"
html_title = "setn_lab"
html_additional_pages = {"index": "start.html"}  # the site's own first page, which leads into docs/
templates_path = [str(ROOT / "docs" / "templates")]  # autosummary would look for them beside the pages

# Markdown as on GitHub, and LaTeX between dollars
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# The tutorial is executed once, and again when its cells change; the other notebooks show their cells alone.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "executed")
nb_execution_excludepatterns = [
    f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb") if path.stem != "tutorial"
]
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove"  # such as fontconfig's warnings about a machine's fonts

autosummary_generate = True
autosummary_ignore_module_all = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"


def to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code`, lists and indented blocks of code; Sphinx reads reStructuredText."""
    text: list[str] = []
    block = False
    for line in lines:
        if line.startswith("    ") and not block and text[-1:] == [""]:
            block = True
            text += ["::", ""]
        elif line and not line.startswith("    "):
            block = False
        if block:
            text.append(line)
            continue
        if line.startswith("- ") and text and text[-1] and not text[-1].startswith(("- ", "  ")):
            text.append("")  # a list needs an empty line before it
        parts = line.split("`")
        parts[::2] = [re.sub(r"([\\*|_])", r"\\\1", part) for part in parts[::2]]
        parts[1::2] = [rf"\ ``{part}``\ " for part in parts[1::2]]
        text.append("".join(parts))
    lines[:] = text


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("autodoc-process-docstring", to_rst)
