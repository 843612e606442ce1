"""The networks of a study, trained from scratch, several at once by workers."""

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from setn_lab.compute.device import ready_device
from setn_lab.compute.spread import spread
from setn_lab.compute.workers import HERE, Workers
from setn_lab.config import ConfigError
from setn_lab.data.sources import OnDevice
from setn_lab.kits import Extensions
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import Retraining, check_head
from setn_lab.retrain.training import RetrainError, retrain_once
from setn_lab.runs.errors import RunError
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run
from setn_lab.search.finalists import halves
from setn_lab.search.setup import Search
from setn_lab.space.genotype import Genotype


@dataclass(frozen=True, eq=False)
class Bench:
    """What every worker needs to train networks: the recipe and the images, training on D_train, tested on D_val."""

    config: RetrainConfig
    source: OnDevice
    extensions: Extensions = field(default_factory=Extensions.here)  # operations that the networks may have

    @classmethod
    def of(cls, config: RetrainConfig, search: Search) -> "Bench":
        """The bench with the search's images, on the CPU.

        Raises ConfigError for an auxiliary head that does not fit them, and for a batch larger than D_train.
        """
        check_head(config, search.image_size, "retrain_auxiliary_weight")
        if config.batch_size > len(search.train):
            raise ConfigError(
                f"retrain_batch_size: {config.batch_size} given for {len(search.train)} images in D_train; at most "
                "that many are allowed"
            )
        return cls(config, halves(config, search).to(torch.device("cpu")))


def train_networks(
    bench: Bench,
    genotypes: list[Genotype],
    run: Run,
    journal: str,
    observe: Observer = lambda progress: None,
    workers: Workers = HERE,
) -> list[dict[str, Any]]:
    """Train each network from scratch, those that the journal has not yet, spread over `workers`.

    A line a network, as they finish: `network` (its number), genotype, parameters, multiply_adds, and accuracy, loss
    and seconds, or `failed`, the reason why its training stopped. Returns the lines in the order of the genotypes.
    Raises RunError where the journal holds other networks.
    """
    lines = {record["network"]: record for record in run.read(journal)}
    for place, record in lines.items():
        if not 0 <= place < len(genotypes) or Genotype.from_darts(record["genotype"]) != genotypes[place]:
            raise RunError(
                f"{run.folder / journal}.jsonl: holds a network that this study does not draw ({record['genotype']}); "
                "it was edited or belongs to another run: move it away to train again"
            )
    missing = [number for number in range(len(genotypes)) if number not in lines]
    tasks = [genotypes[number] for number in missing]
    if genotypes and not missing:
        observe(Progress("networks", len(lines), len(genotypes)))
    with closing(spread(workers, _arrive, bench, _train_one, tasks)) as results:
        for task, result in results:
            record = {"network": missing[task], **result}
            run.append(journal, record)
            lines[missing[task]] = record
            observe(Progress("networks", len(lines), len(genotypes), record))
    return [lines[number] for number in range(len(genotypes))]


def _arrive(bench: Bench) -> Bench:
    """The bench on the device of the worker that it was sent to."""
    bench.extensions.register()
    config = bench.config
    device = ready_device(config.device, config.precision, config.deterministic)
    return replace(bench, source=bench.source.to(device))


def _train_one(bench: Bench, genotype: Genotype) -> dict[str, Any]:
    device = bench.source.training.images.device
    setup = Retraining(bench.config, device, "drawn", genotype, bench.source)
    size = setup.cost
    about = {"genotype": genotype.to_darts(), "parameters": size.parameters, "multiply_adds": size.multiply_adds}
    try:
        result = retrain_once(setup)
    except RetrainError as error:
        return {**about, "failed": str(error)}
    return {**about, "accuracy": 1 - result.test_error, "loss": result.test_loss, "seconds": result.seconds}
