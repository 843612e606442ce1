"""What a search costs with 6 and with 8 operations, measured in one run (section 5.2, scalability)."""

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal

from setn_lab.prepare import SearchConfig, prepare
from setn_lab.search import estimate


@dataclass(frozen=True)
class Cost:
    """Of a search in one space: seconds of a step and a candidate, hours of a whole search, and its sizes.

    memory: bytes at the peak, of the device on CUDA and of the process elsewhere.
    """

    space: str
    operations: int
    parameters: int
    weight_step: float
    evaluator_step: float
    candidate: float
    training_hours: float
    scoring_hours: float
    memory: int


def measure(config: SearchConfig, repetitions: int = 3) -> list[Cost]:
    """Time a few steps in each of the two spaces, otherwise as `config` says.

    Each has a process of its own, one after the other, so that neither's memory counts for the other.
    """
    costs = []
    spaces: tuple[Literal["small", "large"], ...] = ("small", "large")
    for space in spaces:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            costs.append(pool.submit(_measure, dataclasses.replace(config, space=space), repetitions).result())
    return costs


def _measure(config: SearchConfig, repetitions: int) -> Cost:
    search = prepare(config)
    times = estimate(search, repetitions)
    return Cost(
        config.space,
        len(search.space.operations),
        sum(parameter.numel() for parameter in search.template.parameters()),
        times.weight_step,
        times.evaluator_step,
        times.candidate,
        times.training / 3600,
        times.scoring / 3600,
        times.memory,
    )
