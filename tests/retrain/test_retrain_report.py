"""The figures and tables of a training, and the notebook that makes them through papermill."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from setn_lab.figures import plots
from setn_lab.retrain import report
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import epoch_line
from setn_lab.space.zoo import ZOO

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
QUICK = NOTEBOOKS / "presets" / "retrain-quick.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory, light_python):
    """The folder of a training by papermill, and the notebook that it left."""
    folder = tmp_path_factory.mktemp("retrain-notebook")
    output = folder / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / "retrain.ipynb"), str(output), "-f", str(QUICK)]
    command += ["-p", "epochs", "2", "-p", "limit_train", "200", "-p", "limit_test", "50", "-p", "genotype", "DARTS_V1"]
    command += ["-p", "run_dir", str(folder / "run"), "-p", "device", "cpu", "--no-progress-bar"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    yield folder / "run", json.loads(output.read_text(encoding="utf-8"))
    plt.close("all")


def test_the_notebook_trains_and_shows_what_came_of_it(run):
    folder, notebook = run
    assert all(not output.get("ename") for cell in notebook["cells"] for output in cell.get("outputs", []))
    text = json.dumps(notebook)
    assert ZOO["DARTS_V1"].genotype.to_darts().split("[")[0] in text
    for part in ("seed 0, epoch 1: loss", "seed 1, epoch 2: loss", "test error", "image/png", "<svg"):
        assert part in text
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "genotype.json", "network-0.safetensors", "training.svg"} <= names
    assert len(json.dumps(notebook)) < 500_000


def test_the_table_is_that_of_the_journal(run):
    folder, _ = run
    lines = read_journal(folder / "metrics.jsonl")
    last = [line for line in lines if line["epoch"] == 2]
    text = report.table(folder)
    for line in last:
        seconds = sum(one["seconds"] for one in lines if one["seed"] == line["seed"])
        row = next(row for row in text.splitlines() if row.startswith(f"| {line['seed']} |"))
        assert f"{line['test_error']:.2%}" in row
        assert f"{line['test_loss']:.4f}" in row
        assert f"{round(seconds)} s" in row
    errors = [100 * line["test_error"] for line in last]
    assert f"{statistics.fmean(errors):.2f} ± {statistics.stdev(errors):.2f} % (seeds: 2, epochs: 2)" in text
    assert "No epoch" in report.table(folder / "checkpoints")


def test_contents_name_what_is_there(run):
    folder, _ = run
    text = report.contents(folder)
    assert all(name in text for name in report.CONTENTS)
    assert report.contents(folder / "checkpoints").count("\n- ") == 0


def test_the_same_run_gives_the_same_figure(run):
    folder, _ = run
    assert report.save(folder).read_bytes() == report.save(folder).read_bytes()


def test_curves_are_drawn_as_recorded():
    metrics = [
        {"seed": seed, "epoch": epoch, "loss": 3 / epoch + seed, "test_loss": 4 / epoch + seed}
        for seed in (0, 1)
        for epoch in (1, 2, 3)
    ]
    ax = plots.plot_training(metrics, "loss", "cross-entropy [nats]", 10)
    assert ax.get_ylabel() == "cross-entropy [nats]"
    drawn = {line.get_label(): line for line in ax.get_lines()}
    for seed in (0, 1):
        for key, images in (("loss", "training"), ("test_loss", "test")):
            line = drawn[f"seed {seed}, {images} images"]
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_allclose(line.get_ydata(), [10 * one[key] for one in metrics if one["seed"] == seed])
        both = [drawn[f"seed {seed}, {images} images"] for images in ("training", "test")]
        assert both[0].get_color() == both[1].get_color()
    assert drawn["seed 0, test images"].get_color() != drawn["seed 1, test images"].get_color()
    assert plots.plot_training([], "loss", "").texts[0].get_text() == "no epochs recorded yet"
    plt.close("all")


def test_an_epoch_is_one_line():
    record = {"seed": 3, "epoch": 7, "loss": 1.25, "error": 0.5, "test_loss": 2.5, "test_error": 0.125, "seconds": 9.2}
    assert epoch_line(record) == "seed 3, epoch 7: loss 1.250, error 50.0%, test loss 2.500, test error 12.50%, 9 s"
