"""The inspectors' notebook: bad parameters in process, then through papermill, where it leaves static figures."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from parameters import check_refusal
from PIL import Image
from written_run import write_run

from setn_lab.inspection.reading import InspectConfig

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "inspect.ipynb"


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # papermill's
@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("rundir", "a", ["rundir: 'a' (str) given", "did you mean run_dir?"]),
        ("samples", "0", ["samples: 0 (int) given", "an integer of at least 1"]),
        ("temperature", "0", ["temperature: 0 (int) given", "a number of at least 0.1"]),
        ("compare", "a,,b", ["compare: 'a,,b' given", "run folders separated by commas"]),
        ("interactive", "false", ["interactive: 'false' (str) given", "-p interactive False"]),
    ],
)
def test_a_bad_parameter_is_named_with_the_fix(name, text, parts):
    check_refusal("inspect", InspectConfig, name, text, parts)


def outputs(notebook):
    """All that each cell displayed, without what was printed."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [[one["data"] for one in cell.get("outputs", []) if "data" in one] for cell in cells]


def execute(folder, **parameters):
    out = folder / "out.ipynb"
    options = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(out), *options]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.mark.usefixtures("light_python")
def test_papermill_leaves_static_figures(tmp_path):
    run, other = (write_run(tmp_path / name, epochs, 12, seed) for name, epochs, seed in (("a", 4, 0), ("b", 2, 1)))
    out = execute(tmp_path, run_dir=run, compare=other)
    shown = [one for cell in outputs(out) for one in cell]
    pictures = [base64.b64decode("".join(one["image/png"])) for one in shown if "image/png" in one]
    assert len(pictures) == 8  # both cells, the candidates, three questions, the samples, the runs
    for picture in pictures:
        assert min(Image.open(io.BytesIO(picture)).size) > 300
    assert sum("image/svg+xml" in one for one in shown) == 2  # the winner, the most likely cell
    assert not [one for one in shown if "application/vnd.jupyter.widget-view+json" in one]
    assert "widgets" not in json.loads(out.read_text(encoding="utf-8"))["metadata"]
    assert out.stat().st_size < 500_000
    texts = "".join("".join(one.get("text/html", "")) for one in shown)
    assert "epoch 4" in texts
    assert "epochs" in texts  # in which the runs differ


@pytest.mark.usefixtures("light_python")
def test_a_run_without_candidates_says_so_in_place(tmp_path):
    out = execute(tmp_path, run_dir=write_run(tmp_path / "run", 1, 0), interactive=True)
    texts = "".join("".join(one.get("text/html", "")) for cell in outputs(out) for one in cell)
    # in its own place, as a question, and beside the runs
    assert texts.count("No candidate has been scored yet") == 3
