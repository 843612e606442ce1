"""Tiny searches, and what they come to, for the tests that compare whole runs."""

import json
import multiprocessing
import os
import struct
from functools import partial
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import light_python as light_python_module
import pytest
import torch
from forked import VARIABLE, ForkedContext
from matplotlib.figure import Figure
from references import TINY

from setn_lab.inspection import pictures
from setn_lab.runs import run
from setn_lab.runs.checkpoint import load_latest
from setn_lab.runs.journal import read_journal
from setn_lab.search.config import SearchConfig
from setn_lab.studies import ranking_results


def bits(value: object) -> object:
    """The value with every tensor and float replaced by its bits, to be compared with ==."""
    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            tuple(value.shape),
            value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(item) for item in value]
    return struct.pack("<d", value) if isinstance(value, float) else value


def search_outcome(folder) -> dict[str, object]:
    """All that a finished search has come to, bit by bit; only the measured seconds are left out."""
    step, state = load_latest(folder / "checkpoints")
    lines = read_journal(folder / "metrics.jsonl")
    outcome: dict[str, object] = {"step": step, "metrics": [json.dumps({**line, "seconds": 0}) for line in lines]}
    for part in ("template", "evaluator", "weight_optimizer", "evaluator_optimizer"):
        outcome[part] = bits(state.pop(part))
    outcome["of"] = state.pop("of")
    for part in ("average", "gradient"):  # what only some searches carry on
        if part in state:
            outcome[part] = bits(state.pop(part))
    assert not state, "a checkpoint has parts that are not compared"
    for name in ("evaluator.jsonl", "candidates.jsonl", "baseline.jsonl", "genotype.json"):
        outcome[name] = (folder / name).read_bytes() if (folder / name).exists() else None
    return outcome


@pytest.fixture(scope="session", autouse=True)
def one_environment():
    """What runs record of their environment is asked for once: it takes time, and the checkout may change meanwhile."""
    found = run.environment()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "environment", lambda: {**found, "threads": torch.get_num_threads()})
        yield


@pytest.fixture(scope="session", autouse=True)
def light_jupyter():
    """Programs that tests start import Jupyter without what only costs time, see stubs/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "stubs"), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk():
    """What is written outlives a killed process without fsync, which is for machines that lose their power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # an error for what is no open file still
        yield


@pytest.fixture(scope="session")
def tiny():
    """The values of a search of seconds."""
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny_config():
    """tiny_config(folder, epochs=2): the config of a search of seconds."""
    return lambda folder, **values: SearchConfig(**{**TINY, "run_dir": str(folder), **values})


@pytest.fixture(scope="session")
def outcome():
    return search_outcome


@pytest.fixture(scope="session")
def as_bits():
    return bits


IMPORTED = [
    *("pytest", "torch", "torch._dynamo", "torchvision.transforms.v2", "sklearn.datasets", "cloudpickle"),
    "forked",
    *(f"setn_lab.{name}" for name in ("retrain.training", "search.candidates", "search.estimate", "studies.ranking")),
]


@pytest.fixture(scope="session")
def fork_server(one_environment):
    """The context of processes that are forked from one which has imported everything: that takes seconds each time."""
    with pytest.MonkeyPatch.context() as patch:  # the environment of all of them
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv(VARIABLE, json.dumps(run.environment()))
        context = ForkedContext()
        context.set_forkserver_preload(IMPORTED)
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    return context


@pytest.fixture
def forked(fork_server, monkeypatch):
    """Where the package would start Python anew, a process of `fork_server` is started."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: fork_server)
    return fork_server


@pytest.fixture(scope="session")
def light_server(fork_server, tmp_path_factory):
    """The folder in which Jupyter finds the kernel that the running server of `light_python` forks."""
    folder = tmp_path_factory.mktemp("light-python")
    (folder / "kernels" / "python3").mkdir(parents=True)
    specification = json.dumps(light_python_module.SPECIFICATION)
    (folder / "kernels" / "python3" / "kernel.json").write_text(specification, encoding="utf-8")
    ready = fork_server.Event()
    server = fork_server.Process(target=light_python_module.serve, args=(str(folder / "socket"), ready))
    server.start()
    while not ready.wait(0.5):
        assert server.exitcode is None
    yield folder
    server.kill()
    server.join()


@pytest.fixture(scope="module")
def light_python(light_server):
    """Takes the place of `python -m` in what a test starts: all is imported already. Kernels begin so too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(light_python_module.VARIABLE, str(light_server / "socket"))
        patch.setenv("JUPYTER_PATH", str(light_server))
        yield light_python_module.LIGHT_PYTHON


@pytest.fixture
def coarse_pictures(monkeypatch):
    """The inspectors' pictures in less time."""
    monkeypatch.setattr(pictures, "DPI", 20)
    monkeypatch.setattr(pictures, "Figure", lambda layout, **size: Figure(**size))


@pytest.fixture
def few_resamples(monkeypatch):
    """The intervals of the pairwise study in less time."""
    for name in ("all_pairs", "kendall", "spearman", "weighted_tau", "within_best"):
        monkeypatch.setattr(ranking_results, name, partial(getattr(ranking_results, name), resamples=40))
