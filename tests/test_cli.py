"""The command line: every subcommand in process, and a search as a user starts it, which the notebook then finds."""

import errno
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
import yaml
from parameters import as_options
from PIL import Image
from written_run import write_run

from setn_lab import commands
from setn_lab.cli import COMMANDS, OTHERS, main
from setn_lab.figures import genotype
from setn_lab.parameters import describe
from setn_lab.retrain import RetrainConfig, report
from setn_lab.runs import RunError, read_journal
from setn_lab.runs.checkpoint import CheckpointError
from setn_lab.runs.files import FolderSyncError
from setn_lab.runs.progress import epoch_line
from setn_lab.runs.run import default_folder
from setn_lab.search import SearchConfig
from setn_lab.search.training import SearchError

ROOT = Path(__file__).parents[1]
RETRAIN = {
    **{"dataset": "digits", "channels": 2, "repeats": 1, "epochs": 2, "batch_size": 16, "limit_train": 32},
    **{"limit_test": 16, "auxiliary_weight": 0.0, "path_dropout": 0.0, "crop_padding": 1, "cutout": 0, "device": "cpu"},
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The root of the run folders."""
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder but the lock, whose name of the holder comes and goes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


# Help


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, sentence in ({name: command.text for name, command in COMMANDS.items()} | OTHERS).items():
        assert f"  {name} " in text
        assert sentence in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_shows_each_parameter_of_its_config(capsys, name):
    assert main([*name.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    module, cls = COMMANDS[name].config.split(":")
    for parameter in describe(getattr(importlib.import_module(module), cls)):
        assert f" {parameter.heading}: " in text
        assert " ".join(f"{parameter.text} (default: {parameter.default!r})".split()) in text
        assert f" --{parameter.name} " in text


@pytest.mark.parametrize("name", ["report", "runs", "parameters", "study"])
def test_help_of_the_other_commands(capsys, name):
    assert main([name, "--help"]) == 0
    assert f"usage: setn-lab {name}" in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["frob"], ["study"], ["study", "search"], ["search", "extra"], ["report"]])
def test_words_that_are_no_command_are_told(capsys, given):
    assert main(given) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: setn-lab" in printed.err


def test_help_and_runs_are_light(searched):
    root, *_ = searched  # and not the runs of whoever runs the tests
    code = "import sys; from setn_lab.cli import main; main(['runs']); main(['--help']); print({'torch', 'matplotlib', "
    code += "'IPython', 'numpy', 'pandas'} & sys.modules.keys())"
    surroundings = {**os.environ, "SETN_LAB_RUNS": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=surroundings)
    assert "  finished  " in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_installed_script_is_main():
    script = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["setn-lab"]
    module, _, name = script.partition(":")
    assert getattr(importlib.import_module(module), name) is main


# Errors

BAD = {
    "ConfigError": (["search", "--epcohs", "3", "--channels", "4e2"], ["did you mean epochs?", "as in --channels 400"]),
    "DataError": (
        ["search", "--dataset", "digit", "--device", "cpu"],
        ["dataset: 'digit' given; did you mean 'digits'?"],
    ),
    "GenotypeError": (["cells", "GDSA"], ["genotype: 'GDSA' given; did you mean 'GDAS'?"]),
    "InspectionError": (["inspect", "no-such-run"], ["'no-such-run' given, which does not exist", "Looked for"]),
    "TableError": (["study", "groundtruth"], ["table: None given", "is needed: --table PATH"]),
    "RunError": (["report", "no-such-run"], ["'no-such-run' given, which does not exist"]),
    "RetrainError": (["retrain", *as_options({**RETRAIN, "weight_lr": 1e30})], ["loss is not finite at step"]),
}


@pytest.mark.parametrize("name", BAD)
def test_an_error_is_one_message_without_a_trace(capsys, runs, name):
    given, parts = BAD[name]
    assert main(given) == (1 if name == "RetrainError" else 2)
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert " -p " not in message
    for part in parts:
        assert part in message


FAILED = [
    (CheckpointError("no checkpoint is good"), 1, "no checkpoint is good"),
    (SearchError("the loss is not finite"), 1, "the loss is not finite"),
    (RunError("r is in use by pid 1"), 2, "r is in use"),
    (FolderSyncError(errno.EIO, "Input/output error", "cells.svg"), 1, "cells.svg is written, but the disk"),
    (OSError(errno.ENOSPC, "No space left on device", "cells.svg"), 1, "cells.svg: No space left on device; free"),
]


@pytest.mark.parametrize(("error", "code", "text"), FAILED)
def test_what_fails_while_it_runs_is_one_line_too(monkeypatch, capsys, error, code, text):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(commands, "cells", fail)
    assert main(["cells"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(text)


@pytest.mark.parametrize("backend", ["module://matplotlib_inline", "tkagg", "agg"])
def test_figures_are_files_whatever_backend_was_exported(tmp_path, runs, backend):
    code = "import sys; from setn_lab import cli; cli._draw_into_files(); import matplotlib.pyplot as plt; plt.figure()"
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ZeroDivisionError(), None)])
def test_a_stop_is_told_and_an_error_of_ours_is_not_hidden(monkeypatch, capsys, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(commands, "cells", fail)
    if code is None:
        with pytest.raises(ZeroDivisionError):
            main(["cells"])
        return
    assert main(["cells"]) == code
    assert "the same command goes on" in capsys.readouterr().err


# A search


@pytest.fixture(scope="module")
def searched(tmp_path_factory, tiny):
    """A search by the command line: the root of its run folder, its preset, and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    preset = folder / "tiny.yaml"
    preset.write_text(yaml.safe_dump({**tiny, "epochs": 99, "interactive": False}), encoding="utf-8")
    given = ["-f", str(preset), "--epochs", "2", "--baseline-candidates", "2", "--weight-lr", "1e-1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SETN_LAB_RUNS": str(folder / "runs")}
    command = [sys.executable, "-m", "setn_lab", "search", *given]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder / "runs", given, preset, done.stdout


def test_a_search_prints_its_epochs_and_what_it_found(searched):
    root, _, _, printed = searched
    (folder,) = root.iterdir()
    for record in read_journal(folder / "metrics.jsonl"):
        assert epoch_line(record) in printed.splitlines()
    best = min(read_journal(folder / "candidates.jsonl"), key=lambda record: record["loss"])
    assert best["genotype"] in printed
    assert f"{folder}/genotype.json" in printed
    assert "\r" not in printed


@pytest.mark.usefixtures("light_python")
def test_the_notebook_with_the_same_parameters_finds_it_finished(searched, tiny, tmp_path):
    root, _, preset, _ = searched
    values = {**tiny, "epochs": 2, "baseline_candidates": 2, "weight_lr": 0.1}
    (folder,) = root.iterdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETN_LAB_RUNS", str(root))
        assert folder == default_folder(SearchConfig(**values), "search")
    before = content(folder)
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "search.ipynb"), str(tmp_path / "out.ipynb")]
    command += ["-f", str(preset), "-p", "epochs", "2", "-p", "baseline_candidates", "2", "-p", "weight_lr", "1e-1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SETN_LAB_RUNS": str(root)}
    done = subprocess.run([*command, "--no-progress-bar"], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in root.iterdir()] == [folder.name]
    assert content(folder) == before


def test_the_same_command_finds_it_finished(searched, monkeypatch, capsys):
    root, given, _, printed = searched
    monkeypatch.setenv("SETN_LAB_RUNS", str(root))
    (folder,) = root.iterdir()
    before = content(folder)
    assert main(["search", *given]) == 0
    assert content(folder) == before
    again = capsys.readouterr().out
    assert "epoch 1:" not in again
    assert again.partition("| source |")[2] == printed.partition("| source |")[2]


def test_runs_list_it(searched, capsys):
    root, *_ = searched
    assert main(["runs", str(root)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["folder", "kind", "started", "state", "best", "cost"]
    (folder,) = root.iterdir()
    assert line.startswith(f"{folder.name}  search  ")
    assert "  finished  " in line
    assert "M parameters" in line
    assert main(["runs", str(root / "nothing")]) == 0
    assert "nothing holds no run folder" in capsys.readouterr().out


def test_its_report_is_a_page_with_figures(searched, tmp_path, capsys):
    root, *_ = searched
    (folder,) = root.iterdir()
    before = content(folder)
    assert main(["report", str(folder), str(tmp_path / "page")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page' / 'README.md'}\n"
    assert content(folder) == before
    assert {"README.md", "config.json", "cells.svg", "curves.svg"} < {
        path.name for path in (tmp_path / "page").iterdir()
    }


def test_a_report_is_not_written_over_the_run(searched, capsys):
    root, *_ = searched
    (folder,) = root.iterdir()
    before = content(folder)
    assert main(["report", str(folder), str(folder / "checkpoints" / "..")]) == 2
    assert "target: " in capsys.readouterr().err
    assert main(["report", str(folder), "--table", "table.csv"]) == 2
    assert "table: 'table.csv' given for a run of the kind 'search'" in capsys.readouterr().err
    assert content(folder) == before


def test_without_a_target_the_report_lies_in_the_run_folder_and_the_run_goes_on(searched, tmp_path, monkeypatch):
    root, given, *_ = searched
    shutil.copytree(root, tmp_path / "runs")
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    (folder,) = (tmp_path / "runs").iterdir()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report" / "README.md").exists()
    assert main(["search", *given]) == 0


def test_a_report_of_an_unfinished_search_says_what_is_missing(searched, tmp_path, capsys):
    root, *_ = searched
    (folder,) = root.iterdir()
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "genotype.json").unlink()
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "genotype.json is missing; a report needs a finished run" in capsys.readouterr().err


# The other commands


def test_a_training_and_its_report(runs, tmp_path, capsys):
    (tmp_path / "train.json").write_text(json.dumps({**RETRAIN, "seeds": 1}), encoding="utf-8")
    assert main(["retrain", str(tmp_path / "train.json"), "--seeds", "2", "--genotype", "GDAS"]) == 0
    folder = default_folder(RetrainConfig(**RETRAIN, seeds=2, genotype="GDAS"), "retrain")
    printed = capsys.readouterr().out
    assert report.table(folder) in printed
    assert [line for line in printed.splitlines() if line.startswith("seed ")] == [
        epoch_line(record) for record in read_journal(folder / "metrics.jsonl")
    ]
    before = content(folder)
    assert {"training.svg", "network-0.safetensors", "network-1.safetensors"} < before.keys()
    assert main(["report", str(folder), str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "README.md").read_text(encoding="utf-8")
    assert report.table(folder) in page
    assert (tmp_path / "page" / "training.svg").read_bytes() == before["training.svg"]
    assert content(folder) == before


def test_cells_are_drawn_as_the_notebook_draws_them(tmp_path, capsys):
    values = {"compare": "SETN", "channels": 4, "repeats": 1, "formats": "svg"}
    assert main(["cells", "GDAS", *as_options({**values, "out_dir": tmp_path / "cli"})]) == 0
    config = genotype.CellsConfig(genotype="GDAS", **values, out_dir=str(tmp_path / "library"))
    genotype.save(genotype.figures(config), config)
    assert content(tmp_path / "cli") == content(tmp_path / "library")
    assert len(content(tmp_path / "cli")) == 5  # both cells, each, the network, the difference
    assert "GDAS-cells.svg" in capsys.readouterr().out


@pytest.mark.usefixtures("coarse_pictures")
def test_inspect_writes_static_figures(tmp_path, capsys):
    run = write_run(tmp_path / "run", 3, 4, nodes=2)
    assert main(["inspect", str(run), "--static", str(tmp_path / "static"), "--samples", "20"]) == 0
    pictures = {path.name for path in (tmp_path / "static").iterdir()} - {"index.html"}
    page = (tmp_path / "static" / "index.html").read_text(encoding="utf-8")
    assert all(f'<img src="{name}" alt="' in page for name in pictures)
    for name in ("evaluator", "candidates", "sampling", "comparison"):
        assert any(picture.startswith(name) for picture in pictures)
    for name in pictures:
        content = (tmp_path / "static" / name).read_bytes()
        if name.endswith(".png"):
            assert min(Image.open(io.BytesIO(content)).size) > 30
        else:
            assert ElementTree.fromstring(content).tag.endswith("svg")
    assert "epoch 3" in page
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(map(str, (tmp_path / "static").iterdir()))


@pytest.mark.usefixtures("coarse_pictures")
def test_static_figures_of_a_search_without_candidates_say_so(tmp_path):
    run = write_run(tmp_path / "run", 1, 0, nodes=2)
    assert main(["inspect", str(run), "--static", str(tmp_path / "static")]) == 0
    assert "No candidate has been scored yet" in (tmp_path / "static" / "index.html").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # papermill's
def test_inspect_serves_the_notebook_with_its_parameters(tmp_path, monkeypatch):
    for name in ("run", "other"):
        write_run(tmp_path / name, 1, 0, nodes=2)
    monkeypatch.chdir(tmp_path)
    served = []

    def serve(command, check):
        cells = nbformat.read(command[3], 4).cells
        names: dict[str, object] = {}
        for cell in cells:
            if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
                exec(cell.source, names)
        served.append((command[1:3], command[4:], names))

    monkeypatch.setattr(commands.subprocess, "run", serve)
    assert main(["inspect", "run", "--compare", "other", "--temperature", "2"]) == 0
    ((program, options, names),) = served
    assert program == ["-m", "voila"]
    assert options == ["--token", "--Voila.ip=localhost"]  # for this machine, behind a token
    assert names["run_dir"] == str(tmp_path / "run")
    assert names["compare"] == str(tmp_path / "other")
    assert (names["temperature"], names["samples"]) == (2.0, 1000)


def test_inspect_says_which_packages_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "voila", None)  # as where it is not installed
    assert main(["inspect", str(write_run(tmp_path / "run", 1, 0, nodes=2))]) == 2
    assert "inspect needs voila, which is not installed: pip install 'setn_lab[notebooks]'" in capsys.readouterr().err


def test_parameter_cells_are_told_and_written(tmp_path, capsys):
    source = (ROOT / "notebooks" / "cells.ipynb").read_text(encoding="utf-8")
    stale = source.replace("repeats: int = 6  # N", "repeats: int = 7  # M")
    assert stale != source
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    good.write_text(source, encoding="utf-8")
    bad.write_text(stale, encoding="utf-8")
    assert main(["parameters", str(good), str(bad)]) == 1
    assert bad.read_text(encoding="utf-8") == stale
    assert str(bad) in capsys.readouterr().out
    assert main(["parameters", str(good), str(bad), "--write"]) == 0
    assert good.read_text(encoding="utf-8") == bad.read_text(encoding="utf-8") == source
    assert str(good) not in capsys.readouterr().out
    assert main(["parameters", str(good), str(bad)]) == 0


def test_every_kind_of_run_has_its_report_and_its_line():
    from setn_lab.inspection.kinds import KINDS

    assert commands.REPORTS.keys() == KINDS.keys()
    assert {command.function for command in COMMANDS.values()} == KINDS.keys() | {"inspect", "cells"}
    assert OTHERS.keys() == {"export", "report", "runs", "lab", "parameters"}
