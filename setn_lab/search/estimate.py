"""What a search will take, said beforehand: time and memory from a few timed steps."""

import copy
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from setn_lab.compute.device import explain_out_of_memory, peak_memory, synchronize
from setn_lab.compute.streams import generator
from setn_lab.data.batches import scoring_batches
from setn_lab.search.candidates import TOGETHER
from setn_lab.search.setup import Search
from setn_lab.search.steps import Trainer, one_shot
from setn_lab.template.cell import Cache


@dataclass(frozen=True)
class Estimate:
    """What a search will take, from a few timed steps. Seconds, and bytes at the peak; None where none are told."""

    weight_step: float
    evaluator_step: float
    candidate: float
    training: float
    scoring: float
    memory: int | None


def estimate(search: Search, repetitions: int = 3) -> Estimate:
    """Time a few steps on copies of the networks; the search itself is left as it was.

    The making of batches, a small part unless images are large, is not in the steps' times where several are made at
    once, and candidates are counted as scored in full.

    The memory is the device's peak on CUDA, and elsewhere the peak of this process so far, which Windows does not tell;
    and what candidates that are scored together share.
    """
    config = search.config
    networks = {name: copy.deepcopy(getattr(search, name)) for name in ("template", "evaluator", "average")}
    trainer = Trainer(replace(search, **networks))

    def median(step: Callable[[int], object]) -> float:
        seconds = []
        for number in range(repetitions + 1):
            synchronize(search.device)
            started = time.perf_counter()
            step(number)
            synchronize(search.device)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[1:])  # the first one warms up

    with explain_out_of_memory("batch_size"), closing(trainer):
        weight, evaluation = median(trainer.weight_step), median(trainer.evaluator_step)
    with explain_out_of_memory("scoring_batch_size"):
        batch = median(trainer.scoring_step)
    images = len(search.valid)
    candidate = batch * len(scoring_batches(images, config.scoring_batch_size))
    trained = config.epochs - config.evaluator_start
    epochs_of_weights = config.epochs
    if config.template_run is not None:
        epochs_of_weights, trained = 0, 0
    trained += config.evaluator_epochs
    peak = peak_memory(search.device)
    return Estimate(
        weight_step=weight,
        evaluator_step=evaluation,
        candidate=candidate,
        training=search.steps * (epochs_of_weights * weight + trained * evaluation),
        scoring=(config.candidates + config.baseline_candidates) * candidate,
        memory=None if peak is None else peak + shared_results(search),
    )


@torch.no_grad()
def shared_results(search: Search) -> int:
    """Bytes of the results that `TOGETHER` candidates share on a batch, from what they share on two images."""
    count = min(search.config.scoring_batch_size, len(search.valid))
    images = search.seen(search.valid.take(torch.arange(2)))
    rng = generator(search.config.seed, "estimate")
    cache: Cache = {}
    for architecture in search.space.sample(rng, TOGETHER, search.space.cell_types):
        one_shot(search, images, search.template.per_cell(architecture), cache)
    tensors = {result.data_ptr(): result for result in cache.values()}  # an identity gives what another one holds
    return sum(result.numel() * result.element_size() for result in tensors.values()) // 2 * count
