"""What is taken to a machine with a GPU runs there alone: without network, notebooks' packages or this checkout."""

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import gpu
import gpu_kit
import pytest
from references import write_folder

# Imported by a Python before anything else.
BLOCK = """
import sys

NOTEBOOKS = {"IPython", "ipywidgets", "papermill", "jupyter", "jupyterlab", "nbformat", "nbclient", "anywidget"}
NOTEBOOKS |= {"itables", "voila", "psutil", "pygraphviz", "ipykernel", "traitlets"}

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NOTEBOOKS:
            raise ModuleNotFoundError(f"{name} is not for this machine", name=name)

sys.meta_path.insert(0, Refusal())
"""


@pytest.fixture
def kit(tmp_path):
    """The kit of a few images, as it is laid, without the wheels of what is here."""
    write_folder(tmp_path / "images", {"a": 70, "b": 70}, size=8)
    gpu_kit.lay(tmp_path / "images", tmp_path / "kit", "3.12", "2.11", wheels=False)
    return tmp_path / "kit"


@pytest.mark.timeout(600)  # on a machine that is not busy it ends in one minute
def test_the_kit_runs_by_itself_and_leaves_few_files(tmp_path, kit):
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(BLOCK, encoding="utf-8")
    out = tmp_path / "out"
    command = [sys.executable, kit / "benchmarks" / "gpu.py", "--minutes", "8", "--out", out, "--tiny"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "block"), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("SETN_LAB_TEST_DEVICE", None)
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    log = (out / "log.txt").read_text(encoding="utf-8")
    parts = json.loads((out / "parts.json").read_text(encoding="utf-8"))
    assert [ending.split(" after")[0] for part, ending in parts.items() if part in gpu.UNTIL] == ["exit code 0"] * 4, (
        log
    )
    assert len(list(out.iterdir())) <= 8
    assert json.loads((out / "environment.json").read_text(encoding="utf-8"))["torch"]
    rows = json.loads((out / "speed.json").read_text(encoding="utf-8"))
    assert not [row for row in rows if "error" in row]
    assert {"weight", "mixed", "rloo", "scoring", "field's weight", "field's mixed"} <= {row["name"] for row in rows}
    found = json.loads((out / "searches.json").read_text(encoding="utf-8"))
    assert set(found["steps_a_second"]) == {"1", "2"}
    assert len(found["searches"]) == 4
    assert not [one["error"] for one in found["searches"].values() if "error" in one]
    assert all(len(scores) >= 8 for one in found["searches"].values() for scores in one["scores"].values())
    with tarfile.open(out / "runs.tar.gz") as archive:
        names = [Path(name).name for name in archive.getnames()]
    assert names.count("metrics.jsonl") == names.count("one-shot-evaluator.jsonl") == 4
    assert not [name for name in names if name.endswith(".pt")]


def test_the_kit_holds_the_package_and_the_images(tmp_path, kit, monkeypatch):
    monkeypatch.setattr(gpu, "KIT", kit)
    folder = gpu.unpack_images(tmp_path / "unpacked")
    given = {path.relative_to(tmp_path / "images"): path.read_bytes() for path in (tmp_path / "images").rglob("*.png")}
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")} == given
    for name in ("setn_lab/search/training.py", "tests/compute/test_cuda.py", "benchmarks/field.py", "pyproject.toml"):
        assert (kit / name).read_bytes() == (gpu_kit.ROOT / name).read_bytes()


def test_the_wheels_are_what_the_project_needs_and_the_machine_lacks():
    project = tomllib.loads((gpu_kit.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = gpu_kit.requirements("2.11")
    for requirement in project["dependencies"]:
        name = requirement.split(">=")[0]
        assert (name in brought) != (name in gpu_kit.THERE)
    assert brought["torchvision"] == "torchvision==0.26.*"
    assert gpu_kit.requirements("2.9.1")["torchvision"] == "torchvision==0.24.*"
    assert brought["filelock"] in project["dependencies"]
    assert "pytest" in brought


@pytest.mark.parametrize(("lowest", "expected"), [("0", False), ("1.0", False), ("999.1", True)])
def test_what_is_here_and_too_old_is_missing(lowest, expected):
    assert gpu.missing("numpy", lowest) is expected
    assert gpu.missing("no-such-package", lowest)


def test_wheels_are_unpacked_where_their_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "KIT", tmp_path)
    assert gpu.unpack_wheels(tmp_path / "packages") == []
    (tmp_path / "wheels").mkdir()
    for name in ("no_such_package", "numpy"):
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "")
    bounds = json.dumps({"no-such-package": "1.0", "numpy": gpu_kit.minimum("numpy>=1.0")})
    (tmp_path / "wheels" / "lowest.json").write_text(bounds, encoding="utf-8")
    assert gpu.unpack_wheels(tmp_path / "packages") == ["no_such_package-1.0-py3-none-any.whl"]
    assert [path.name for path in (tmp_path / "packages").iterdir()] == ["no_such_package"]


def test_the_clock_ends_a_part_and_all_that_it_started(tmp_path):
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    ending = gpu.run([sys.executable, "-c", script], dict(os.environ), tmp_path / "log", 1.0)
    assert ending.startswith("ended by the clock")
    assert gpu.run([sys.executable, "-c", "exit(3)"], dict(os.environ), tmp_path / "log", 60).startswith("exit code 3")


def test_a_kit_that_is_too_large_is_refused(tmp_path, monkeypatch):
    write_folder(tmp_path / "images", {"a": 1, "b": 1})
    monkeypatch.setattr(gpu_kit, "LIMIT", 1000)
    with pytest.raises(SystemExit, match="MiB"):
        gpu_kit.lay(tmp_path / "images", tmp_path / "kit", "3.12", "2.11", wheels=False)
