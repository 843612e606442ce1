"""A search through its notebook, watched from a shell: lines, sentences, the folder, the notebook, and no noise."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from references import TINY

from setn_lab.cli import main
from setn_lab.config import build
from setn_lab.runs import read_journal
from setn_lab.runs.progress import epoch_line
from setn_lab.runs.run import default_folder
from setn_lab.search import SearchConfig, verdict


@pytest.fixture
def shell(light_python):
    def shell(runs, *words, **surroundings):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SETN_LAB_RUNS": str(runs), **surroundings}
        command = [*light_python, "setn_lab", "search", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)

    return shell


def test_a_search_through_its_notebook_ends_with_what_it_has_shown(tmp_path, monkeypatch, shell):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    values = {**TINY, "baseline_candidates": 2, "interactive": False}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    output = tmp_path / "made" / "out.ipynb"
    done = shell(tmp_path / "runs", "-f", tmp_path / "tiny.yaml", "--notebook", output)
    assert done.stderr == ""
    assert done.returncode == 0
    folder = default_folder(build(SearchConfig, values), "search")
    first, *lines = done.stdout.splitlines()
    assert first == f"{folder.name}: a new run"
    epochs = [epoch_line(record) for record in read_journal(folder / "metrics.jsonl")]
    assert lines[: len(epochs)] == epochs
    rest = "\n".join(lines[len(epochs) :])
    assert rest == f"\n{verdict.verdict(folder).text()}\n\nrun folder: {folder}\nnotebook: {output}"
    cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    shown = ["".join(one["data"].get("text/markdown", "")) for one in cells[-1]["outputs"]]
    assert shown == [verdict.verdict(folder).markdown()]


def test_an_error_in_the_notebook_is_its_message_with_the_options_of_a_shell(tmp_path, shell):
    places = {"SETN_LAB_CACHE": str(tmp_path), "https_proxy": "http://localhost:9"}
    done = shell(tmp_path / "runs", "--notebook", tmp_path / "out.ipynb", **places)
    assert done.returncode == 1
    assert "--preset quick" in done.stderr
    assert ".py" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("output", ["notebooks/search.ipynb", "out.txt"])
def test_the_committed_notebook_is_not_written_over(capsys, monkeypatch, tmp_path, output):
    from setn_lab.headless import notebooks

    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path))
    monkeypatch.chdir(notebooks()[0].parents[1])
    assert main(["search", "--notebook", output]) == 2
    assert "notebook: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "-")],
)
def test_threads_spin_shortly_while_they_wait_unless_they_are_told_otherwise(given, spins):
    ours = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    code = "import sys, os, setn_lab; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT', '-'))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**ours, **given}, check=True)
    assert done.stdout.split() == ["False", spins]
