import hashlib
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from references import StopError

from setn_lab.compute.device import ShortMemoryError, choose_device, explain_out_of_memory
from setn_lab.config import ConfigError, identity
from setn_lab.data.batches import normalize_images
from setn_lab.runs import run
from setn_lab.runs.checkpoint import CheckpointError, load_latest
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search import scoring, steps
from setn_lab.search.candidates import search_candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.estimate import estimate, shared_results
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import SearchError, train
from setn_lab.space.genotype import Genotype


@pytest.fixture(autouse=True, scope="module")
def quiet():
    """One thread, and an environment that other work on the checkout does not change during the tests."""
    threads, real = torch.get_num_threads(), run.environment
    torch.set_num_threads(1)
    run.environment = lambda: {"torch": torch.__version__}
    yield
    torch.set_num_threads(threads)
    run.environment = real


def run_search(config, observe=lambda progress: None):
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        train(search, run, observe)
        return search_candidates(search, run, observe)


@pytest.fixture(scope="module")
def tiny(tiny):
    return {**tiny, "nodes": 1}


@pytest.fixture(scope="module")
def tiny_config(tiny_config, tiny):
    return lambda folder, **values: tiny_config(folder, **{**tiny, **values})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_config):
    """The folder of an uninterrupted run; a test works on a copy of it."""
    folder = tmp_path_factory.mktemp("search") / "finished"
    run_search(tiny_config(folder, baseline_candidates=3))
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture
def again(tiny_config):
    """again(folder): the same command in a folder."""
    return lambda folder, **values: run_search(tiny_config(folder, baseline_candidates=3), **values)


def stopping(phase, done):
    def observe(progress):
        if (progress.phase, progress.done) == (phase, done):
            raise StopError

    return observe


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints(folder):
    """The checkpoint files, oldest first."""
    return sorted((folder / "checkpoints").iterdir())


# The same result, however the run goes


def test_two_runs_are_the_same_bit_by_bit(finished, tmp_path, again, outcome):
    again(tmp_path / "second")
    assert outcome(tmp_path / "second") == outcome(finished)


def test_the_comparison_sees_another_seed(finished, tmp_path, tiny_config, outcome):
    run_search(tiny_config(tmp_path / "other", baseline_candidates=3, seed=1))
    differing = {key for key, value in outcome(tmp_path / "other").items() if value != outcome(finished)[key]}
    assert differing == set(outcome(finished)) - {"step"}


def test_interrupted_and_run_again_it_is_the_uninterrupted_run(finished, tmp_path, again, outcome):
    for phase, done in (("train", 1), ("train", 2), ("train", 5), ("score", 2), ("score", 5)):
        with pytest.raises(StopError):
            again(tmp_path, observe=stopping(phase, done))
        if phase == "train":
            assert len(read_journal(tmp_path / "metrics.jsonl")) == (done - 1) // 2
    again(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def test_progress_counts_every_step_and_candidate(tmp_path, tiny_config):
    seen = []
    run_search(tiny_config(tmp_path, epochs=2, candidates=3), seen.append)
    lines = read_journal(tmp_path / "metrics.jsonl")
    scored = read_journal(tmp_path / "candidates.jsonl")
    assert [(p.phase, p.done, p.total, p.record) for p in seen] == [
        ("train", 1, 4, None),
        ("train", 2, 4, None),
        ("train", 2, 4, lines[0]),
        ("train", 3, 4, None),
        ("train", 4, 4, None),
        ("train", 4, 4, lines[1]),
        *(("score", i + 1, len(scored), line) for i, line in enumerate(scored)),
    ]


def test_a_finished_run_changes_no_result_when_run_again(copy, again):
    before = content(copy)
    again(copy)
    assert content(copy) == before


# Checkpoints that went bad


def empty(path):
    path.write_bytes(b"")


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


def cut_the_last_byte(path):
    os.truncate(path, path.stat().st_size - 1)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 4
    path.write_bytes(data)


DAMAGES = [empty, halve, cut_the_last_byte, flip_a_bit]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_newest_checkpoint_that_is_damaged_is_made_again(copy, finished, again, outcome, damage):
    newest = checkpoints(copy)[-1]
    damage(newest)
    with pytest.warns(UserWarning, match=f"bad checkpoint {newest.name}"):
        again(copy)
    assert outcome(copy) == outcome(finished)


def test_one_that_is_damaged_between_two_epochs(tmp_path, finished, again, outcome):
    with pytest.raises(StopError):
        again(tmp_path, observe=stopping("train", 5))
    assert len(checkpoints(tmp_path)) == 2
    flip_a_bit(checkpoints(tmp_path)[-1])
    with pytest.warns(UserWarning, match="using checkpoint-00001"):
        again(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


@pytest.mark.parametrize("damage", DAMAGES)
def test_two_damaged_ones_are_refused_and_nothing_changes(copy, again, damage):
    for path in checkpoints(copy):
        damage(path)
    before = content(copy)
    with pytest.raises(CheckpointError, match="no checkpoint is good") as caught:
        again(copy)
    assert all(path.name in str(caught.value) for path in checkpoints(copy))
    assert content(copy) == before


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_planted_pickle_runs_nothing(copy, finished, tmp_path, again, outcome):
    marker = tmp_path / "exploded"
    planted = pickle.dumps({"template": Bomb(marker)})
    name = f"checkpoint-00003-{hashlib.sha256(planted).hexdigest()[:16]}.pt"
    checkpoints(copy)[-1].unlink()
    (copy / "checkpoints" / name).write_bytes(planted)
    with pytest.warns(UserWarning, match=name):
        again(copy)
    assert not marker.exists()
    assert outcome(copy) == outcome(finished)
    pickle.loads(planted)
    assert marker.exists()  # it was a live one


# What is refused


def test_another_config_is_refused_with_every_difference(copy, tiny_config):
    there = identity(tiny_config(copy, baseline_candidates=3))
    other = {
        "space": "large",
        "sampling": "fair",
        "strategy": "setn-non",
        "cost_metric": "latency",
        "precision": "bfloat16",
        "device": "auto",
        "flip": True,
        "evaluator_start": 1,
        "train_fraction": 0.25,
        "image_size": 7,
        "weight_momentum": 0.5,
        "path_dropout": 0.25,
        "template_head": "mean",
    }
    del there["dataset"]  # what it holds counts
    other |= {name: value + 1 for name, value in there.items() if name not in other}
    before = content(copy)
    with pytest.raises(RunError, match="another config") as caught:
        run_search(tiny_config(copy, **other))
    for name, value in there.items():
        assert f"{name}: {value!r} there, " in str(caught.value)
    assert content(copy) == before


def test_where_and_how_it_is_shown_may_change(copy, again, tiny_config, outcome):
    before = outcome(copy)
    run_search(tiny_config(copy, baseline_candidates=3, interactive=False, data_dir="elsewhere"))
    assert outcome(copy) == before


def test_an_evaluator_that_would_never_start_is_refused(tmp_path, tiny_config):
    for start in (3, 4):
        with pytest.raises(ConfigError, match=rf"evaluator_start: {start} .*below epochs \(3\)"):
            tiny_config(tmp_path, evaluator_start=start)


def test_the_rate_does_not_rise(tmp_path, tiny_config):
    assert tiny_config(tmp_path, weight_lr=0.1, weight_lr_end=0.1).weight_lr_end == 0.1
    with pytest.raises(ConfigError, match=r"weight_lr_end: 0.2 .*0 to weight_lr \(0.1\)"):
        tiny_config(tmp_path, weight_lr=0.1, weight_lr_end=0.2)


@pytest.mark.parametrize("device", ["cuda:99", "banana", "", "cpu:x"])
def test_a_device_that_this_machine_lacks(tmp_path, tiny_config, device):
    with pytest.raises(ConfigError, match=rf"device: {device!r} given") as caught:
        prepare_search(tiny_config(tmp_path, device=device))
    assert "auto, cpu, cuda, cuda:N or mps is allowed" in str(caught.value)


def test_auto_takes_what_there_is():
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


def test_candidates_in_another_order_are_put_in_order(copy, again, outcome):
    before = outcome(copy)
    path = copy / "candidates.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    again(copy)
    assert outcome(copy) == before


# What goes wrong on the way


def test_a_rate_that_is_too_high_is_named(tmp_path, tiny_config):
    with pytest.raises(SearchError, match=r"not finite in epoch 1 \(steps 1 to 2, weight_lr 1e\+30") as caught:
        run_search(tiny_config(tmp_path, weight_lr=1e30))
    assert "Lower weight_lr" in str(caught.value)
    assert read_journal(tmp_path / "metrics.jsonl") == []


def test_a_loss_that_turns_infinite_keeps_the_checkpoints(tmp_path, finished, again, outcome, monkeypatch):
    real = steps.Trainer.weight_step
    with monkeypatch.context() as patch:
        patch.setattr(
            steps.Trainer, "weight_step", lambda self, step: real(self, step) * (math.inf if step == 5 else 1)
        )
        with pytest.raises(SearchError, match=r"not finite in epoch 3 \(steps 5 to 6, weight_lr 0.025"):
            again(tmp_path)
    assert [path.name[:16] for path in checkpoints(tmp_path)] == ["checkpoint-00001", "checkpoint-00002"]
    assert len(read_journal(tmp_path / "metrics.jsonl")) == 2
    again(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


@pytest.mark.parametrize("part", ["template", "evaluator"])
def test_a_parameter_that_is_not_finite_keeps_the_checkpoints(tmp_path, finished, again, outcome, monkeypatch, part):
    """Poisoned after the last step of an epoch, whose losses do not show it."""
    real = steps.Trainer.evaluator_step

    def poisoned(self, step):
        found = real(self, step)
        if step == 5:
            next(getattr(self.search, part).parameters()).data.view(-1)[0] = math.nan
        return found

    with monkeypatch.context() as patch:
        patch.setattr(steps.Trainer, "evaluator_step", poisoned)
        with pytest.raises(SearchError, match=rf"not finite in epoch 3 .*weight_lr 0.025, .*: of the {part}"):
            again(tmp_path)
    assert [path.name[:16] for path in checkpoints(tmp_path)] == ["checkpoint-00001", "checkpoint-00002"]
    assert len(read_journal(tmp_path / "metrics.jsonl")) == len(read_journal(tmp_path / "evaluator.jsonl")) == 2
    again(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def allocate_too_much(*_arguments):
    return torch.empty(1 << 56)


def test_memory_that_is_short_in_training_names_the_batch_size(tmp_path, finished, again, outcome, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(steps.Trainer, "evaluator_step", allocate_too_much)
        with pytest.raises(ShortMemoryError, match="memory is short: lower batch_size"):
            again(tmp_path)
    again(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def test_memory_that_is_short_in_scoring_names_the_scoring_batch_size(copy, finished, again, outcome, monkeypatch):
    (copy / "candidates.jsonl").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "one_shot", allocate_too_much)
        with pytest.raises(ShortMemoryError, match="scoring_batch_size"):
            again(copy)
    again(copy)
    assert outcome(copy) == outcome(finished)


@pytest.mark.parametrize("error", [MemoryError("no"), torch.OutOfMemoryError("CUDA out of memory.\nadvice")])
def test_every_kind_of_short_memory(error):
    with (
        pytest.raises(ShortMemoryError, match=rf"lower batch_size.*\({str(error).splitlines()[0]}\)"),
        explain_out_of_memory("batch_size"),
    ):
        raise error


def test_another_error_is_not_called_short_memory():
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), explain_out_of_memory("batch_size"):
        raise RuntimeError("shapes differ")


DISK_FULL = """
    import json, resource, sys
    import torch
    from setn_lab.runs.checkpoint import CheckpointError, load_latest
    from setn_lab.runs.errors import RunError
    from setn_lab.runs.run import Run
    from setn_lab.search.candidates import search_candidates
    from setn_lab.search.config import SearchConfig
    from setn_lab.search.setup import prepare_search
    from setn_lab.search.training import train

    torch.set_num_threads(1)
    config = SearchConfig(**json.loads(sys.argv[1]))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def fill(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    def start(observe):
        with Run.open(config, "search") as run:
            search = prepare_search(config, run)
            try:
                train(search, run, observe)
                search_candidates(search, run, observe)
            finally:
                fill(hard)

    def at(done, size):
        return lambda progress: fill(size(run_folder)) if progress.done == done else None

    from pathlib import Path
    run_folder = Path(config.run_dir)
    newest = lambda folder: max((folder / "checkpoints").iterdir()).stat().st_size
    try:  # the third checkpoint is larger than half of the second
        start(at(5, lambda folder: newest(folder) // 2))
    except CheckpointError as error:
        print(error)
    assert load_latest(run_folder / "checkpoints")[0] == 2
    assert not list((run_folder / "checkpoints").glob(".*"))
    try:  # not even the line of the third epoch fits
        start(at(6, lambda folder: (folder / "metrics.jsonl").stat().st_size + 20))
    except RunError as error:
        print(error)
    assert load_latest(run_folder / "checkpoints")[0] == 2
"""


def test_a_full_disk_is_told_and_the_run_ends_the_same(tmp_path, finished, again, outcome, tiny):
    values = {**tiny, "baseline_candidates": 3, "run_dir": str(tmp_path)}
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DISK_FULL), json.dumps(values)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )
    assert child.returncode == 0, child.stderr
    print(child.stdout)
    first, second = [line for line in child.stdout.splitlines() if "could not be written" in line]
    assert "checkpoint-00003" in first
    assert "The checkpoints before it are untouched: free space" in first
    assert "metrics.jsonl could not be written" in second
    assert "start again to resume" in second
    with pytest.warns(UserWarning, match="another environment"):  # this process says less of itself than the child
        again(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


# The estimate


def test_the_estimate_leaves_the_search_as_it_was(tmp_path, finished, again, outcome, tiny_config, as_bits):
    config = tiny_config(tmp_path, baseline_candidates=3)
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        before = as_bits(search.template.state_dict()), as_bits(search.evaluator.state_dict())
        flags = [(p.requires_grad, p.grad) for p in (*search.template.parameters(), *search.evaluator.parameters())]
        result = estimate(search, repetitions=1)
        assert (as_bits(search.template.state_dict()), as_bits(search.evaluator.state_dict())) == before
        assert flags == [
            (p.requires_grad, p.grad) for p in (*search.template.parameters(), *search.evaluator.parameters())
        ]
        train(search, run)
        search_candidates(search, run)
    assert outcome(tmp_path) == outcome(finished)
    numbers = vars(result).values()
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert result.training == pytest.approx(6 * (result.weight_step + result.evaluator_step))
    assert result.scoring == pytest.approx(9 * result.candidate)
    assert result.memory > 50 * 2**20  # torch alone takes more


def test_the_estimate_counts_what_is_to_be_done(tmp_path, tiny_config):
    search = prepare_search(tiny_config(tmp_path, evaluator_start=1, scoring_batch_size=12))
    result = estimate(replace(search), repetitions=1)
    assert result.training == pytest.approx(2 * (3 * result.weight_step + 2 * result.evaluator_step))
    assert result.scoring == pytest.approx(6 * result.candidate)


# Variants


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": "setn-lr"},
        {"strategy": "setn-non"},
        {"candidate_source": "argmax"},
        {"candidate_source": "uniform"},
        {"candidate_source": "evolution"},
        {"candidate_source": "refit"},
        {"space": "large"},
        {"precision": "bfloat16"},
        {"select_by": "accuracy", "batch_norm": "recalibrated"},
        {"cost_weight": 0.1, "path_dropout": 0.0, "cutout": 2, "flip": True},
    ],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_every_variant_ends_with_a_winner(tmp_path, tiny_config, values):
    config = tiny_config(tmp_path, epochs=1, candidates=4, **values)
    winner = run_search(config)
    scored = read_journal(tmp_path / "candidates.jsonl")
    assert Genotype.from_json((tmp_path / "genotype.json").read_text(encoding="utf-8")) == winner.genotype
    best = min(scored, key=lambda line: line["loss"])
    if config.select_by == "accuracy":
        best = max(scored, key=lambda line: line["accuracy"])
    assert Genotype.from_darts(best["genotype"]) == winner.genotype
    assert sum(line["draws"] for line in scored) == (1 if config.candidate_source == "argmax" else 4)
    assert all(line["images"] == 32 and math.isfinite(line["loss"]) for line in scored)


def test_the_evaluator_learns_once_it_joins(tmp_path, tiny_config):
    config = tiny_config(tmp_path, nodes=2, evaluator_lr=0.5, evaluator_start=1)
    with Run.open(config, "search") as run:
        lines = train(prepare_search(config, run), run)
    uniform = 2 * sum(2 * math.log(2 + node) + math.log(21) for node in range(2))
    assert lines[0]["entropy"] == pytest.approx(uniform)
    assert uniform > lines[1]["entropy"] + 0.5 > lines[2]["entropy"] + 1.0
    assert lines[0]["evaluator_loss"] is None
    assert lines[0]["evaluator_accuracy"] is None
    assert all(line["evaluator_loss"] > 0 for line in lines[1:])
    assert load_latest(tmp_path / "checkpoints")[0] == 3


def test_the_defaults_are_the_papers():
    config = SearchConfig()
    assert (config.channels, config.repeats, config.nodes, config.epochs, config.batch_size) == (16, 2, 4, 400, 64)
    assert (config.weight_lr, config.weight_momentum, config.weight_decay) == (0.025, 0.9, 3e-4)
    assert (config.evaluator_lr, config.evaluator_weight_decay) == (3e-3, 1e-3)
    assert (config.gradient_clip, config.path_dropout, config.candidates) == (10, 0.1, 1000)


@pytest.mark.parametrize("space", ["small", "nasbench201"])
def test_the_estimate_counts_what_candidates_share(tmp_path, tiny_config, space):
    """As much as a batch of them really keeps, up to chance in which operations are drawn."""
    search = prepare_search(tiny_config(tmp_path, space=space, nodes=4, channels=3))
    cache = {}
    images = normalize_images(search.valid.images, search.normalization)
    with torch.no_grad():
        for architecture in search.space.sample(np.random.default_rng(7), 32, search.space.cell_types):
            steps.one_shot(search, images, search.template.per_cell(architecture), cache)
    kept = {one.data_ptr(): one.numel() * one.element_size() for one in cache.values()}
    assert shared_results(search) == pytest.approx(sum(kept.values()), rel=0.1)
