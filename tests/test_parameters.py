"""Parameters have one source, the config classes: what is read from them, and the cells that are made from it."""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
from papermill.translators import PythonTranslator

from setn_lab.config import ConfigError, bounded, choice, unhashed
from setn_lab.notebook import from_notebook
from setn_lab.parameters import Parameter, describe, notebooks, parameter_cell, with_parameters


@dataclass(frozen=True, kw_only=True)
class Base:
    """Text of the class: no comment."""

    space: str = choice("a", {"a": 1, "b": 2, "c": 3})  # which cells there are
    # training
    epochs: int = bounded(400, at_least=1)  # of the template
    rate: float = bounded(
        0.5,
        above=0,
        below=1,
    )  # declared over several lines

    # machine, a first line
    # machine
    device: str = "auto"

    # images
    limit: int | None = bounded(None, at_least=2)  # None: all
    # below the last field of the heading


@dataclass(frozen=True, kw_only=True)
class Derived(Base):
    space: Literal["a"] = "a"
    epochs: int = bounded(20, at_least=1)

    # training
    mode: Literal["fast", "safe"] = "fast"  # of "both"

    # results
    folder: str | None = unhashed(None)

    @property
    def size(self) -> int:  # no parameter
        return 1

    # training
    flip: bool = True


def test_comments_of_a_class_are_its_parameters_descriptions_and_headings():
    assert describe(Base) == [
        Parameter("space", str, False, "a", "a, b or c", "which cells there are", ""),
        Parameter("epochs", int, False, 400, "at least 1", "of the template", "training"),
        Parameter("rate", float, False, 0.5, "above 0 and below 1", "declared over several lines", "training"),
        Parameter("limit", int, True, None, "at least 2", "None: all", "images"),
        Parameter("device", str, False, "auto", "", "", "machine"),
    ]


def test_a_subclass_adds_to_its_bases_headings_and_may_say_things_anew():
    found = describe(Derived)
    headings = {one.name: one.heading for one in found}
    assert list(headings) == ["space", "epochs", "rate", "mode", "flip", "limit", "folder", "device"]
    assert list(headings.values()) == ["", *["training"] * 4, "images", "results", "machine"]
    named = {one.name: one for one in found}
    assert (named["space"].bounds, named["space"].description) == ("a", "which cells there are")
    assert (named["epochs"].default, named["epochs"].description) == (20, "of the template")


CELL = """\
# Parameters: a first line
space: str = "a"  # which cells there are; a

# training
epochs: int = 20  # of the template; at least 1
rate: float = 0.5  # declared over several lines; above 0 and below 1
mode: str = "fast"  # of "both"; fast or safe
flip: bool = True

# images
limit: int = None  # None: all; at least 2

# results
folder: str = None

# machine
device: str = "auto\""""


def test_the_cell_shows_them_under_their_headings():
    assert parameter_cell(Derived, "# Parameters: a first line") == CELL


def test_papermill_and_the_notebook_read_the_cell():
    read = PythonTranslator.inspect({"source": CELL})
    expected = {one.name: (one.type.__name__, one.text) for one in describe(Derived)}
    assert {one.name: (one.inferred_type_name, one.help) for one in read} == expected
    names: dict[str, object] = {}
    exec(CELL, names)
    assert from_notebook(Derived, SimpleNamespace(user_ns={**names, "In": ["", CELL, "next"]})) == Derived()


def test_a_description_that_papermill_cannot_read_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        switches: str = ""  # such as epochs=3

    with pytest.raises(ValueError, match=r"Wrong\.switches.*epochs=3"):
        parameter_cell(Wrong, "# Parameters")


def test_a_parameter_needs_a_default():
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        value: int

    with pytest.raises(TypeError, match=r"Wrong\.value has no default"):
        describe(Wrong)


def notebook(*cells: str) -> str:
    """A notebook whose first cell has the tag of parameters."""
    content = [
        {"cell_type": "code", "metadata": {} if place else {"tags": ["parameters"]}, "source": [source]}
        for place, source in enumerate(cells)
    ]
    return json.dumps({"cells": content, "metadata": {}})


@pytest.mark.parametrize(
    "cell",
    [
        "import test_parameters\nfrom test_parameters import Derived\nconfig = from_notebook(Derived, get_ipython())",
        "from test_parameters import Derived as Mine\nfrom_notebook(Mine, shell)",
    ],
)
def test_a_notebooks_cell_is_made_anew_from_the_class_it_takes(cell):
    before = notebook("# Parameters: a first line\nepochs: int = 3\nold: int = 4", "x = 1", cell)
    after = with_parameters(before)
    (first, *rest), (_, *untouched) = (json.loads(text)["cells"] for text in (after, before))
    assert "".join(first.pop("source")) == CELL
    assert first == {"cell_type": "code", "metadata": {"tags": ["parameters"]}}
    assert rest == untouched
    assert with_parameters(after) == after == json.dumps(json.loads(after), indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("cells", [("# Parameters", "x = 1"), ("# Parameters", "from_notebook(Unknown, shell)")])
def test_a_notebook_without_a_config_class_is_refused(cells):
    with pytest.raises(ConfigError, match="no config class"):
        with_parameters(notebook(*cells))


def test_the_notebooks_of_the_checkout_are_found():
    assert {"search.ipynb", "inspect.ipynb"} < {path.name for path in notebooks()}
