"""The search notebook: bad parameters in process, then through papermill as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from parameters import check_refusal, config_of_notebook
from references import write_folder

from setn_lab.data.folders import DataError
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.space.genotype import Genotype, GenotypeError

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "search.ipynb"


# Bad input, in process

INTEGER = "an integer of at least 1 is allowed"
PARAMETER_ERRORS = [
    ("epcohs", "3", ["epcohs: 3 (int) given", "did you mean epochs?"]),
    ("resume", "false", ["resume: 'false' (str) given", "no such parameter", "Allowed: preset, dataset, data_dir"]),
    ("interactive", "false", ["interactive: 'false' (str) given", "True or False is allowed", "-p interactive False"]),
    ("epochs", "4e2", ["epochs: 400.0 (float) given", INTEGER, "-p epochs 400"]),
    ("channels", "none", ["channels: 'none' (str) given", INTEGER]),
    ("run_dir", "none", ["run_dir: 'none' (str) given", "a text or None is allowed", "-p run_dir None"]),
    ("epochs", "0", ["epochs: 0 (int) given", INTEGER]),
    ("channels", "0", ["channels: 0 (int) given", INTEGER]),
    ("evaluator_lr", "-1", ["evaluator_lr: -1 (int) given", "a number above 0"]),
    ("train_fraction", "1.0", ["train_fraction: 1.0 (float) given", "a number above 0 and below 1 is allowed"]),
    ("strategy", "darts", ["strategy: 'darts' (str) given", "one of 'setn', 'setn-lr', 'setn-non' is allowed"]),
    ("strategy", "setn_lr", ["strategy: 'setn_lr' (str) given", "did you mean setn-lr?"]),
    ("batch_size", "1", ["batch_size: 1 (int) given", "an integer of at least 2 is allowed"]),
    ("evaluator_start", "400", ["evaluator_start: 400 given", "an integer below epochs (400) is allowed"]),
]


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # papermill's
@pytest.mark.parametrize(("name", "text", "parts"), PARAMETER_ERRORS, ids=lambda value: str(value)[:20])
def test_a_bad_parameter_is_named_with_the_fix(name, text, parts):
    check_refusal("search", SearchConfig, name, text, parts)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # papermill's
def test_a_good_parameter_is_taken():
    assert config_of_notebook("search", SearchConfig, "epochs", "5") == SearchConfig(epochs=5)
    assert config_of_notebook("search", SearchConfig, "limit_train", "None") == SearchConfig()


def missing(folder):
    return ["dataset: '", "'digits', 'cifar10', 'cifar100'", "folder"]


def misspelt(folder):
    return ["dataset: 'digit'", "'digits'"]


def without_train(folder):
    write_folder(folder, {"a": 2}, split="")
    return ["dataset:", "'train'", "train/<class>/*"]


def one_class(folder):
    write_folder(folder, {"only": 2})
    return ["dataset:", "(only)", "at least 2"]


def mixed_sizes(folder):
    write_folder(folder, {"a": 2}, 8)
    write_folder(folder, {"b": 2}, 6)
    return ["dataset: ", "000.png is 8 x 8", "000.png is 6 x 6", "resize"]


def corrupt(folder):
    write_folder(folder, {"a": 2, "b": 2})
    path = folder / "train" / "b" / "001.png"
    path.write_bytes(path.read_bytes()[:70])
    return ["dataset: ", f"{path}", "remove"]


def too_few(folder):
    write_folder(folder, {"a": 3, "b": 3})
    return ["batch_size: 64 ", "3 images", "at most 3"]


@pytest.mark.parametrize("make", [missing, misspelt, without_train, one_class, mixed_sizes, corrupt, too_few])
def test_bad_images_are_named_with_the_fix(tmp_path, monkeypatch, make):
    monkeypatch.setenv("SETN_LAB_CACHE", str(tmp_path / "cache"))
    parts = make(tmp_path / "images")
    dataset = "digit" if make is misspelt else str(tmp_path / "images")
    with pytest.raises(DataError) as caught:
        prepare_search(SearchConfig(dataset=dataset, device="cpu", channels=2, repeats=1, nodes=1))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("normal", "parts"),
    [
        (
            [[["sep_conv_9x9", 0], ["skip_connect", 1]]],
            ["unknown operation 'sep_conv_9x9'", "did you mean", "allowed are"],
        ),
        ([[["skip_connect", 0], ["skip_connect", 2]]], ["reads state 2", "can read 0 .. 1"]),
        ([[["skip_connect", 0], ["skip_connect", -1]]], ["reads state -1", "can read 0 .. 1"]),
        ([], ["at least one node is needed"]),
    ],
)
def test_a_bad_genotype_is_named_with_the_fix(normal, parts):
    good = [[["skip_connect", 0], ["skip_connect", 1]]]
    fields = {"normal": normal, "normal_concat": [2], "reduce": good, "reduce_concat": [2]}
    with pytest.raises(GenotypeError, match="normal") as caught:
        Genotype.from_json(json.dumps(fields))
    for part in parts:
        assert part in str(caught.value)


# Through papermill

EPOCHS = 6


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "papermill", *arguments]


def surroundings(folder: Path | None = None) -> dict[str, str]:
    values = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **values, **({"SETN_LAB_RUNS": str(folder)} if folder else {})}


def papermill(*arguments: str, runs: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=surroundings(runs), timeout=200)


def search(folder: Path, parameters: Path) -> list[str]:
    """The arguments of a search in a folder, its output notebook beside it."""
    output = folder.with_suffix(".ipynb")
    return [str(NOTEBOOK), str(output), "-f", str(parameters), "-p", "run_dir", str(folder), "--no-progress-bar"]


def kernels_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "ipykernel_launcher" in child.cmdline()]


def epochs_in(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def interrupt(folder: Path, parameters: Path, victim: str) -> int:
    """Start a search and kill papermill or its kernel when one more epoch is done; returns the exit code."""
    journal = folder / "metrics.jsonl"
    before = epochs_in(journal)
    deadline = time.monotonic() + 120
    arguments = command(*search(folder, parameters))
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=surroundings(folder))
    whole = psutil.Process(process.pid)
    while epochs_in(journal) <= before or not kernels_of(whole):  # the kernel of the start before may have written it
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline, "no epoch is done in 120 s"
        time.sleep(0.02)
    (kernels_of(whole)[0] if victim == "kernel" else whole).send_signal(signal.SIGKILL)
    if victim == "kernel":
        process.communicate(timeout=60)
    else:  # its kernel, which holds the pipe, lives on for a while: the next start meets it
        process.stdout.close()
        process.wait(timeout=60)
    assert epochs_in(journal) < EPOCHS
    return process.returncode


@pytest.fixture(scope="module")
def parameters(tmp_path_factory, tiny):
    path = tmp_path_factory.mktemp("parameters") / "tiny.yaml"
    values = {**tiny, "nodes": 1, "epochs": EPOCHS, "interactive": False, "baseline_candidates": 2}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, parameters, light_python):
    """The folder of an uninterrupted run through papermill."""
    folder = tmp_path_factory.mktemp("papermill") / "finished"
    done = papermill(*search(folder, parameters), runs=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_leaves_its_folder_and_a_notebook_with_figures(finished):
    products = {"config.json", "environment.json", "metrics.jsonl", "evaluator.jsonl", "candidates.jsonl"}
    products |= {
        "baseline.jsonl",
        "genotype.json",
        "leaders.json",
        "sizes.json",
        "costs.csv",
        "identity.json",
        "checkpoints",
        "lock",
    }
    figures = {"cells.svg", "candidates.svg", "curves.svg", "evaluator.svg", "front.svg"}
    assert {path.name for path in finished.iterdir()} == products | figures
    for name in figures:
        assert "<svg" in (finished / name).read_text(encoding="utf-8")
    assert Genotype.from_json((finished / "genotype.json").read_text(encoding="utf-8"))

    output = finished.with_suffix(".ipynb")
    assert output.stat().st_size < 500_000
    cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    outputs = [one for cell in cells for one in cell.get("outputs", [])]
    (training,) = (cell["outputs"] for cell in cells if "live.curves" in "".join(cell["source"]))
    assert len([one for one in training if "image/png" in one.get("data", {})]) == 1  # the live curve, as it ended
    assert not [one for one in outputs if one["output_type"] == "error"]
    shown = [kind for one in outputs for kind in one.get("data", {})]
    assert "image/svg+xml" in shown
    assert "text/markdown" in shown
    printed = "".join("".join(one["text"]) for one in outputs if one["output_type"] == "stream")
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("epoch ")] == [
        f"epoch {number}" for number in range(1, EPOCHS + 1)
    ]
    assert "Warning" not in printed


def test_the_config_is_a_parameters_file_that_repeats_the_run_even_when_papermill_and_a_kernel_are_killed(
    tmp_path, finished, outcome
):
    """The same command each time: papermill is killed, then the kernel of the next, which says so, and it goes on."""
    config = finished / "config.json"
    assert yaml.safe_load(config.read_text(encoding="utf-8")) == json.loads(config.read_text(encoding="utf-8"))
    folder = tmp_path / "repeated"
    assert interrupt(folder, config, "papermill") == -signal.SIGKILL
    assert interrupt(folder, config, "kernel") > 0
    done = papermill(*search(folder, config), runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(folder) == outcome(finished)


def processor_seconds() -> float:
    """Of the processes that this one has started, and theirs, which have ended: whatever else the machine does."""
    times = os.times()
    return times.children_user + times.children_system


def test_bad_parameters_end_papermill_soon(tmp_path, monkeypatch):
    bad = ["-p", "epcohs", "3", "-p", "channels", "4e2"]
    monkeypatch.delenv("JUPYTER_PATH", raising=False)  # a kernel that imports all by itself, as a user's
    before = processor_seconds()
    done = papermill(str(NOTEBOOK), str(tmp_path / "out.ipynb"), *bad, runs=tmp_path / "runs")
    assert processor_seconds() - before < 30  # 10 on a busy machine
    assert done.returncode != 0
    assert "setn_lab/" not in done.stderr  # no trace of the library
    message = done.stderr.split("ConfigError: ")[-1]
    for part in (
        "epcohs: 3 (int) given",
        "did you mean epochs?",
        "channels: 400.0 (float)",
        INTEGER,
        "-p channels 400",
    ):
        assert part in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("light_python")
def test_without_images_and_network_the_notebook_says_first_what_to_do(tmp_path):
    output = tmp_path / "out.ipynb"
    environment = surroundings(tmp_path / "runs") | {"https_proxy": "http://localhost:9", "HOME": str(tmp_path)}
    environment |= {"SETN_LAB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command(str(NOTEBOOK), str(output)), capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    (error,) = (one for cell in cells for one in cell.get("outputs", []) if one["output_type"] == "error")
    assert error["ename"] == "DataError"
    lines = error["traceback"]
    assert len(lines) < 8
    assert lines[0].startswith("DataError: dataset: 'cifar10' is not in ")
    for way in ("-p preset quick", "-p dataset FOLDER", "-p data_dir FOLDER"):
        assert sum(way in line for line in lines) == 1
    assert not [line for line in lines if ".py" in line]
