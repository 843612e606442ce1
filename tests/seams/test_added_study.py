"""A study from outside: a file that collects, a file that reports, and a notebook; nothing of the package is copied."""

import importlib
import json
import sys
from pathlib import Path

import nbformat
import pytest

COLLECT = '''
"""Does the loss of uniform candidates vary more than that of the evaluator's?"""

from dataclasses import dataclass

from setn_lab.config import bounded
from setn_lab.runs import Run
from setn_lab.search import prepare_search, train
from setn_lab.search.candidates import score
from setn_lab.studies.config import StudyConfig, copy_journal


@dataclass(frozen=True, kw_only=True)
class SpreadConfig(StudyConfig):
    """The parameters of the study."""

    # spread
    least: int = bounded(2, at_least=2)  # candidates without which nothing is said


def collect(config, run, observe=lambda progress: None):
    search_config = config.search("setn")
    with Run.open(search_config, "search") as own:
        search = prepare_search(search_config, own)
        train(search, own, observe)
        for source in ("evaluator", "uniform"):
            score(search, own, source, config.candidates, f"spread-{source}", observe, config.pool)
            copy_journal(own, f"spread-{source}", run, source)
'''

REPORT = '''
"""What it came to."""

import statistics

from setn_lab.figures import page
from setn_lab.runs import read_journal
from setn_lab.studies import tables

from spread import SpreadConfig


def table(folder):
    config = tables.read_config(SpreadConfig, folder)
    rows = []
    for source in ("evaluator", "uniform"):
        losses = [record["loss"] for record in read_journal(folder / f"{source}.jsonl")]
        deviation = statistics.stdev(losses) if len(losses) >= config.least else None
        rows.append([source, page.plus_minus(statistics.fmean(losses), deviation, ".4f")])
    return page.table(["source", "loss"], rows)


def write(folder, target):
    return page.write_page(folder, target, "Spread study", [table(folder)])
'''

NOTEBOOK = [
    ("parameters", "# The parameters of this study\n{parameters}"),
    ("", "import sys\n\nsys.path.insert(0, {folder!r})"),
    (
        "",
        "import spread\nfrom setn_lab.notebook import Live, from_notebook\nfrom setn_lab.runs import Run\n\n"
        "config = from_notebook(spread.SpreadConfig, get_ipython())\n"
        'with Run.open(config, "spread") as run:\n    spread.collect(config, run, Live())',
    ),
    ("", "from IPython.display import Markdown\n\nimport spread_report\n\nMarkdown(spread_report.table(run.folder))"),
]


@pytest.fixture
def study(tmp_path, monkeypatch, tiny):
    (tmp_path / "spread.py").write_text(COLLECT, encoding="utf-8")
    (tmp_path / "spread_report.py").write_text(REPORT, encoding="utf-8")
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path, {**tiny, "epochs": 1, "run_dir": str(tmp_path / "study"), "interactive": False}
    for name in ("spread", "spread_report", "spread_command"):
        sys.modules.pop(name, None)


def test_the_two_files_are_a_study(study):
    folder, values = study
    spread, spread_report = (importlib.import_module(name) for name in ("spread", "spread_report"))
    from setn_lab.config import ConfigError
    from setn_lab.parameters import describe
    from setn_lab.runs import Run, read_journal

    config = spread.SpreadConfig(**values)
    with Run.open(config, "spread") as run:
        spread.collect(config, run)
    page = spread_report.write(run.folder, folder / "report")
    for source in ("evaluator", "uniform"):
        losses = [record["loss"] for record in read_journal(run.folder / f"{source}.jsonl")]
        assert f"| {source} | {sum(losses) / len(losses):.4f} ± " in page.read_text(encoding="utf-8")
    assert json.loads((folder / "report" / "config.json").read_text(encoding="utf-8"))["least"] == 2
    (searched,) = (folder / "runs").iterdir()
    before = {path: path.stat().st_mtime_ns for path in Path(searched).rglob("*.jsonl")}
    with Run.open(config, "spread") as run:  # a second run finds all of it
        spread.collect(config, run)
    assert {path: path.stat().st_mtime_ns for path in Path(searched).rglob("*.jsonl")} == before
    (least,) = (one for one in describe(spread.SpreadConfig) if one.name == "least")
    assert least.heading == "spread"
    with pytest.raises(ConfigError, match="least: 1"):
        spread.SpreadConfig(least=1)


def test_a_row_makes_it_a_subcommand(study, monkeypatch, capsys):
    from setn_lab import cli, commands

    folder, values = study
    (folder / "spread_command.py").write_text(
        "import spread\nfrom setn_lab.runs import Run\n\n\ndef run(config, observe):\n"
        "    with Run.open(config, 'spread') as run:\n        spread.collect(config, run, observe)\n",
        encoding="utf-8",
    )
    row = cli.Command("How far losses spread.", "spread:SpreadConfig", "spread_command:run")
    monkeypatch.setitem(cli.COMMANDS, "study spread", row)
    write = lambda run, target, table: importlib.import_module("spread_report").write(run, target)  # noqa: E731
    monkeypatch.setitem(commands.REPORTS, "spread", write)
    options = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    assert cli.main(["study", "spread", *options]) == 0
    assert cli.main(["report", values["run_dir"], str(folder / "page")]) == 0
    assert "| uniform | " in (folder / "page" / "README.md").read_text(encoding="utf-8")
    assert cli.main(["study", "spread", "--least", "1"]) == 2
    assert "least: 1" in capsys.readouterr().err


@pytest.mark.usefixtures("light_python")
def test_and_its_notebook_runs(study):
    import papermill

    from setn_lab.parameters import describe

    folder, values = study
    known = {one.name: one.default for one in describe(importlib.import_module("spread").SpreadConfig)}
    lines = "\n".join(f"{name} = {value!r}" for name, value in {**known, **values, "epochs": 5}.items())
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    )
    for tag, source in NOTEBOOK:
        source = source.replace("{parameters}", lines).replace("{folder!r}", repr(str(folder)))
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": [tag] if tag else []}))
    nbformat.write(notebook, folder / "spread.ipynb")
    papermill.execute_notebook(folder / "spread.ipynb", folder / "out.ipynb", {"epochs": 1}, progress_bar=False)
    last = nbformat.read(folder / "out.ipynb", 4).cells[-1].outputs[-1]
    assert "| evaluator | " in last["data"]["text/markdown"]
    assert json.loads((folder / "study" / "config.json").read_text(encoding="utf-8"))["epochs"] == 1
