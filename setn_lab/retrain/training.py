"""Train the network of one genotype from scratch (section 5.2), by one process or by several."""

import json
import math
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from setn_lab.compute.device import autocast, explain_out_of_memory, to_device
from setn_lab.compute.distributed import ALONE, ProcessGroup
from setn_lab.compute.streams import generator
from setn_lab.data.folders import DataError
from setn_lab.data.sources import NONE_BAD, Batch
from setn_lab.network.discrete import Network
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.results import SeedResult, results, results_of
from setn_lab.retrain.setup import Retraining
from setn_lab.runs import checkpoint
from setn_lab.runs.errors import RunError
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run
from setn_lab.runs.tracking import tracked
from setn_lab.space.genotype import Genotype


class RetrainError(RuntimeError):
    """The training cannot go on: a loss is not finite."""


@dataclass(frozen=True)
class Place:
    """Where a training is recorded; nowhere without anything.

    run: open in the first process, whose `journal` takes a line per epoch, which begins with `of`. checkpoints: their
    folder, which all processes read.
    """

    run: Run | None = None
    checkpoints: Path | None = None
    journal: str = "metrics"
    of: dict[str, Any] = field(default_factory=dict)

    def cut(self, seed: int, epochs: int) -> None:
        """Take the seed's later epochs out of the journal: an epoch is journaled before its checkpoint is written."""
        if self.run is None:
            return
        lines = self.run.read(self.journal)
        same = {**self.of, "seed": seed}
        kept = [line for line in lines if line["epoch"] <= epochs or any(line.get(k) != v for k, v in same.items())]
        if len(kept) < len(lines):
            self.run.write(f"{self.journal}.jsonl", "".join(json.dumps(line) + "\n" for line in kept))


def learning_rate(config: RetrainConfig, step: int, steps: int) -> float:
    """The rate at a global step of `steps` an epoch: a line up to weight_lr, then a half cosine down to 0."""
    warm, total = config.warmup_epochs * steps, config.epochs * steps
    if step < warm:
        return config.weight_lr * (step + 1) / warm
    return config.weight_lr * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


def retrain(
    setup: Retraining, run: Run | None, processes: ProcessGroup = ALONE, observe: Observer = lambda progress: None
) -> list[SeedResult]:
    """Train each seed from its newest checkpoint and export it as network-SEED.safetensors.

    run: open in the first process of the job, None in the others. Appends a line per epoch to the journal `metrics` and
    saves a checkpoint after each. Returns a result for each seed, in the first process. Raises RetrainError for a loss
    that is not finite, RunError for a run folder of another genotype, ShortMemoryError when memory is short.
    """
    if run is not None:
        _claim(run, setup.genotype)
    processes.wait()
    with tracked(setup.config.tracker, run, observe) as watch:
        for seed in range(setup.config.seed, setup.config.seed + setup.config.seeds):
            kept = run is not None or processes.share.processes > 1
            place = Place(run, setup.folder / "checkpoints" / f"seed-{seed}" if kept else None)
            network = _train(setup, place, processes, seed, watch)
            if run is not None:
                run.write(f"network-{seed}.safetensors", setup.trained(network.eval()).to_bytes())
    return [] if run is None else results(run.folder)


def retrain_once(setup: Retraining) -> SeedResult:
    """Train the first seed in memory: without a run folder, so nothing of it is kept or resumed.

    Raises RetrainError for a loss that is not finite, ShortMemoryError when memory is short.
    """
    records: list[dict[str, Any]] = []
    _train(setup, Place(), ALONE, setup.config.seed, lambda progress: records.append(progress.record or {}))
    (result,) = results_of([record for record in records if record])
    return result


def train_until(setup: Retraining, place: Place, epoch: int, observe: Observer = lambda progress: None) -> None:
    """Train the first seed up to that epoch of its recipe, from its newest checkpoint in `place`.

    The rates are those of the whole recipe, so that it may go on later. Raises what `retrain` raises.
    """
    _train(setup, place, ALONE, setup.config.seed, observe, epoch)


def _claim(run: Run, genotype: Genotype) -> None:
    """Write the genotype into the run folder, or find it there. Raises RunError where another one is."""
    path = run.folder / "genotype.json"
    if not path.exists():
        run.write(path.name, genotype.to_json() + "\n")
    elif (other := Genotype.from_json(path.read_text(encoding="utf-8"))) != genotype:
        raise RunError(
            f"{path}: holds {other.to_darts()}, and its checkpoints are of that genotype; {genotype.to_darts()} was "
            "given: choose another run_dir for it"
        )


def _train(
    setup: Retraining,
    place: Place,
    processes: ProcessGroup,
    seed: int,
    observe: Observer,
    last: int | None = None,
) -> Network:
    """The training loop of one seed, up to the epoch `last` or the recipe's last one; returns the trained network."""
    config, source, first = setup.config, setup.source, seed - setup.config.seed
    network = setup.network(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), config.weight_lr, momentum=config.weight_momentum, weight_decay=config.weight_decay
    )
    begin = _resume(network, optimizer, place.checkpoints) if place.checkpoints is not None else 0
    if not processes.agree(begin):
        raise RunError(
            f"{place.checkpoints}: the processes find different checkpoints there: all must read the same folder"
        )
    place.cut(seed, begin)
    parallel = processes.wrap(network, config.synchronized_batch_norm)
    total = config.seeds * config.epochs * source.steps
    if begin == config.epochs:
        observe(Progress("train", (first + 1) * config.epochs * source.steps, total))
    for epoch in range(begin, config.epochs if last is None else last):
        started = time.perf_counter()
        network.train()
        steps = range(epoch * source.steps, (epoch + 1) * source.steps)
        outcomes = torch.zeros(source.steps, 3, device=setup.device)  # read once, after the epoch
        bad: list[str] = []
        with closing(source.train(seed, steps, processes.share)) as batches:  # an error ends the workers at once
            for step, batch in zip(steps, batches, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, step, source.steps)
                drop_path = _path_dropout(
                    setup, processes, network.paths, seed, step, config.path_dropout * epoch / config.epochs
                )
                with explain_out_of_memory("batch_size"):
                    outcomes[step - steps.start] = _step(setup, parallel, optimizer, batch, drop_path)
                bad += _names(setup, "train", batch)
                observe(Progress("train", first * config.epochs * source.steps + step + 1, total))
        record = {
            **place.of,
            "seed": seed,
            "epoch": epoch + 1,
            **_tested(setup, processes, network, epoch, outcomes, bad),
        }
        record["seconds"] = time.perf_counter() - started
        if place.run is not None and place.checkpoints is not None:
            place.run.append(place.journal, record)
            state = {"genotype": setup.genotype.to_json(), "network": network.state_dict()}
            checkpoint.save(place.checkpoints, epoch + 1, {**state, "optimizer": optimizer.state_dict()})
        observe(Progress("train", (first * config.epochs + epoch + 1) * source.steps, total, record))
    return network


def _tested(
    setup: Retraining, processes: ProcessGroup, network: Network, epoch: int, outcomes: Tensor, bad: list[str]
) -> dict[str, Any]:
    """What an epoch came to on the training images and comes to on the test images: a line of `metrics`."""
    loss, accuracy = _mean_outcome(setup, processes, outcomes, epoch)
    processes.align(network)
    tested, untested = _test(setup, processes, network)
    skipped = processes.gather(bad + untested)
    last = (epoch + 1) * setup.source.steps - 1
    if not math.isfinite(tested["test_loss"]):
        raise _not_finite(setup, "loss on the test images", last)
    rate = learning_rate(setup.config, last, setup.source.steps)
    return {"loss": loss, "error": 1 - accuracy, **tested, "lr": rate, "skipped": skipped}


def _step(
    setup: Retraining, network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, drop_path: Tensor | None
) -> Tensor:
    """One update; returns (loss, accuracy, loss with the auxiliary one) of this process's part, left on the device."""
    config = setup.config
    images = setup.place(batch.images)
    labels = batch.labels.to(setup.device, non_blocking=True)
    with autocast(setup.device, config.precision):
        outputs = network(images, drop_path)
        loss = F.cross_entropy(outputs.logits, labels, label_smoothing=config.label_smoothing)
        objective = loss
        if outputs.auxiliary is not None:
            auxiliary = F.cross_entropy(outputs.auxiliary, labels, label_smoothing=config.label_smoothing)
            objective = loss + config.auxiliary_weight * auxiliary
    optimizer.zero_grad(set_to_none=True)
    objective.backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
    optimizer.step()
    accuracy = (outputs.logits.detach().argmax(1) == labels).float().mean()
    return torch.stack([loss.detach().float(), accuracy, objective.detach().float()])


def _path_dropout(
    setup: Retraining, processes: ProcessGroup, paths: tuple[int, int, int], seed: int, step: int, rate: float
) -> Tensor | None:
    """Factors (cells, B, 2, b) of this process's part: 0 with that probability, else such that the mean is 1."""
    if rate == 0:
        return None
    kept = generator(seed, "path dropout", step).random((setup.config.batch_size, *paths)) >= rate
    factors = processes.share.of(torch.from_numpy((kept / (1 - rate)).astype(np.float32)))
    return to_device(factors.permute(1, 2, 3, 0).contiguous(), setup.device)


def _mean_outcome(setup: Retraining, processes: ProcessGroup, outcomes: Tensor, epoch: int) -> tuple[float, float]:
    """The mean loss and accuracy of an epoch over all processes. Raises RetrainError for a loss that is not finite."""
    outcomes = processes.sum(outcomes) / processes.share.processes
    finite = outcomes.isfinite().all(1).tolist()
    if not all(finite):
        raise _not_finite(setup, "loss", epoch * setup.source.steps + finite.index(False))
    loss, accuracy, _ = outcomes.cpu().double().mean(0).tolist()
    return loss, accuracy


def _not_finite(setup: Retraining, what: str, step: int) -> RetrainError:
    epoch = step // setup.source.steps
    kept = f"The checkpoint of epoch {epoch} is kept" if epoch else "There is no checkpoint yet"
    rate = learning_rate(setup.config, step, setup.source.steps)
    return RetrainError(
        f"the {what} is not finite at step {step + 1} (epoch {epoch + 1}), at a learning rate of {rate:.3g}. {kept}. "
        f"Lower weight_lr ({setup.config.weight_lr}), which starts a new run"
    )


def _names(setup: Retraining, split: Literal["train", "test"], batch: Batch) -> list[str]:
    """The images of a batch that could not be read."""
    return (
        []
        if batch.bad is None
        else [setup.source.name(split, image) for image in batch.bad.tolist() if image != NONE_BAD]
    )


@torch.no_grad()
def _test(setup: Retraining, processes: ProcessGroup, network: Network) -> tuple[dict[str, float], list[str]]:
    """Loss, top-1 and top-5 error on the test images, and the names of those this process could not read."""
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64, device="cpu" if setup.device.type == "mps" else setup.device)
    skipped: list[str] = []
    for batch in setup.source.test(processes.share):
        images, labels = setup.place(batch.images), batch.labels.to(setup.device)
        with explain_out_of_memory("test_batch_size"), autocast(setup.device, setup.config.precision):
            logits = network(images).logits.float()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        loss = F.cross_entropy(logits, labels, reduction="none")
        values = torch.stack([loss, ~best[:, 0], ~best.any(1), torch.ones_like(loss)])
        if batch.bad is not None:
            values = values[:, (batch.bad == NONE_BAD).to(values.device)]
        skipped += _names(setup, "test", batch)
        sums += values.to(sums.device).to(sums.dtype).sum(1)
    *totals, count = processes.sum(sums).tolist()
    if count == 0:
        raise DataError("dataset: no test image can be read")
    names = ("test_loss", "test_error", "test_error_top5")
    return {name: total / count for name, total in zip(names, totals, strict=True)}, skipped


def _resume(network: Network, optimizer: torch.optim.Optimizer, folder: Path) -> int:
    """Load the newest good checkpoint and return the number of epochs it has done.

    Raises RunError for one of another genotype.
    """
    latest = checkpoint.load_latest(folder)
    if latest is None:
        return 0
    epoch, state = latest
    if Genotype.from_json(state["genotype"]) != network.genotype:
        raise RunError(
            f"{folder}: its checkpoints are of another genotype, {state['genotype']}: choose another run_dir"
        )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return epoch
