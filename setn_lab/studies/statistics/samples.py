"""What samples of scores are like: their moments, the best of T draws, and how two of them differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu

from setn_lab.studies.statistics.values import Values, checked

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Summary:
    """std: the sample's (n - 1), None for one value. quantiles: by level, interpolated between values."""

    count: int
    mean: float
    std: float | None
    minimum: float
    quantiles: dict[float, float]
    maximum: float


def describe(values: Values) -> Summary:
    """Summarize values (n,) by their moments and quantiles; raises ValueError for none."""
    values = checked("values", "(n,)", values, fewest=1)
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    quantiles = {level: float(np.quantile(values, level)) for level in LEVELS}
    return Summary(len(values), float(values.mean()), std, float(values.min()), quantiles, float(values.max()))


def shares_above(accuracies: Values, thresholds: Sequence[float]) -> list[float]:
    """The share of accuracies (n,) above each threshold, not at it; raises ValueError for no accuracies."""
    accuracies = checked("accuracies", "(n,)", accuracies, fewest=1)
    return [float((accuracies > threshold).mean()) for threshold in thresholds]


@dataclass(frozen=True)
class Comparison:
    """Two samples, a and b; all figures are None where one of them is empty, and `note` says so.

    u: Mann and Whitney's U of a. p: its two-sided p-value. superiority: the probability that a random element of a
    exceeds one of b, where a tie counts half: U / (count_a count_b). difference: the mean of a minus that of b.
    """

    u: float | None
    p: float | None
    superiority: float | None
    difference: float | None
    count_a: int
    count_b: int
    note: str = ""


def compare(a: Values, b: Values) -> Comparison:
    """Compare two samples, (count_a,) and (count_b,), by a two-sided Mann-Whitney U test."""
    a, b = checked("a", "(n,)", a), checked("b", "(n,)", b)
    if not len(a) or not len(b):
        empty = " and ".join(name for name, sample in (("a", a), ("b", b)) if not len(sample))
        return Comparison(None, None, None, None, len(a), len(b), f"no values in {empty}")
    if np.ptp(np.concatenate([a, b])) == 0:  # U has no spread to test it by
        return Comparison(len(a) * len(b) / 2, 1.0, 0.5, 0.0, len(a), len(b), "all values are equal")
    test = mannwhitneyu(a, b, alternative="two-sided")
    u = float(test.statistic)
    return Comparison(u, float(test.pvalue), u / (len(a) * len(b)), float(a.mean() - b.mean()), len(a), len(b))


@dataclass(frozen=True)
class Spread:
    """A distribution: mean, standard deviation, and the quantiles of 5% (low), 50% and 95% (high)."""

    mean: float
    std: float
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class BestOf:
    """values: of the best of `draws` draws, by name. beyond: the pool is smaller than that many draws."""

    draws: int
    beyond: bool
    values: dict[str, Spread]


def best_of(
    scores: Values,
    values: Mapping[str, Values],
    draws: Sequence[int],
    lowest: bool,
    weights: Values | None = None,
) -> list[BestOf]:
    """What the best of T draws is like, for each T of `draws`: exactly, for draws with replacement from n candidates.

    scores (n,): the best candidate has the lowest one, or else the highest; of equals, the first.
    values: the (n,) to describe, by name.
    weights (n,): how often each candidate is in the pool, by default once. A weight of 3 is as three equal candidates;
    the pool's size, which `beyond` compares T with, is the sum.

    The best of T draws is the k-th best or a worse one with the probability (R / W)^T, where R is the weight of the
    k-th best and all worse ones, and W that of all. A quantile is the lowest value that reaches its level. Raises
    ValueError for no candidates, T < 1, and weights that are negative or all 0.
    """
    scores = checked("scores", "(n,)", scores, fewest=1)
    weights = np.ones(len(scores)) if weights is None else checked("weights", "(n,)", weights)
    arrays = {name: checked(f"values[{name!r}]", "(n,)", array) for name, array in values.items()}
    for name, array in {"weights": weights, **arrays}.items():
        if len(array) != len(scores):
            raise ValueError(f"{name}: {len(array)} values given; one for each of the {len(scores)} scores is allowed")
    if (weights < 0).any() or not weights.any():
        raise ValueError(f"weights: {weights.tolist()} given; numbers of at least 0, not all of them 0, are allowed")
    if min(draws, default=1) < 1:
        raise ValueError(f"draws: {min(draws)} given; at least 1 is allowed")
    order = (scores if lowest else -scores).argsort(kind="stable")
    remaining = np.append(weights[order][::-1].cumsum()[::-1], 0.0)
    remaining, pool = remaining / remaining[0], remaining[0]
    result = []
    for T in draws:
        powers = remaining ** float(T)
        chance = powers[:-1] - powers[1:]
        spreads = {name: _spread(array[order], chance) for name, array in arrays.items()}
        result.append(BestOf(int(T), bool(pool < T), spreads))
    return result


def _spread(values: Values, chance: Values) -> Spread:
    mean = float(chance @ values)
    order = values.argsort()
    reached = chance[order].cumsum()
    # A level that is reached exactly may be missed by a rounding error.
    low, median, high = (float(values[order[np.searchsorted(reached, level - 1e-12)]]) for level in (0.05, 0.5, 0.95))
    return Spread(mean, math.sqrt(chance @ (values - mean) ** 2), low, median, high)
