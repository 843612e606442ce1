"""Algorithm 1, first half: train the template and the evaluator in turn."""

import math
import time
from contextlib import closing
from typing import Any

import torch

from setn_lab.compute.device import explain_out_of_memory
from setn_lab.compute.distributed import ALONE, ProcessGroup
from setn_lab.config import ConfigError, contents, differences
from setn_lab.runs import checkpoint
from setn_lab.runs.errors import RunError
from setn_lab.runs.place import found
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run
from setn_lab.runs.tracking import tracked
from setn_lab.search.config import TEMPLATE, read_config
from setn_lab.search.setup import Search
from setn_lab.search.stages import template_parameters
from setn_lab.search.steps import Trainer, learning_rate


class SearchError(RuntimeError):
    """The search cannot go on: a loss, a weight or what the evaluator has learned is not finite."""


def train(
    search: Search, run: Run | None, observe: Observer = lambda progress: None, processes: ProcessGroup = ALONE
) -> list[dict[str, Any]]:
    """Train template and evaluator (the loop of Algorithm 1), from the run's newest checkpoint, else from the start.

    What the networks held before does not matter: a training that was broken off in this process goes on as one that
    was killed.

    run: open in the first of the processes, None in the others. Appends a line per epoch to the journals `metrics` and
    `evaluator`, saves a checkpoint after each, and returns the lines of `metrics`, in the first process. Raises
    SearchError when a loss or a parameter is no longer finite at the end of an epoch: nothing of that epoch is kept,
    and the checkpoints before it stay. Raises RunError where the run was opened with another config or other images
    than the search was prepared with, LostProcessError where another process has ended.
    """
    config, total = search.config, search.epochs * search.steps
    trainer = Trainer(search, processes)
    begin = _begin(search, trainer, run, processes)
    with closing(trainer), tracked(config.tracker, run, observe) as watch:
        if begin == search.epochs:
            watch(Progress("train", total, total))
        for epoch in range(begin, search.epochs):
            started = time.perf_counter()
            search.held.epochs = None
            stage, stage_end = _stage(search, epoch)
            sums = torch.zeros(4, device=search.device)  # losses and correct answers; read once, after the epoch
            for step in range(epoch * search.steps, (epoch + 1) * search.steps):
                with explain_out_of_memory("batch_size"):
                    if epoch < config.epochs:
                        sums[:2] += trainer.weight_step(step)
                    if epoch >= config.evaluator_start:
                        sums[2:] += trainer.evaluator_step(step)
                watch(Progress("train", step + 1, total, None, stage, stage_end))
            record = _record(search, epoch, sums, time.perf_counter() - started)
            _refuse_what_is_not_finite(search, epoch)
            if run is not None:
                _keep(search, trainer, run, record)
            search.held.epochs = epoch + 1
            watch(Progress("train", (epoch + 1) * search.steps, total, record, stage, stage_end))
    if run is None:
        return []
    run.note(TEMPLATE, search.stages.template)
    return run.read("metrics")


def _begin(search: Search, trainer: Trainer, run: Run | None, processes: ProcessGroup) -> int:
    """Where the first process goes on, and in the others what it holds; returns the number of epochs that are done."""
    if run is not None:
        search.check_run(run)
    done = 0 if run is None else _resume(search, trainer, run)
    epoch, state = processes.of_first((done, trainer.state()))
    if not processes.first:
        trainer.load_state(state)
    search.held.epochs, search.held.folder = epoch, None if run is None else run.folder
    return epoch


def _keep(search: Search, trainer: Trainer, run: Run, record: dict[str, Any]) -> None:
    """Write an epoch into the run folder: its lines, then its checkpoint."""
    epoch, made_from = record["epoch"], {"of": search.stages.evaluator}
    run.append("metrics", record)
    run.append("evaluator", {"epoch": epoch, **search.evaluator.distributions().to_record(), **made_from})
    checkpoint.save(run.checkpoints, epoch, {**trainer.state(), **made_from})


def _stage(search: Search, epoch: int) -> tuple[str, int]:
    """What an epoch trains, in words, and the number of steps at whose end it trains something else."""
    config = search.config
    if epoch >= config.epochs:
        return "the evaluator", search.epochs * search.steps
    if epoch < config.evaluator_start:
        return "the template", config.evaluator_start * search.steps
    return "template and evaluator", config.epochs * search.steps


def _resume(search: Search, trainer: Trainer, run: Run) -> int:
    """Load the newest good checkpoint, cut the journals to it, and return the number of epochs it has done."""
    latest = _latest(search, run)
    first = 0 if search.config.template_run is None else search.config.epochs
    epoch = first
    if latest is not None:
        epoch, state = latest
        trainer.load_state(state)
        search.held.epochs, search.held.folder = epoch, run.folder
    else:
        if search.held.epochs != 0:
            search.restart()
        if first:
            _take_template(search)
            _begin_with_template(search, trainer, run)
    if epoch < search.config.epochs:
        run.note(TEMPLATE, None)  # a finished one, whose checkpoint is gone
    taken = 1 if first else 0  # a line of the taken template, as `_begin_with_template` leaves it
    for journal in ("metrics", "evaluator"):  # an epoch is journaled before its checkpoint is written
        run.keep(journal, epoch - first + taken)
    return epoch


def _begin_with_template(search: Search, trainer: Trainer, run: Run) -> None:
    """Keep the taken template and the untrained evaluator, as the epoch in which the template was finished."""
    record: dict[str, Any] = {"epoch": search.config.epochs}
    record |= dict.fromkeys(("weight_loss", "weight_accuracy", "evaluator_loss", "evaluator_accuracy"))
    record |= {"entropy": search.evaluator.distributions().entropy(), "seconds": 0.0, "of": search.stages.evaluator}
    for journal in ("metrics", "evaluator"):
        run.keep(journal, 0)
    _keep(search, trainer, run, record)


def _take_template(search: Search) -> None:
    """The weights of the finished template in `template_run`. Raises ConfigError for one of other parameters."""
    folder = found(str(search.config.template_run), "template_run")
    if contents(search.config)["template_run"]["digest"] != search.stages.template:
        here, there = (template_parameters(config) for config in (search.config, read_config(folder)))
        raise ConfigError(
            f"template_run: {str(folder)!r} given, whose template is another than this search's:\n  "
            + "\n  ".join(differences(there, here) or ["other images"])
            + "\nGive the search those parameters, or leave template_run out"
        )
    latest = checkpoint.load_latest(folder / "checkpoints")
    if latest is None or latest[0] < search.config.epochs:  # deleted or damaged since
        raise ConfigError(
            f"template_run: {str(folder)!r} given, which holds no checkpoint of the finished template any more: train "
            "it to the end again"
        )
    _hold(search, latest[1], "template", "average")


def _hold(search: Search, state: dict[str, Any], *parts: str) -> None:
    """Load those parts of a checkpoint into the search, `average` where it has one."""
    for part in parts:
        if getattr(search, part) is not None:
            getattr(search, part).load_state_dict(state[part])


def load_trained(search: Search, run: Run) -> None:
    """Have the networks hold what they came to at the end of the training, from the run folder unless they do.

    Raises SearchError where epochs are missing.
    """
    epochs = search.epochs
    if search.held.epochs == epochs:
        return
    done, state = _latest(search, run) or (0, {})
    if done < epochs:
        raise SearchError(
            f"{run.folder}: {done} of {epochs} epochs are trained; candidates are scored by a template whose training "
            "is over: train it to the end first, which goes on where it was"
        )
    _hold(search, state, "template", "average", "evaluator")
    search.held.epochs, search.held.folder = done, run.folder


def _latest(search: Search, run: Run) -> tuple[int, dict[str, Any]] | None:
    """The newest good checkpoint of the run. Raises RunError for one that was made from something else."""
    latest = checkpoint.load_latest(run.checkpoints)
    if latest is not None and latest[1].get("of", search.stages.evaluator) != search.stages.evaluator:
        raise RunError(
            f"{run.checkpoints}: holds the checkpoint of another search, of other images or other parameters: put the "
            "folder's own back, or give another run_dir"
        )
    return latest


def _record(search: Search, epoch: int, sums: torch.Tensor, seconds: float) -> dict[str, Any]:
    """The line of one epoch. Raises SearchError where a loss is not finite."""
    weight_loss, weight_accuracy, evaluator_loss, evaluator_accuracy = (sums / search.steps).tolist()
    if not (math.isfinite(weight_loss) and math.isfinite(evaluator_loss)):
        raise _diverged(search, epoch, "a loss", f"weights {weight_loss}, evaluator {evaluator_loss}")
    weights, trained = epoch < search.config.epochs, epoch >= search.config.evaluator_start
    return {
        "epoch": epoch + 1,
        "weight_loss": weight_loss if weights else None,
        "weight_accuracy": weight_accuracy if weights else None,
        "evaluator_loss": evaluator_loss if trained else None,
        "evaluator_accuracy": evaluator_accuracy if trained else None,
        "entropy": search.evaluator.distributions().entropy(),
        "seconds": seconds,
        "of": search.stages.evaluator,
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
