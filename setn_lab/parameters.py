"""What is said of the parameters of a config class: read from the class, the one place where it stands.

The comment behind a field is its description. A comment line above a field is a heading, which holds until the next one
or the end of the class; a subclass adds to the headings of its base. The parameter cells of the notebooks and the
options of the command line are made from this.
"""

import ast
import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import textwrap
import tokenize
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import NoneType
from typing import Any, get_type_hints

from setn_lab import presets
from setn_lab.config import ConfigError, alternatives, choices, limits
from setn_lab.runs.environment import checkout

PLAIN = {"start.ipynb", "tutorial.ipynb"}  # notebooks without parameters
LAST = "machine", "run"  # headings that come after all others, whichever class has them


@dataclass(frozen=True)
class Parameter:
    """One parameter: the type of its values, whether None is one too, and what a reader is told.

    bounds: what is allowed beside the type, as "at least 1" or "full or racing"; may be empty, as description and
    heading may.
    """

    name: str
    type: type
    optional: bool
    default: Any
    bounds: str
    description: str
    heading: str

    @property
    def text(self) -> str:
        """The description and the bounds in a line."""
        return "; ".join(part for part in (self.description, self.bounds) if part)


def describe(cls: type) -> list[Parameter]:
    """The parameters of a config class, those under one heading together, the preset first where it takes any.

    Raises TypeError for a field without a default, and OSError where the class's source is not at hand.
    """
    notes = _notes(cls)
    hints = get_type_hints(cls)
    found = []
    if hasattr(cls, "presets"):
        names = _listed([*presets.preset_files(cls)])
        found.append(Parameter(presets.PARAMETER, str, True, None, names, presets.DESCRIPTION, presets.PARAMETER))
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING:
            raise TypeError(f"{cls.__name__}.{field.name} has no default; a notebook's parameter needs one")
        kinds = [kind for kind in alternatives(hints[field.name]) if kind is not NoneType]
        options = [str(option) for kind in kinds for option in choices(kind, field.metadata)]
        bounds = _listed(options) or limits(field.metadata)
        of_type = kinds[0] if isinstance(kinds[0], type) else type(choices(kinds[0], {})[0])
        optional = NoneType in alternatives(hints[field.name])
        heading, description = notes[field.name]
        found.append(Parameter(field.name, of_type, optional, field.default, bounds, description, heading))
    headings = list(dict.fromkeys(parameter.heading for parameter in found))
    order = [heading for heading in headings if heading not in LAST] + [
        heading for heading in LAST if heading in headings
    ]
    return sorted(found, key=lambda parameter: order.index(parameter.heading))


def _listed(options: list[str]) -> str:
    """As "a, b or c"."""
    return " or ".join(filter(None, [", ".join(options[:-1]), *options[-1:]]))


def _notes(cls: type) -> dict[str, tuple[str, str]]:
    """(heading, description) of each field, of the class nearest to `cls` that has one."""
    notes: dict[str, tuple[str, str]] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            for name, (heading, description) in _own_notes(base).items():
                above = notes.get(name, ("", ""))
                notes[name] = heading or above[0], description or above[1]
    return notes


def _own_notes(cls: type) -> dict[str, tuple[str, str]]:
    """(heading, description) of each field that the class itself declares, either empty where there is none."""
    source = textwrap.dedent(inspect.getsource(cls))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    (declaration,) = ast.parse(source).body
    assert isinstance(declaration, ast.ClassDef)
    notes, heading, end = {}, "", declaration.lineno
    for statement in declaration.body:
        headings = [comments[line] for line in range(end + 1, statement.lineno) if line in comments]
        heading = headings[-1] if headings else heading
        end = statement.end_lineno or statement.lineno
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            notes[statement.target.id] = heading, comments.get(end, "")
    return notes


def parameter_cell(cls: type, first_line: str) -> str:
    """The source of a notebook's parameter cell, which `papermill --help-notebook` reads too.

    first_line: begins with "# Parameters", see `notebook.from_notebook`. Raises ValueError for a description that
    papermill could not read, and what `describe` raises.
    """
    lines, heading = [first_line], ""
    for parameter in describe(cls):
        if parameter.heading != heading:
            lines += ["", f"# {parameter.heading}"]
            heading = parameter.heading
        if "=" in parameter.text:
            raise ValueError(
                f"{cls.__name__}.{parameter.name}: papermill reads no comment with = in it: {parameter.text}"
            )
        default = (
            json.dumps(parameter.default, ensure_ascii=False)
            if isinstance(parameter.default, str)
            else repr(parameter.default)
        )
        comment = f"  # {parameter.text}" if parameter.text else ""
        lines.append(f"{parameter.name}: {parameter.type.__name__} = {default}{comment}")
    return "\n".join(lines)


def notebooks() -> list[Path]:
    """The notebooks of the checkout that have parameters. Raises ConfigError where setn_lab has no checkout."""
    folder = checkout()
    if folder is None:
        raise ConfigError("no checkout of setn_lab here; name the notebooks whose parameter cells are meant")
    return sorted(path for path in (folder / "notebooks").glob("*.ipynb") if path.name not in PLAIN)


def with_parameters(notebook: str) -> str:
    """A notebook, given as JSON, with its parameter cell made anew from its config class.

    The cell is the one tagged `parameters`, whose first line stays; the class is the one given to `from_notebook`.
    Raises ConfigError for a notebook without one of the two.
    """
    content = json.loads(notebook)
    cells = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    cls = config_class(content)
    if len(cells) != 1 or cls is None:
        raise ConfigError(
            f"{len(cells)} cells tagged `parameters` and {'no' if cls is None else 'a'} config class given to "
            "from_notebook; a notebook needs one of each"
        )
    first_line = "".join(cells[0]["source"]).partition("\n")[0]
    cells[0]["source"] = parameter_cell(cls, first_line).splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"  # as Jupyter writes it


def config_class(notebook: dict[str, Any]) -> type | None:
    """The class that a notebook, parsed JSON, imports and gives to `from_notebook`; None where there is none."""
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    imports = [(node.module or "", alias) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    modules = {alias.asname or alias.name: (module, alias.name) for module, alias in imports}
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "from_notebook":
            name, *attributes = ast.unparse(node.args[0]).split(".")
            if name in modules:
                module, name = modules[name]
                with contextlib.suppress(ModuleNotFoundError):  # it is a class, not a module
                    importlib.import_module(f"{module}.{name}")
                return attrgetter(".".join([name, *attributes]))(importlib.import_module(module))
    return None
