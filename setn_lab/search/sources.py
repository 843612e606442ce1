"""Where candidates come from, within T draws: `candidate_source`, or architectures that are given.

A source gives its draws in parts. The evaluator, the uniform distribution and the argmax give one part; evolution and
the refitted evaluator choose each part by the scores of those before, and by nothing else but the seed, so that a
resumed run draws what an uninterrupted one draws.
"""

import copy
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from setn_lab.compute.streams import generator
from setn_lab.search.config import CandidateSource
from setn_lab.search.setup import Search

Architectures = NDArray[np.int64]
Scores = Sequence[tuple[float, float]]  # loss and accuracy of each draw
Parts = Generator[Architectures, Scores, None]

POPULATION = 50  # of evolution, at most: that of the single-path one-shot search (Guo et al. 2020)
GENERATIONS = 4  # T is at least so many populations, so that a small T evolves too and is not spent on the first one
TOURNAMENT = 4  # a tournament has one in so many of a population, as Real et al.'s 25 of 100
BROOD = 5  # one in so many of a population is replaced at once: its children are scored together
ROUNDS = 4  # of drawing from the evaluator, which is refitted before each but the first
ELITE = 4  # one in so many of the draws so far is what the evaluator is refitted to
REFIT_STEPS = 20  # of gradient ascent with rate 1: what the elite lacks keeps a probability of about 1 in so many


@dataclass(frozen=True, eq=False)
class Given:
    """A source of architectures (n, cell types, ...) that nobody draws, such as those of a table, in their order."""

    architectures: Architectures


Source = CandidateSource | Given


def draw(search: Search, source: Source, count: int) -> Architectures:
    """`count` architectures, canonical (count, cell types, ...); one for `argmax`, the paper's T = 1.

    Each source has a stream of its own, so the same seed draws the same architectures in every process; of given ones
    it is the first `count`. Raises ValueError for a source whose draws depend on scores.
    """
    if isinstance(source, Given):
        return search.space.canonical(source.architectures[:count])
    rng = generator(search.config.seed, f"candidates from {source}")
    if source == "uniform":
        drawn = search.space.sample(rng, count, search.space.cell_types)
    elif source == "evaluator":
        drawn = search.evaluator.distributions().sample(rng, count)
    elif source == "argmax":
        drawn = search.evaluator.distributions().argmax()[None]
    else:
        raise ValueError(f"source: {source!r} given; its draws depend on scores, see `parts`")
    return search.space.canonical(drawn)


def parts(search: Search, source: Source, count: int) -> Parts:
    """`count` draws, part by part (n, cell types, ...), as encoded; each part's scores are to be sent for the next."""
    if source == "evolution":
        yield from _evolution(search, count)
    elif source == "refit":
        yield from _refit(search, count)
    else:
        yield draw(search, source, count)


def ranks(scores: Scores, by: Literal["loss", "accuracy"]) -> NDArray[np.float64]:
    """A number for each score, the lower the better: inf where the loss is not finite, as that is never selected."""
    loss, accuracy = np.array(scores, dtype=float).reshape(-1, 2).T
    return np.where(np.isfinite(loss), loss if by == "loss" else -accuracy, np.inf)


def _evolution(search: Search, count: int) -> Parts:
    """Regularized evolution (Real et al. 2019): the best of a tournament is mutated at one place, the oldest dies.

    Tournaments are drawn with replacement, as in their Algorithm 1, and the first among equals wins. The children of a
    brood have parents in the same population, and join it in the order in which they were drawn.
    """
    size = min(count, max(2, min(POPULATION, count // GENERATIONS)))
    tournament, brood = max(2, size // TOURNAMENT), max(1, size // BROOD)
    space, by, stream = search.space, search.config.select_by, "candidates from evolution"
    drawn = space.canonical(space.sample(generator(search.config.seed, stream), size, space.cell_types))
    population: deque[tuple[Architectures, float]] = deque(maxlen=size)  # the oldest first, which falls out
    population.extend(zip(drawn, ranks((yield drawn), by), strict=True))
    for step, start in enumerate(range(size, count, brood), 1):
        rng = generator(search.config.seed, stream, step)
        children = []
        for _ in range(min(brood, count - start)):
            entrants = [population[index] for index in rng.integers(size, size=tournament)]
            parent, _ = min(entrants, key=lambda entrant: entrant[1])
            children.append(space.mutate(rng, parent))
        drawn = np.stack(children)
        population.extend(zip(drawn, ranks((yield drawn), by), strict=True))


def _refit(search: Search, count: int) -> Parts:
    """The cross-entropy method from the evaluator on: each round draws from a copy, refitted to the best draws so far.

    The draws are refitted to as they were encoded: a canonical encoding would have the inputs of a node's equal
    operations sorted, which draws are not.
    """
    drawn: list[Architectures] = []
    found = np.empty(0)
    rounds = min(ROUNDS, count)
    for step in range(rounds):
        evaluator = search.evaluator
        elite = np.argsort(found, kind="stable")[: len(found) // ELITE or 1]
        elite = elite[np.isfinite(found[elite])]
        if len(elite):
            evaluator = _refitted(evaluator, np.concatenate(drawn)[elite])
        rng = generator(search.config.seed, "candidates from refit", step)
        number = count * (step + 1) // rounds - count * step // rounds
        drawn.append(evaluator.distributions().sample(rng, number))
        found = np.concatenate([found, ranks((yield drawn[-1]), search.config.select_by)])


def _refitted(evaluator: Any, drawn: Architectures) -> Any:
    """A copy of the evaluator, in float64 on the CPU, after gradient steps towards the draws' maximum likelihood."""
    refitted = copy.deepcopy(evaluator).cpu().double()
    optimizer = torch.optim.SGD(refitted.parameters(), lr=1.0)
    for _ in range(REFIT_STEPS):
        optimizer.zero_grad()
        (-refitted.draw_log_probability(drawn).mean()).backward()
        optimizer.step()
    return refitted
