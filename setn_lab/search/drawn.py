"""Drawn architectures, each once, before and after they are scored."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from setn_lab.search.caps import Tally
from setn_lab.search.setup import Search
from setn_lab.search.sources import Source, parts
from setn_lab.space.setn import Quadruples


@dataclass(frozen=True)
class Candidate:
    """A scored architecture: its one-shot loss and accuracy over `images` images of D_val.

    genotype: a `Genotype`, or what the search's space has in its place. draws: how often it was drawn among the T.
    log_probability: under the evaluator.
    """

    genotype: Any
    loss: float
    accuracy: float
    images: int
    draws: int
    log_probability: float


@dataclass(frozen=True)
class DrawnArchitecture:
    """A drawn architecture that is to be scored, as encoded and as a genotype; the rest as in `Candidate`."""

    architecture: Quadruples
    genotype: Any
    draws: int
    log_probability: float

    def scored(self, loss: float, accuracy: float, images: int) -> Candidate:
        """The candidate of these scores."""
        return Candidate(self.genotype, loss, accuracy, images, self.draws, self.log_probability)

    def is_of(self, candidate: Candidate) -> bool:
        """Whether the candidate is this one, under the same evaluator up to another processor's last bits."""
        near = math.isclose(candidate.log_probability, self.log_probability, rel_tol=1e-4, abs_tol=1e-4)
        return candidate.genotype == self.genotype and near


def distinct_draws(
    search: Search, source: Source, count: int, known: Mapping[Any, tuple[float, float]], tally: Tally | None = None
) -> Iterator[list[DrawnArchitecture]]:
    """The distinct ones among `count` drawn architectures, in the order of their first draw: after each part, all yet.

    `known` holds their losses and accuracies when the next part is asked for. tally: as for `sources.draw`.
    """
    entries: dict[tuple[int, ...], DrawnArchitecture] = {}
    distributions, drawing = search.evaluator.distributions(), parts(search, source, count, tally)
    drawn = next(drawing)
    while True:
        architectures = search.space.canonical(drawn)
        keys = [tuple(architecture.ravel().tolist()) for architecture in architectures]
        new = {key: architecture for key, architecture in zip(keys, architectures, strict=True) if key not in entries}
        if new:
            log_probability = distributions.log_probability(np.stack(list(new.values())))
            for (key, architecture), probability in zip(new.items(), log_probability, strict=True):
                genotype = search.space.genotype(architecture)
                entries[key] = DrawnArchitecture(architecture, genotype, 0, float(probability))
        for key in keys:
            entries[key] = replace(entries[key], draws=entries[key].draws + 1)
        yield list(entries.values())
        try:
            drawn = drawing.send([known[entries[key].genotype] for key in keys])
        except StopIteration:
            return
