"""Several processes train one template: as one process that takes the parts in turn, and all end where one ends."""

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import torch.nn.functional as F
from groups import run_group
from parameters import as_options
from references import TINY, StopError, randomized, run_search

from setn_lab import commands
from setn_lab.compute import distributed
from setn_lab.compute.distributed import ALONE, LostProcessError, ProcessGroup, Shard, process_group
from setn_lab.config import ConfigError, digest
from setn_lab.runs.journal import read_journal
from setn_lab.search import __main__ as command
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import check_processes, prepare_search
from setn_lab.search.steps import Trainer
from setn_lab.terminal import Terminal

STEPS = 3
TWO_PARTS = {"batch_parts": 2, "path_dropout": 0.3, "weight_decay": 0.1, "weight_lr": 0.1, "gradient_clip": 0.5}
OTHERS = [
    {"batch_parts": 4, "sampling": "fair", "weight_averaging": 0.9, "gradient_clip": 0.3},
    {"batch_parts": 2, "evaluator_gradient": "rloo", "strategy": "setn-lr", "cost_weight": 0.5},
    {"batch_parts": 2, "strategy": "setn-non"},
]
DONE = "the processes have come to the same"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trainer_of(values, processes=ALONE):
    """A trainer whose evaluator is not uniform."""
    trainer = Trainer(prepare_search(SearchConfig(**{**TINY, **values}), None, processes), processes)
    randomized(trainer.search.evaluator, seed=0)
    return trainer


def exact(trainer):
    """The trainer in float64, in which another order of sums turns no ReLU."""
    for module in (trainer.search.template, trainer.search.evaluator):
        module.double()
    batch = trainer.batch
    trainer.batch = lambda *of: (batch(*of)[0].double(), batch(*of)[1])
    return trainer


def train(trainer):
    """What some steps of both kinds come to."""
    outcomes = [step(number) for number in range(STEPS) for step in (trainer.weight_step, trainer.evaluator_step)]
    return {"outcomes": outcomes, **trainer.state()}


def train_together(folder):
    """In each process: train every search, then lose the second process, and keep what was found."""
    with process_group("cpu") as processes:
        found = [train(exact(trainer_of(TWO_PARTS, processes)))]
        found += [train(trainer_of(values, processes)) for values in (TWO_PARTS, *OTHERS)]
        torch.save(found, folder / f"{processes.share.rank}.pt")
        last = trainer_of(TWO_PARTS, processes)
        processes.wait()
        if not processes.first:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            last.weight_step(0)
        except LostProcessError as error:
            print(error)
            os._exit(1)


@pytest.fixture(scope="module")
def together(tmp_path_factory, fork_server):
    """What two processes came to, each, and what they printed."""
    folder = tmp_path_factory.mktemp("processes")
    text, code = run_group(fork_server, folder / "log", train_together, folder)
    assert code != 0
    assert (folder / "1.pt").exists(), text
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)], text


def mean(gradients):
    """Over the parts, 0 for one that does not use the parameter; None where none does."""
    used = [gradient for gradient in gradients if gradient is not None]
    return sum(used) / len(gradients) if used else None


def clipped(gradients, limit):
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients if gradient is not None))
    assert norm > limit, "nothing was clipped"
    return [None if gradient is None else gradient * limit / (norm + 1e-6) for gradient in gradients]


def test_two_processes_take_the_mean_step_of_their_architectures(together):
    """In float64, against steps that are written out: what no part uses keeps its bits, also where it has momentum."""
    trainer = exact(trainer_of(TWO_PARTS))
    search, config = trainer.search, trainer.search.config
    template, evaluator = search.template, search.evaluator
    names, parameters = zip(*template.named_parameters(), strict=True)
    adam = torch.optim.Adam(evaluator.parameters(), config.evaluator_lr, weight_decay=config.evaluator_weight_decay)
    velocity, outcomes, by_one, left_out = {}, [], 0, 0
    for step in range(STEPS):
        images, labels = trainer.batch(search.train, "train", step)
        gradients, losses = [], []
        for part, rows in enumerate((slice(0, 8), slice(8, 16))):
            (architecture,) = trainer.architectures(step, part)
            logits = template.sampled(images[rows], architecture, trainer.path_dropout(step, 8, part))
            losses.append(F.cross_entropy(logits, labels[rows]))
            gradients.append(torch.autograd.grad(losses[-1], parameters, allow_unused=True))
        outcomes.append(sum(losses).item() / 2)
        by_one += sum((a is None) != (b is None) for a, b in zip(*gradients, strict=True))
        together_ = clipped([mean(both) for both in zip(*gradients, strict=True)], config.gradient_clip)
        rate = config.weight_lr * (1 + math.cos(math.pi * step / (config.epochs * search.steps))) / 2
        with torch.no_grad():
            for name, parameter, gradient in zip(names, parameters, together_, strict=True):
                left_out += gradient is None and name in velocity
                if gradient is not None:
                    decayed = gradient + config.weight_decay * parameter
                    velocity[name] = decayed + config.weight_momentum * velocity.get(name, 0.0)
                    parameter -= rate * velocity[name]
        images, labels = trainer.batch(search.valid, "valid", step)
        mixing = evaluator.mixing_weights()
        halves = [F.cross_entropy(template.mixed(images[r], mixing), labels[r]) for r in (slice(0, 8), slice(8, 16))]
        loss = sum(halves) / 2
        outcomes.append(loss.item())
        adam.zero_grad()
        loss.backward(inputs=list(evaluator.parameters()))
        torch.nn.utils.clip_grad_norm_(evaluator.parameters(), config.gradient_clip)
        adam.step()
    assert by_one > 0
    assert left_out > 0
    for found in (processes[0] for processes in together[0]):
        torch.testing.assert_close([outcome[0].item() for outcome in found["outcomes"]], outcomes)
        for name, value in template.state_dict().items():
            torch.testing.assert_close(found["template"][name], value, rtol=1e-7, atol=1e-10)
        for name, value in evaluator.state_dict().items():
            torch.testing.assert_close(found["evaluator"][name], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("number", range(4), ids=lambda number: str((TWO_PARTS, *OTHERS)[number]))
def test_both_processes_hold_the_bits_of_one_process_that_takes_the_parts_in_turn(together, as_bits, number):
    alone = as_bits(train(trainer_of((TWO_PARTS, *OTHERS)[number])))
    for processes in together[0]:
        found = as_bits(processes[1 + number])
        stateless = {name for name in found if name != "gradient"}  # which the first process alone carries
        assert {name: found[name] for name in stateless} == {name: alone[name] for name in stateless}
    assert as_bits(together[0][0][1 + number]) == alone


def test_a_process_says_that_another_has_ended(together):
    assert "another process of this job has ended" in together[1]


# Whole searches

VALUES = {**TINY, "nodes": 1, "batch_parts": 2, "weight_averaging": 0.9, "epochs": 6, "baseline_candidates": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, outcome):
    """What the search of one process comes to."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    run_search(SearchConfig(**VALUES, run_dir=str(folder)))
    return outcome(folder)


def search_as_a_member(folder):
    sys.argv[1:] = as_options({**VALUES, "run_dir": folder})
    return command.main()


def test_a_search_that_one_process_began_is_ended_by_two(tmp_path, fork_server, whole, outcome):
    def stop(progress):
        if progress.done == 5:
            raise StopError

    with pytest.raises(StopError):
        run_search(SearchConfig(**VALUES, run_dir=str(tmp_path / "run")), stop)
    text, code = run_group(fork_server, tmp_path / "log", search_as_a_member, tmp_path / "run")
    assert code == 0, text
    assert outcome(tmp_path / "run") == whole
    assert text.count("run folder: ") == 1, "another than the first printed too"
    assert (tmp_path / "run" / "cells.svg").exists()


@pytest.mark.filterwarnings("ignore:.*resumed in another environment")  # a commit may lie between
def test_a_killed_process_ends_the_command_and_one_process_ends_the_search(tmp_path, whole, outcome, light_python):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["--no-python", *light_python, "setn_lab.search", *as_options({**VALUES, "run_dir": tmp_path / "run"})]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    journal = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 180
    while not journal.exists() or not journal.read_text(encoding="utf-8").count("\n"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = [child for child in psutil.Process(process.pid).children() if "setn_lab.search" in child.cmdline()]
    assert len(workers) == 2
    by_rank = {int(worker.environ()["RANK"]): worker for worker in workers}
    by_rank[1].send_signal(signal.SIGKILL)
    text = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "SIGKILL" in text
    assert 0 < len(read_journal(journal)) < VALUES["epochs"]
    run_search(SearchConfig(**VALUES, run_dir=str(tmp_path / "run")))
    assert outcome(tmp_path / "run") == whole


# What is refused


@pytest.mark.parametrize("parts", [3, 16, 0])
def test_parts_that_are_not_equal_or_too_small_are_refused(parts):
    with pytest.raises(ConfigError, match=f"batch_parts: {parts} .*given.* allowed"):
        SearchConfig(**{**TINY, "batch_parts": parts})


def test_processes_that_do_not_divide_the_parts_are_refused_before_there_is_a_folder(tmp_path, monkeypatch):
    config = SearchConfig(**{**TINY, "batch_parts": 4, "run_dir": str(tmp_path / "run")})
    for count in (1, 2, 4):
        check_processes(config, ProcessGroup(Shard(0, count)))
    three = ProcessGroup(Shard(0, 3))
    with pytest.raises(ConfigError, match=r"batch_parts: 4 given for 3 processes; a multiple .* allowed"):
        prepare_search(config, None, three)
    monkeypatch.setattr(distributed, "process_group", lambda device: nullcontext(three))
    with pytest.raises(ConfigError, match="batch_parts: 4 given for 3 processes"):
        commands.search(config, Terminal())
    with pytest.raises(ConfigError, match=r"--notebook: .* given for several processes; leave it out"):
        commands.search(config, Terminal(), tmp_path / "search.ipynb")
    assert not list(tmp_path.iterdir())


def test_the_parts_name_the_run_and_one_is_what_was_before():
    config = SearchConfig(**TINY)
    assert digest(config) == digest(replace(config, batch_parts=1))
    assert digest(config) != digest(replace(config, batch_parts=2))


def test_shares_are_equal_and_a_single_part_is_the_first_processs():
    for processes in (1, 2, 3, 4):
        shares = [Shard(rank, processes) for rank in range(processes)]
        for count in (processes, 4 * processes):
            assert [part for share in shares for part in share.parts(count)] == list(range(count))
            assert {len(share.parts(count)) for share in shares} == {count // processes}
        assert [list(share.parts(1)) for share in shares] == [[0], *[[]] * (processes - 1)]
