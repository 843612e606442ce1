"""A search is killed at twenty moments, started again each time, and must end as if nothing had happened.

Each start is a process of its own, forked from a server that has imported torch already. A moment is a point in
the code and a count: the process kills itself with SIGKILL when it comes there for that time since its start.
"""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from setn_lab.compute import streams
from setn_lab.data import batches, images
from setn_lab.runs import checkpoint
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import Progress
from setn_lab.runs.run import Run
from setn_lab.search import candidates, setup, sources, steps
from setn_lab.search.config import SearchConfig
from setn_lab.search.training import train

VALUES = {
    "epochs": 18,
    "batch_size": 8,
    "limit_train": 16,
    "limit_valid": 16,
    "candidates": 16,
    "baseline_candidates": 6,
}
SEED = 20


# In the child


class Killer:
    """Kills this process at the `count`-th time it comes to `point`."""

    def __init__(self, point: str, count: int) -> None:
        self.point, self.left = point, count

    def reached(self, point: str) -> bool:
        if point == self.point:
            self.left -= 1
        return point == self.point and self.left == 0

    def at(self, point: str) -> None:
        if self.reached(point):
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        real = {"fsync": os.fsync, "replace": os.replace, "write": os.write, "unlink": Path.unlink}
        save, evaluate = checkpoint.save, candidates.evaluate

        def fsync(descriptor: int) -> None:
            here = os.fstat(descriptor)
            for temporary in (*Path(FOLDER).glob(".*.tmp"), *Path(FOLDER, "checkpoints").glob(".*.tmp")):
                if os.path.samestat(here, temporary.stat()) and self.reached(f"half of {kind(temporary)}"):
                    os.ftruncate(descriptor, here.st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
            real["fsync"](descriptor)

        def replace(source: Path, target: Path) -> None:
            self.at(f"before {kind(target)}")
            real["replace"](source, target)
            self.at(f"after {kind(target)}")

        def unlink(path: Path, missing_ok: bool = False) -> None:
            self.at("older checkpoint")
            real["unlink"](path, missing_ok)

        def write(descriptor: int, line: bytes) -> int:
            journal = next((name for name, start in LINES.items() if bytes(line).startswith(start)), None)
            if journal and self.reached(f"half line of {journal}"):
                real["write"](descriptor, line[: len(line) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self.at(f"before line of {journal}")
            written = real["write"](descriptor, line)
            self.at(f"line of {journal}")
            return written

        def saving(*arguments: object) -> Path:
            self.at("before checkpoint is begun")
            return save(*arguments)

        def evaluating(*arguments: object) -> list[tuple[float, float]]:
            result = evaluate(*arguments)
            self.at("scored")
            return result

        os.fsync, os.replace, os.write, Path.unlink = fsync, replace, write, unlink
        checkpoint.save, candidates.evaluate = saving, evaluating

    def observe(self, progress: Progress) -> None:
        self.at("epoch" if progress.phase == "train" and progress.record else progress.phase)


FOLDER = ""  # of the run in this process
LINES = {"metrics": b'{"epoch": ', "candidates": b'{"genotype": '}  # alike those of "evaluator" and "baseline"


def kind(path: Path) -> str:
    """checkpoint for both `checkpoint-00001-0123456789abcdef.pt` and `.checkpoint-....pt.tmp`."""
    name = path.name.removeprefix(".").removesuffix(".tmp")
    return "checkpoint" if name.startswith("checkpoint-") else name


def start(values: dict, moment: tuple[str, int] | None, sabotage: str | None = None) -> None:
    """One start of the search in this process, to its end or to its death."""
    global FOLDER
    FOLDER = values["run_dir"]
    torch.set_num_threads(1)
    candidates.TOGETHER = 2  # several groups, so that a kill falls between two
    if sabotage:
        forget_where_we_were(sabotage)
    killer = Killer(*moment or ("", 0))
    killer.install()
    config = SearchConfig(**values)
    with Run.open(config, "search", lock_wait=30) as run:
        work = setup.prepare_search(config, run)
        train(work, run, killer.observe)
        candidates.search_candidates(work, run, killer.observe)


def forget_where_we_were(sabotaged: str) -> None:
    """Make random draws of a stream, or of all, depend on the process: what a search must never do.

    A stream becomes a usual generator, which depends on what it has drawn since the process began.
    """
    real = streams.generator
    usual = np.random.default_rng(0)

    def generator(seed: int, stream: str, step: int = 0) -> np.random.Generator:
        if sabotaged == "all":
            return real(seed, f"{stream} of process {os.getpid()}", step)
        return usual if stream == sabotaged else real(seed, stream, step)

    for module in (batches, images, setup, sources, steps):
        module.generator = generator
    steps.TOGETHER = 1  # else the resumed run would make the first batches again, with the same draws


# In the tests


@pytest.fixture(scope="module")
def launch(fork_server, tiny):
    """launch(folder, moment): start the search in a process of its own; its exit code, -9 after SIGKILL."""

    def launch(folder: Path, moment=None, sabotage=None, **values) -> int:
        values = {**tiny, **VALUES, "run_dir": str(folder), **values}
        process = fork_server.Process(target=start, args=(values, moment, sabotage))
        process.start()
        process.join()
        return process.exitcode

    return launch


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, launch, outcome):
    folder = tmp_path_factory.mktemp("kill") / "uninterrupted"
    assert launch(folder) == 0
    return outcome(folder)


def plan(rng: random.Random) -> list[tuple[str, int]]:
    """Twenty moments; those in training go back or forth by less than an epoch each, so all are reached."""
    training = [
        [("train", rng.randint(1, 3))],  # steps, two an epoch
        [("train", rng.randint(1, 3))],
        [("train", rng.randint(1, 3))],
        [("epoch", 1)],
        [("half of checkpoint", rng.randint(1, 2))],
        [("before checkpoint", rng.randint(1, 2))],
        [("after checkpoint", rng.randint(1, 2))],
        [("half line of metrics", rng.randint(1, 4))],  # of the evaluator's journal if even
        [("before line of metrics", 2)],  # between the two journals
        [("before checkpoint is begun", 1), ("before metrics.jsonl", 1)],  # and while what is ahead is cut off
    ]
    rng.shuffle(training)
    # older checkpoints are deleted from the third epoch on, which is reached after most of the others
    training.insert(rng.randint(7, len(training)), [("older checkpoint", 1)])
    middle = [moment for moments in training for moment in moments]
    scoring = [
        ("half line of candidates", rng.randint(1, 4)),
        ("line of candidates", rng.randint(1, 3)),
        ("scored", rng.randint(1, 2)),
        ("score", rng.randint(1, 3)),
        ("scored", rng.randint(1, 2)),
    ]
    rng.shuffle(scoring)
    return [
        ("half of config.json", 1),
        *middle,
        *scoring,
        ("half of genotype.json", 1),
        ("after genotype.json", 1),
    ]


def test_killed_twenty_times_it_ends_as_the_uninterrupted_run(tmp_path, launch, uninterrupted, outcome):
    moments = plan(random.Random(SEED))
    assert len(moments) == 20
    for number, moment in enumerate(moments):
        print(f"kill {number + 1} of seed {SEED}: {moment}")  # shown when the test fails
        assert launch(tmp_path, moment) == -signal.SIGKILL, f"{moment} was not reached"
    assert launch(tmp_path) == 0
    assert outcome(tmp_path) == uninterrupted
    for journal, count in (("candidates", VALUES["candidates"]), ("baseline", VALUES["baseline_candidates"])):
        lines = read_journal(tmp_path / f"{journal}.jsonl")
        assert len({line["genotype"] for line in lines}) == len(lines)
        assert sum(line["draws"] for line in lines) == count
    assert [line["epoch"] for line in read_journal(tmp_path / "evaluator.jsonl")] == list(range(1, 19))
    assert not list(tmp_path.rglob("*.tmp"))


STREAMS = ["architecture", "path dropout", "train order", "train augmentation", "valid order", "valid augmentation"]


@pytest.mark.parametrize("stream", STREAMS)
def test_the_comparison_finds_a_stream_that_a_resumed_run_does_not_go_on_with(tmp_path, launch, outcome, stream):
    short = {"epochs": 2}
    for name in ("whole", "twin"):  # uninterrupted it is reproducible
        assert launch(tmp_path / name, sabotage=stream, **short) == 0
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "twin")
    assert launch(tmp_path / "killed", ("train", 3), sabotage=stream, **short) == -signal.SIGKILL
    assert launch(tmp_path / "killed", sabotage=stream, **short) == 0
    assert outcome(tmp_path / "whole") != outcome(tmp_path / "killed")


def test_the_comparison_finds_draws_that_depend_on_the_process(tmp_path, launch, uninterrupted, outcome):
    assert launch(tmp_path, ("train", 3), sabotage="all") == -signal.SIGKILL
    assert launch(tmp_path, sabotage="all") == 0
    result = outcome(tmp_path)
    same = {name for name in result if result[name] == uninterrupted[name]}
    assert same == {"step", "of"}
