"""Copies of the notebooks: the checkout stays as it is, and nobody's work is lost."""

import json
import subprocess
from pathlib import Path

import nbformat
import pytest

from setn_lab import workbench
from setn_lab.workbench import refresh

ROOT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path):
    """A checkout with one notebook."""
    (tmp_path / "notebooks").mkdir()
    commit(tmp_path, "x = 1")
    return tmp_path


def commit(root, *sources):
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{place}") for place, source in enumerate(sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / "a.ipynb")


def of(path):
    return nbformat.read(path, as_version=4)


def sources(root):
    return [cell.source for cell in of(root / "work" / "a.ipynb").cells]


def test_a_copy_follows_the_committed_notebook(root):
    assert refresh(root) == []
    assert (root / "work" / "a.ipynb").read_bytes() == (root / "notebooks" / "a.ipynb").read_bytes()
    commit(root, "x = 2")
    assert refresh(root) == []
    assert sources(root) == ["x = 2"]
    (root / "work" / "a.ipynb").unlink()
    assert refresh(root) == []
    assert sources(root) == ["x = 2"]


def worked(notebook, how):
    if how == "edited":
        notebook.cells[0].source = "x = 10"
    elif how == "run":
        notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="1")]
    else:
        notebook.cells.append(nbformat.v4.new_code_cell("y = 2"))


@pytest.mark.parametrize("how", ["edited", "run", "longer"])
def test_what_somebody_has_worked_in_stays_and_is_told_once_it_is_older(root, how):
    refresh(root)
    copy = root / "work" / "a.ipynb"
    notebook = of(copy)
    worked(notebook, how)
    nbformat.write(notebook, copy)
    before = copy.read_bytes()
    assert refresh(root) == []
    commit(root, "x = 2")
    for _ in range(2):
        (notice,) = refresh(root)
        assert "work/a.ipynb" in notice
        assert copy.read_bytes() == before


def test_saving_alone_is_no_work(root):
    refresh(root)
    notebook = of(root / "work" / "a.ipynb")
    notebook.metadata["language_info"] = {"name": "python", "version": "3.99"}
    notebook.cells[0].execution_count = 3
    notebook.cells.append(nbformat.v4.new_code_cell(""))  # JupyterLab adds one below the last that was run
    nbformat.write(notebook, root / "work" / "a.ipynb")
    commit(root, "x = 2")
    assert refresh(root) == []
    assert sources(root) == ["x = 2"]


def test_a_file_that_is_no_notebook_any_more_stays(root):
    refresh(root)
    (root / "work" / "a.ipynb").write_text("torn", encoding="utf-8")
    commit(root, "x = 2")
    assert len(refresh(root)) == 1
    assert (root / "work" / "a.ipynb").read_text(encoding="utf-8") == "torn"


def test_git_sees_none_of_it(tmp_path):
    names = [f"{workbench.WORK}/{name}" for name in ("a.ipynb", workbench.MADE, "x/out.png")]
    done = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == names


def test_lab_opens_the_first_page_in_the_checkout(root, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(workbench.subprocess, "run", lambda command, check: called.append(command))
    refresh(root)
    (root / "work" / "a.ipynb").write_text(json.dumps({"cells": []}), encoding="utf-8")
    commit(root, "x = 2")
    workbench.open_lab(root, ["--no-browser"])
    (command,) = called
    assert f"--ServerApp.root_dir={root}" in command
    assert command[-2:] == ["--LabApp.default_url=/lab/tree/work/start.ipynb", "--no-browser"]
    assert (ROOT / "notebooks" / "start.ipynb").exists()
    assert "work/a.ipynb has changes" in capsys.readouterr().out
