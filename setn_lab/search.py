"""Algorithm 1, first half: train the template and the evaluator in turn, and say beforehand what it will cost."""

import copy
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from setn_lab import checkpoint, data
from setn_lab.costs import synchronize
from setn_lab.prepare import Search, SearchConfig, prepare
from setn_lab.runs import Run
from setn_lab.steps import Trainer, learning_rate

__all__ = ["Estimate", "Progress", "Search", "SearchConfig", "SearchError", "estimate", "prepare", "train"]


@dataclass(frozen=True)
class Progress:
    """How far a phase is, for an observer: `done` of `total` units, `record` where one was just written."""

    phase: Literal["train", "score", "networks"]
    done: int
    total: int
    record: dict[str, Any] | None = None


Observer = Callable[[Progress], None]


class SearchError(RuntimeError):
    """The search cannot go on: the loss is not finite, or memory is short."""


def train(search: Search, run: Run, observe: Observer = lambda progress: None) -> list[dict[str, Any]]:
    """Train template and evaluator (the loop of Algorithm 1), from the run's newest checkpoint if it has one.

    Appends a line an epoch to the journals `metrics` and `evaluator`, saves a checkpoint after each, and returns
    the lines of `metrics`. Raises SearchError when a loss is no longer finite; the checkpoints stay.
    """
    config, evaluator = search.config, search.evaluator
    trainer = Trainer(search)
    begin = _resume(search, trainer, run)
    for epoch in range(begin, config.epochs):
        started = time.perf_counter()
        sums = torch.zeros(4, device=search.device)  # losses and correct answers; read once, after the epoch
        for step in range(epoch * search.steps, (epoch + 1) * search.steps):
            with naming_memory("batch_size"):
                sums[:2] += trainer.weight_step(step)
                if epoch >= config.evaluator_start:
                    sums[2:] += trainer.evaluator_step(step)
            observe(Progress("train", step + 1, config.epochs * search.steps))
        record = _record(search, epoch, sums, time.perf_counter() - started)
        run.append("metrics", record)
        run.append("evaluator", {"epoch": epoch + 1, **evaluator.distributions().to_record()})
        checkpoint.save(run.checkpoints, epoch + 1, trainer.state())
        observe(Progress("train", (epoch + 1) * search.steps, config.epochs * search.steps, record))
    return run.read("metrics")


def _resume(search: Search, trainer: Trainer, run: Run) -> int:
    """Load the newest good checkpoint, cut the journals to it, and return the number of epochs it has done."""
    latest = checkpoint.load_latest(run.checkpoints)
    epoch = 0
    if latest is not None:
        epoch, state = latest
        trainer.load_state(state)
    for journal in ("metrics", "evaluator"):  # an epoch is journaled before its checkpoint is written
        run.keep(journal, epoch)
    return epoch


def _record(search: Search, epoch: int, sums: torch.Tensor, seconds: float) -> dict[str, Any]:
    """The line of one epoch. Raises SearchError where a loss is not finite."""
    weight_loss, weight_accuracy, evaluator_loss, evaluator_accuracy = (sums / search.steps).tolist()
    if not (math.isfinite(weight_loss) and math.isfinite(evaluator_loss)):
        last = (epoch + 1) * search.steps
        rate = learning_rate(search.config, epoch * search.steps, search.config.epochs * search.steps)
        raise SearchError(
            f"a loss is not finite in epoch {epoch + 1} (steps {epoch * search.steps + 1} to {last}, weight_lr "
            f"{search.config.weight_lr}, annealed to {rate:.3g}): weights {weight_loss}, evaluator {evaluator_loss}. "
            "Checkpoints of earlier epochs are kept. Lower weight_lr or evaluator_lr, which starts a new run."
        )
    trained = epoch >= search.config.evaluator_start
    return {
        "epoch": epoch + 1,
        "weight_loss": weight_loss,
        "weight_accuracy": weight_accuracy,
        "evaluator_loss": evaluator_loss if trained else None,
        "evaluator_accuracy": evaluator_accuracy if trained else None,
        "entropy": search.evaluator.distributions().entropy(),
        "seconds": seconds,
    }


@dataclass(frozen=True)
class Estimate:
    """What a search will take, from a few timed steps. Seconds, and bytes at the peak."""

    weight_step: float
    evaluator_step: float
    candidate: float
    training: float
    scoring: float
    memory: int


def estimate(search: Search, repetitions: int = 3) -> Estimate:
    """Time a few steps on copies of the networks; the search itself is left as it was.

    The making of batches, a small part, is not in the steps' times, and candidates are counted as scored in full.

    The memory is the device's peak on CUDA, and elsewhere the peak of this process so far.
    """
    config = search.config
    template, evaluator = copy.deepcopy(search.template), copy.deepcopy(search.evaluator)
    trainer = Trainer(replace(search, template=template, evaluator=evaluator))

    def median(step: Callable[[int], object]) -> float:
        seconds = []
        for number in range(repetitions + 1):
            synchronize(search.device)
            started = time.perf_counter()
            step(number)
            synchronize(search.device)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[1:])  # the first one warms up

    with naming_memory("batch_size"):
        weight, evaluation = median(trainer.weight_step), median(trainer.evaluator_step)
    with naming_memory("scoring_batch_size"):
        batch = median(trainer.scoring_step)
    images = len(search.valid)
    candidate = batch * len(data.scoring_batches(images, config.scoring_batch_size))
    trained = config.epochs - config.evaluator_start
    return Estimate(
        weight_step=weight,
        evaluator_step=evaluation,
        candidate=candidate,
        training=search.steps * (config.epochs * weight + trained * evaluation),
        scoring=(config.candidates + config.baseline_candidates) * candidate,
        memory=_peak_memory(search.device),
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def naming_memory(parameter: str) -> Iterator[None]:
    """Turn running out of memory into an error that names the parameter to lower. Raises SearchError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not short:
            raise
        raise SearchError(
            f"memory is short: lower {parameter} (or channels). What was done so far is kept in the run folder. "
            f"({(str(error).splitlines() or [type(error).__name__])[0]})"
        ) from error
