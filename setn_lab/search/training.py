"""Algorithm 1, first half: train the template and the evaluator in turn."""

import math
import time
from typing import Any

import torch

from setn_lab.compute.device import explain_out_of_memory
from setn_lab.runs import checkpoint
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run
from setn_lab.search.setup import Search
from setn_lab.search.steps import Trainer, learning_rate


class SearchError(RuntimeError):
    """The search cannot go on: a loss, a weight or what the evaluator has learned is not finite."""


def train(search: Search, run: Run, observe: Observer = lambda progress: None) -> list[dict[str, Any]]:
    """Train template and evaluator (the loop of Algorithm 1), from the run's newest checkpoint if it has one.

    Appends a line per epoch to the journals `metrics` and `evaluator`, saves a checkpoint after each, and returns
    the lines of `metrics`. Raises SearchError when a loss or a parameter is no longer finite at the end of an epoch:
    nothing of that epoch is kept, and the checkpoints before it stay.
    """
    config, evaluator = search.config, search.evaluator
    trainer = Trainer(search)
    begin = _resume(search, trainer, run)
    for epoch in range(begin, config.epochs):
        started = time.perf_counter()
        sums = torch.zeros(4, device=search.device)  # losses and correct answers; read once, after the epoch
        for step in range(epoch * search.steps, (epoch + 1) * search.steps):
            with explain_out_of_memory("batch_size"):
                sums[:2] += trainer.weight_step(step)
                if epoch >= config.evaluator_start:
                    sums[2:] += trainer.evaluator_step(step)
            observe(Progress("train", step + 1, config.epochs * search.steps))
        record = _record(search, epoch, sums, time.perf_counter() - started)
        _refuse_what_is_not_finite(search, epoch)
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
        raise _diverged(search, epoch, "a loss", f"weights {weight_loss}, evaluator {evaluator_loss}")
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


def _refuse_what_is_not_finite(search: Search, epoch: int) -> None:
    """Raises SearchError where a parameter is not finite, which the losses of an epoch need not show."""
    for name, part in (("the template", search.template), ("the evaluator", search.evaluator)):
        finite = torch.stack([torch.isfinite(parameter).all() for parameter in part.parameters()])
        if not bool(finite.all()):
            raise _diverged(search, epoch, "a parameter", f"of {name}")


def _diverged(search: Search, epoch: int, what: str, where: str) -> SearchError:
    steps = search.steps
    rate = learning_rate(search.config, epoch * steps, search.config.epochs * steps)
    return SearchError(
        f"{what} is not finite in epoch {epoch + 1} (steps {epoch * steps + 1} to {(epoch + 1) * steps}, weight_lr "
        f"{search.config.weight_lr}, annealed to {rate:.3g}): {where}. Checkpoints of earlier epochs are kept. Lower "
        "weight_lr or evaluator_lr, which starts a new run."
    )
