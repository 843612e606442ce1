"""What is installed and what is not: the wheel, the extras, and what an import loads."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import setn_lab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = [
    "IPython",
    "anywidget",
    "ipywidgets",
    "itables",
    "jupyterlab",
    "papermill",
    "psutil",
    "pygraphviz",
    "voila",
]
COME_WITH = {"traitlets", "nbclient"}  # parts of what ipywidgets and papermill are worked with by
ONLY_IN_NOTEBOOKS = ["setn_lab.headless", "setn_lab.notebook", "setn_lab.widgets"]


def run(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_module(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", "setn_lab"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    build = "import setuptools.build_meta, sys; setuptools.build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, "dist"], check=True, cwd=tmp_path, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "setn_lab").rglob("*.py")}
    assert inside == modules | {"setn_lab/py.typed"}


def test_the_version_is_that_of_the_project():
    assert setn_lab.__version__ == PROJECT["version"]
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    with pytest.raises(AttributeError, match="no attribute 'versions'"):
        setn_lab.versions  # noqa: B018


def test_the_networks_need_torch_and_numpy_alone():
    loaded = run("import setn_lab.network, sys; print(*sys.modules)").split()
    others = {"matplotlib", "pandas", "scipy", "sklearn", "torchvision", "graphviz", "PIL", "ray", *NOTEBOOKS}
    assert not others & set(loaded)
    assert {"torch", "numpy"} <= set(loaded)


EVERY_OTHER = """
import importlib, pkgutil, sys
for name in sys.argv[1].split():
    sys.modules[name] = None
import setn_lab
for module in pkgutil.walk_packages(setn_lab.__path__, "setn_lab.", onerror=lambda name: None):
    if not module.name.startswith(tuple(sys.argv[2].split())) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)

from setn_lab.figures import cells, style
from setn_lab.space.named import resolve
drawing = cells.draw(resolve("SETN")[1])
print(drawing.source)
for call in (lambda: style.show(drawing), *(lambda n=n: importlib.import_module(n) for n in sys.argv[2].split())):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)
"""


def test_only_what_is_for_notebooks_needs_their_packages():
    """Without them everything else is imported, a cell is drawn to DOT, and one sentence says what to install."""
    printed = run(EVERY_OTHER, " ".join([*NOTEBOOKS, "ray"]), " ".join(ONLY_IN_NOTEBOOKS))
    lines = printed.splitlines()
    dot, said = lines[: -1 - len(ONLY_IN_NOTEBOOKS)], lines[-1 - len(ONLY_IN_NOTEBOOKS) :]
    assert dot[0].startswith("digraph")
    for subject, line in zip(["a drawing", *ONLY_IN_NOTEBOOKS], said, strict=True):
        assert line.startswith(f"{subject}")
        assert line.endswith("which is not installed: pip install 'setn_lab[notebooks]'")


def test_what_is_imported_is_what_is_declared():
    extras = PROJECT["optional-dependencies"]
    core, others = (
        {re.split(r"[\[>]", entry)[0].lower().replace("-", "_") for entry in entries}
        for entries in (PROJECT["dependencies"], [entry for name in extras if name != "dev" for entry in extras[name]])
    )
    owners = packages_distributions()
    imported = set()
    for path in (ROOT / "setn_lab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    imported -= {"setn_lab", "nats_bench", *sys.stdlib_module_names}  # nats_bench: the user's, see groundtruth.table
    installed = {module: {owner.lower().replace("-", "_") for owner in owners[module]} for module in imported}
    used = set().union(*installed.values())
    assert core <= used
    assert [module for module, names in installed.items() if not names & (core | others | COME_WITH)] == []
