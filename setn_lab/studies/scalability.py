"""What a search costs with 6 and with 8 operations, measured in one run (section 5.2, scalability)."""

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal

import cloudpickle

from setn_lab.figures import page
from setn_lab.kits import Extensions
from setn_lab.search.config import SearchConfig
from setn_lab.search.estimate import estimate
from setn_lab.search.setup import prepare_search


@dataclass(frozen=True)
class SearchCost:
    """Of a search in one space: seconds of a step and a candidate, hours of a whole search, and its sizes.

    memory: bytes at the peak, of the device on CUDA and of the process elsewhere; None on Windows.
    """

    space: str
    operations: int
    parameters: int
    weight_step: float
    evaluator_step: float
    candidate: float
    training_hours: float
    scoring_hours: float
    memory: int | None


def measure(config: SearchConfig, repetitions: int = 3) -> list[SearchCost]:
    """Time a few steps in each of the two spaces, otherwise as `config` says.

    Each has a process of its own, one after the other, so that neither's memory counts for the other.
    """
    costs = []
    spaces: tuple[Literal["small", "large"], ...] = ("small", "large")
    for space in spaces:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            task = cloudpickle.dumps((Extensions.here(), dataclasses.replace(config, space=space), repetitions))
            costs.append(pool.submit(_measure, task).result())
    return costs


def table(costs: list[SearchCost]) -> str:
    """The costs as Markdown."""
    if not costs:
        return "Costs are not measured yet."
    rows = [
        [
            f"{cost.operations}",
            f"{cost.parameters:,}",
            f"{1000 * cost.weight_step:.0f} ms",
            f"{1000 * cost.evaluator_step:.0f} ms",
            f"{cost.candidate:.2f} s",
            f"{cost.training_hours:.2f} h",
            f"{cost.scoring_hours:.2f} h",
            "unknown" if cost.memory is None else f"{cost.memory / 2**30:.2f} GiB",
        ]
        for cost in costs
    ]
    head = ["operations", "template parameters", "weight step", "evaluator step", "candidate", "training", "scoring"]
    ratio = costs[-1].training_hours / costs[0].training_hours
    return (
        page.table([*head, "peak memory"], rows) + f"\n\nTraining costs {ratio:.2f} times as much with "
        f"{costs[-1].operations} operations as with {costs[0].operations} (the paper: 50 h against 40 h, 1.25)."
    )


def _measure(task: bytes) -> SearchCost:
    extensions, config, repetitions = cloudpickle.loads(task)
    extensions.register()
    search = prepare_search(config)
    times = estimate(search, repetitions)
    return SearchCost(
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
