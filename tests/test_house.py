"""The house: imports run one way, and what the documents name exists."""

import ast
import importlib
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "setn_lab"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# The floors of the house, from the ground up; what stands on one line does not import each other.
FLOORS = [
    {"space", "config", "extras"},
    {"runs", "compute"},
    {"presets"},
    {"parameters", "notebook", "data"},
    {"network"},
    {"figures", "template"},
    {"evaluator", "retrain"},
    {"kits"},
    {"search"},
    {"inspection", "studies"},
    {"listing"},
    {"widgets"},
]

# The command line, which sees everything.
DOORS = {"__main__", "cli", "commands", "headless", "options", "terminal", "workbench"}


def imports(path):
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return {name for name in found if name in MODULES}


GRAPH = {name: imports(path) for name, path in MODULES.items()}


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_no_module_imports_itself_through_others():
    try:
        list(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(f"modules that import each other: {error.args[1]}")


def test_rooms_import_only_what_lies_below():
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    upward = [
        (module, other)
        for module, others in GRAPH.items()
        for other in others
        if room(module) in floor and not module.endswith(".__main__") and room(other) and room(module) != room(other)
        if floor.get(room(other), len(FLOORS)) >= floor[room(module)]
    ]
    assert not upward
    rooms = {room(module) for module in MODULES} - {""}
    assert rooms - set(floor) <= DOORS


def defined(path):
    """The names that a module defines, a class's own as CLASS.NAME."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{part.name}" for part in getattr(node, "body", []) if hasattr(part, "name")}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


NAME = r"`[A-Za-z_][\w.]*`"
PLACE = re.compile(rf"((?:{NAME}(?:, | and ))*{NAME}) in `(setn_lab/[\w/]+\.py)`")


def test_every_place_that_the_decisions_name_exists():
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    places = PLACE.findall(text)
    assert len(places) > 30
    missing = [
        f"{name} in {path}"
        for names, path in places
        for name in re.findall(r"[\w.]+", names.replace(" and ", " "))
        if not (ROOT / path).exists() or name not in defined(ROOT / path)
    ]
    assert not missing
    paths = set(re.findall(r"`((?:setn_lab/)?[a-z_0-9]+/[\w/]+\.py)`", text))
    assert not [path for path in paths if not any((base / path).exists() for base in (ROOT, PACKAGE))]


PUBLIC = {
    "setn_lab.space": ("Genotype", "GenotypeError", "SearchSpace", "SMALL", "LARGE"),
    "setn_lab.network": ("CifarNetwork", "ImageNetNetwork", "cost"),
    "setn_lab.search": ("SearchConfig", "prepare_search", "train", "estimate"),
    "setn_lab.retrain": ("RetrainConfig", "prepare_retraining", "retrain"),
    "setn_lab.runs": ("Run", "read_journal"),
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_where_users_import_them(module):
    face = importlib.import_module(module)
    assert set(PUBLIC[module]) <= set(face.__all__)
    assert all(hasattr(face, name) for name in face.__all__)


def test_the_readme_names_modules_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"from (setn_lab[\w.]*) import ([\w, ]+)", text):
        face = importlib.import_module(name[0])
        assert all(hasattr(face, part.strip()) for part in name[1].split(","))
    for dotted in re.findall(r"`(setn_lab(?:\.\w+)+)", text):
        module, _, last = dotted.rpartition(".")
        assert dotted in MODULES or hasattr(importlib.import_module(module), last), dotted


TEXT_MODES = re.compile(r"[rwax]t?\+?")


def without_encoding(call):
    """Whether a call reads or writes a text in the encoding of the system's locale."""
    if not isinstance(call, ast.Call) or any(word.arg == "encoding" for word in call.keywords):
        return False
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return True
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        modes = call.args[1:2]
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "open" and call.args:
        modes = call.args[:1]
        if not isinstance(modes[0], ast.Constant):  # what is opened, as by Image.open and os.open
            return False
    else:
        return False
    return not modes or (isinstance(modes[0], ast.Constant) and bool(TEXT_MODES.fullmatch(str(modes[0].value))))


def test_texts_are_utf8_whatever_the_locale():
    assert [
        without_encoding(ast.parse(text).body[0].value)
        for text in ("open(p)", "p.open('w')", "p.read_text()", "open(p, 'rb')", "p.open('wb')", "Image.open(p)")
    ] == [True, True, True, False, False, False]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("setn_lab", "benchmarks", "docs", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if without_encoding(node)
    ]
    assert not found, "give encoding='utf-8'"


def test_test_files_have_names_of_their_own():
    """pytest takes two files of one name for the same module, and collects neither."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
