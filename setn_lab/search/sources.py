"""Where candidates come from, within T draws: `candidate_source`, or architectures that are given.

A source gives its draws in parts. The evaluator, the uniform distribution and the argmax give one part; evolution and
the refitted evaluator choose each part by the scores of those before, and by nothing else but the seed, so that a
resumed run draws what an uninterrupted one draws.
"""

import copy
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from setn_lab.compute.streams import generator
from setn_lab.search.caps import Tally, likeliest, within
from setn_lab.search.config import CandidateSource
from setn_lab.search.setup import Search
from setn_lab.space.protocol import Space

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


def draw(search: Search, source: Source, count: int, tally: Tally | None = None) -> Architectures:
    """`count` architectures, canonical (count, cell types, ...); one for `argmax`, the paper's T = 1.

    All obey the search's caps, uniform ones too: so these show what the evaluator adds, not what the caps do. Each
    source has a stream of its own, so the same seed draws the same architectures in every process; of given ones it is
    the first `count`, whatever they cost. tally: is told how many were drawn for these. Raises CapsError, and
    ValueError for a source whose draws depend on scores.
    """
    if isinstance(source, Given):
        return search.space.canonical(source.architectures[:count])
    rng = generator(search.config.seed, f"candidates from {source}")
    if source == "uniform":
        drawn = within(search.caps, source, _uniform(search, rng), count, tally)
    elif source == "evaluator":
        distributions = search.evaluator.distributions()
        drawn = within(search.caps, source, partial(distributions.sample, rng), count, tally)
    elif source == "argmax":
        drawn = likeliest(search.caps, search.evaluator.distributions(), rng)[None]
    else:
        raise ValueError(f"source: {source!r} given; its draws depend on scores, see `parts`")
    return search.space.canonical(drawn)


def _uniform(search: Search, rng: np.random.Generator) -> Callable[[int], Architectures]:
    """Draws so many architectures uniformly."""
    return lambda number: search.space.sample(rng, number, search.space.cell_types)


def parts(search: Search, source: Source, count: int, tally: Tally | None = None) -> Parts:
    """`count` draws, part by part (n, cell types, ...), as encoded; each part's scores are to be sent for the next.

    tally: as for `draw`.
    """
    if source == "evolution":
        yield from _evolution(search, count, tally)
    elif source == "refit":
        yield from _refit(search, count, tally)
    else:
        yield draw(search, source, count, tally)


def ranks(scores: Scores, by: Literal["loss", "accuracy"]) -> NDArray[np.float64]:
    """A number for each score, the lower the better: inf where the loss is not finite, as that is never selected."""
    loss, accuracy = np.array(scores, dtype=float).reshape(-1, 2).T
    return np.where(np.isfinite(loss), loss if by == "loss" else -accuracy, np.inf)


def _evolution(search: Search, count: int, tally: Tally | None) -> Parts:
    """Regularized evolution (Real et al. 2019): the best of a tournament is mutated at one place, the oldest dies.

    Tournaments are drawn with replacement, as in their Algorithm 1, and the first among equals wins. The children of a
    brood have parents in the same population, and join it in the order in which they were drawn. A child that does not
    obey the caps is none: its parent is mutated anew.
    """
    size = min(count, max(2, min(POPULATION, count // GENERATIONS)))
    tournament, brood = max(2, size // TOURNAMENT), max(1, size // BROOD)
    space, by, stream = search.space, search.config.select_by, "candidates from evolution"
    first = _uniform(search, generator(search.config.seed, stream))
    drawn = space.canonical(within(search.caps, "evolution", first, size, tally))
    population: deque[tuple[Architectures, float]] = deque(maxlen=size)  # the oldest first, which falls out
    population.extend(zip(drawn, ranks((yield drawn), by), strict=True))
    for step, start in enumerate(range(size, count, brood), 1):
        rng = generator(search.config.seed, stream, step)
        children = []
        for _ in range(min(brood, count - start)):
            entrants = [population[index] for index in rng.integers(size, size=tournament)]
            parent, _ = min(entrants, key=lambda entrant: entrant[1])
            mutate = partial(_mutated, space, rng, parent)
            children.append(within(search.caps, "evolution", mutate, 1, tally, together=1))
        drawn = np.concatenate(children)
        population.extend(zip(drawn, ranks((yield drawn), by), strict=True))


def _mutated(space: Space, rng: np.random.Generator, parent: Architectures, number: int) -> Architectures:
    """So many children of one parent."""
    return np.stack([space.mutate(rng, parent) for _ in range(number)])


def _refit(search: Search, count: int, tally: Tally | None) -> Parts:
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
        sample = partial(evaluator.distributions().sample, rng)
        drawn.append(within(search.caps, "refit", sample, number, tally))
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
