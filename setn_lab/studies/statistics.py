"""The figures of the studies: rank correlations, NDCG, good pairs, comparisons of samples, the best of T draws.

Accuracies are in 0..1, and higher is better. An undefined figure is None together with a reason, never NaN. Every
function raises ValueError for arrays of the wrong shape and for values that are not finite.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, kendalltau, mannwhitneyu, spearmanr, weightedtau
from sklearn.metrics import ndcg_score

from setn_lab.compute.streams import generator

Values = NDArray[np.floating]
CONFIDENCE = 0.95
FEWEST = 3  # items that can be ranked in more than two ways
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
FRACTIONS = (0.1, 0.25, 0.5)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval, of `count` items; a value of None is undefined, and `note` says why.

    low and high are None where the value is, and where there is no interval, which `note` explains too.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    note: str = ""


@dataclass(frozen=True)
class GoodPairs:
    """share: of good pairs, with Wilson's interval. tied_*: how many pairs are equal on that side."""

    share: Interval
    good: int
    bad: int
    tied_predicted: int
    tied_true: int


@dataclass(frozen=True)
class GapBin:
    """The good pairs among those whose true values differ by least_gap..most_gap, and by mean_gap on average."""

    least_gap: float
    most_gap: float
    share: Interval
    mean_gap: float


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


@dataclass(frozen=True)
class Summary:
    """std: the sample's (n - 1), None for one value. quantiles: by level, interpolated between values."""

    count: int
    mean: float
    std: float | None
    minimum: float
    quantiles: dict[float, float]
    maximum: float


def good_pairs(predicted: Values, true: Values) -> GoodPairs:
    """Count the good pairs of section 5.3: the predictions (P, 2) compare (<, =, >) as the true values (P, 2) do.

    A pair tied on one side alone is bad, one tied on both is good. Equal means equal to the last bit.
    """
    predicted, true = _both("(P, 2)", predicted, true)
    guess, truth = np.sign(predicted[:, 0] - predicted[:, 1]), np.sign(true[:, 0] - true[:, 1])
    good, count = int((guess == truth).sum()), len(true)
    if count:
        interval = binomtest(good, count).proportion_ci(CONFIDENCE, method="wilson")
        share = Interval(good / count, float(interval.low), float(interval.high), count)
    else:
        share = Interval(None, None, None, 0, "no pairs")
    return GoodPairs(share, good, count - good, int((guess == 0).sum()), int((truth == 0).sum()))


def by_gap(predicted: Values, true: Values, bins: int = 4) -> list[GapBin]:
    """Good pairs by how far the true values lie apart: (P, 2) and (P, 2), in groups of nearly equal size.

    The smallest gaps come first. Fewer pairs than bins give one bin a pair, and none give []. Raises ValueError for
    less than one bin.
    """
    if bins < 1:
        raise ValueError(f"bins: {bins} given; at least 1 is allowed")
    predicted, true = _both("(P, 2)", predicted, true)
    if not len(true):
        return []
    gaps = np.abs(true[:, 0] - true[:, 1])
    result = []
    for group in _gap_groups(gaps, bins):
        share, own = good_pairs(predicted[group], true[group]).share, gaps[group]
        result.append(GapBin(float(own[0]), float(own[-1]), share, float(own.mean())))
    return result


def _gap_groups(gaps: Values, bins: int) -> list[NDArray[np.int64]]:
    """The positions of gaps (P,), the smallest first, in at most so many groups of nearly equal size."""
    return np.array_split(gaps.argsort(kind="stable"), min(bins, len(gaps)))


def all_pairs(
    predicted: Values, true: Values, bins: int = 4, resamples: int = 1000, seed: int = 0
) -> tuple[GoodPairs, list[GapBin]]:
    """`good_pairs` and `by_gap` of all n (n - 1) / 2 pairs of items, from predictions (n,) and true values (n,).

    The intervals are percentiles of a bootstrap over the items: pairs that share an item depend on each other, so that
    Wilson's interval of so many pairs would be far too narrow. A resample's pairs are those of two different items, as
    often as both are in it; the groups are those of the sample. There is no interval where fewer than half of the
    resamples have such a pair. Raises ValueError as those functions do, and for less than one resample.
    """
    if resamples < 1:
        raise ValueError(f"resamples: {resamples} given; at least 1 is allowed")
    predicted, true = _both("(n,)", predicted, true)
    count = len(true)
    first, second = np.triu_indices(count, 1)
    pairs = np.stack([first, second], axis=1)
    found, groups = good_pairs(predicted[pairs], true[pairs]), by_gap(predicted[pairs], true[pairs], bins)
    if not groups:
        return found, groups
    gaps = true[first] - true[second]
    good = np.sign(predicted[first] - predicted[second]) == np.sign(gaps)
    drawn = generator(seed, "bootstrap of pairs").multinomial(count, np.full(count, 1 / count), size=resamples)
    places = _gap_groups(np.abs(gaps), bins)
    sums = np.array([[_weights(pairs[group], drawn), _weights(pairs[group[good[group]]], drawn)] for group in places])
    shares = [_resampled(group.share, *own) for group, own in zip(groups, sums, strict=True)]
    return (
        replace(found, share=_resampled(found.share, *sums.sum(axis=0))),
        [replace(group, share=share) for group, share in zip(groups, shares, strict=True)],
    )


def _weights(pairs: NDArray[np.int64], drawn: NDArray[np.int64]) -> Values:
    """How many of the pairs (P, 2) each resample has: (resamples,). drawn: its items, how often each (resamples, n)."""
    matrix = np.zeros((drawn.shape[1], drawn.shape[1]))
    matrix[pairs[:, 0], pairs[:, 1]] = 1
    return ((drawn @ matrix) * drawn).sum(axis=1)


def _resampled(share: Interval, pairs: Values, good: Values) -> Interval:
    """The share with the percentiles of good / pairs over the resamples that have pairs."""
    there = pairs > 0
    if 2 * there.sum() < len(there):
        note = f"no interval: {there.sum()} of {len(there)} resamples have a pair"
        return replace(share, low=None, high=None, note=note)
    low, high = np.quantile(good[there] / pairs[there], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return replace(share, low=float(low), high=float(high))


def kendall(predicted: Values, true: Values, resamples: int = 1000, seed: int = 0) -> Interval:
    """Kendall's tau-b of predictions (n,) and true values (n,), with a percentile bootstrap interval over the items.

    Undefined for fewer than 3 items and where a side is constant. Resamples where a side is constant are left out,
    and there is no interval if fewer than half remain. Resamples of a perfect ranking are perfect: its interval is
    a point, which is no measure of certainty. Raises ValueError for less than one resample.
    """
    # The p-value is not used; an exact one would take long.
    return _correlation(partial(kendalltau, method="asymptotic"), "tau", predicted, true, resamples, seed)


def spearman(predicted: Values, true: Values, resamples: int = 1000, seed: int = 0) -> Interval:
    """Spearman's rho, equal values sharing their mean rank; all else as in kendall()."""
    return _correlation(spearmanr, "rho", predicted, true, resamples, seed)


def weighted_tau(predicted: Values, true: Values, resamples: int = 1000, seed: int = 0) -> Interval:
    """Vigna's (2015) additive hyperbolic tau, scipy's default: a pair of items counts 1 / rank of each, summed.

    Ranks are by the prediction, ties by the truth, and the other way round; the two values are averaged. All else as
    in kendall().
    """
    return _correlation(weightedtau, "weighted tau", predicted, true, resamples, seed)


def ndcg(predicted: Values, true: Values) -> float | None:
    """Normalized discounted cumulative gain of all items, from predictions (n,) and true values (n,).

    The gain of an item is how far its true value is from the lowest to the highest one, 0 to 1: as they stand, true
    values that lie close together give any order nearly 1. Items that are predicted alike share their discounts; so
    equal predictions give the mean over all orders, the value by chance. None for fewer than 3 items and where all
    true values are equal. It has no interval: it depends on how many different items there are, and a resample of the
    bootstrap has fewer.
    """
    predicted, true = _both("(n,)", predicted, true)
    if len(true) < FEWEST or np.ptp(true) == 0:
        return None
    gains = (true - true.min()) / np.ptp(true)
    return float(ndcg_score(gains[None], predicted[None]))


def within_best(
    predicted: Values, true: Values, fractions: Sequence[float] = FRACTIONS, resamples: int = 1000, seed: int = 0
) -> dict[float, Interval]:
    """kendall() among the ceil(fraction n) items of the highest true values, by fraction; of equals, the first ones.

    Raises ValueError for a fraction outside (0, 1], and as kendall() does.
    """
    predicted, true = _both("(n,)", predicted, true)
    chosen = {fraction: best(true, fraction) for fraction in fractions}
    return {fraction: kendall(predicted[places], true[places], resamples, seed) for fraction, places in chosen.items()}


def best(true: Values, fraction: float) -> NDArray[np.int64]:
    """Where the ceil(fraction n) highest values of (n,) are, highest first; of equals, the first ones.

    Raises ValueError for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fractions: {fraction} given; numbers above 0 and up to 1 are allowed")
    order = (-true).argsort(kind="stable")
    return order[: math.ceil(round(fraction * len(true), 9))]  # 0.07 * 100 is a little above 7


def compare(a: Values, b: Values) -> Comparison:
    """Compare two samples, (count_a,) and (count_b,), by a two-sided Mann-Whitney U test."""
    a, b = _array("a", "(n,)", a), _array("b", "(n,)", b)
    if not len(a) or not len(b):
        empty = " and ".join(name for name, sample in (("a", a), ("b", b)) if not len(sample))
        return Comparison(None, None, None, None, len(a), len(b), f"no values in {empty}")
    if np.ptp(np.concatenate([a, b])) == 0:  # U has no spread to test it by
        return Comparison(len(a) * len(b) / 2, 1.0, 0.5, 0.0, len(a), len(b), "all values are equal")
    test = mannwhitneyu(a, b, alternative="two-sided")
    u = float(test.statistic)
    return Comparison(u, float(test.pvalue), u / (len(a) * len(b)), float(a.mean() - b.mean()), len(a), len(b))


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
    scores = _array("scores", "(n,)", scores, fewest=1)
    weights = np.ones(len(scores)) if weights is None else _array("weights", "(n,)", weights)
    arrays = {name: _array(f"values[{name!r}]", "(n,)", array) for name, array in values.items()}
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


def shares_above(accuracies: Values, thresholds: Sequence[float]) -> list[float]:
    """The share of accuracies (n,) above each threshold, not at it; raises ValueError for no accuracies."""
    accuracies = _array("accuracies", "(n,)", accuracies, fewest=1)
    return [float((accuracies > threshold).mean()) for threshold in thresholds]


def describe(values: Values) -> Summary:
    """Summarize values (n,) by their moments and quantiles; raises ValueError for none."""
    values = _array("values", "(n,)", values, fewest=1)
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    quantiles = {level: float(np.quantile(values, level)) for level in LEVELS}
    return Summary(len(values), float(values.mean()), std, float(values.min()), quantiles, float(values.max()))


def _correlation(
    statistic: Callable[..., Any], name: str, predicted: Values, true: Values, resamples: int, seed: int
) -> Interval:
    if resamples < 1:
        raise ValueError(f"resamples: {resamples} given; at least 1 is allowed")
    predicted, true = _both("(n,)", predicted, true)
    if (count := len(true)) < FEWEST:
        return Interval(None, None, None, count, f"{count} items; at least {FEWEST} are needed")
    for side, what in ((predicted, "predictions"), (true, "true values")):
        if np.ptp(side) == 0:
            return Interval(None, None, None, count, f"all {what} are equal")
    value = float(statistic(predicted, true).statistic)
    rng = generator(seed, f"bootstrap of {name}")
    found = []
    for _ in range(resamples):
        chosen = rng.integers(count, size=count)
        x, y = predicted[chosen], true[chosen]
        if np.ptp(x) > 0 and np.ptp(y) > 0:
            found.append(float(statistic(x, y).statistic))
    if 2 * len(found) < resamples:
        why = f"no interval: {name} is defined in {len(found)} of {resamples} resamples"
        return Interval(value, None, None, count, why)
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high), count)


def _spread(values: Values, chance: Values) -> Spread:
    mean = float(chance @ values)
    order = values.argsort()
    reached = chance[order].cumsum()
    # A level that is reached exactly may be missed by a rounding error.
    low, median, high = (float(values[order[np.searchsorted(reached, level - 1e-12)]]) for level in (0.05, 0.5, 0.95))
    return Spread(mean, math.sqrt(chance @ (values - mean) ** 2), low, median, high)


def _both(shape: str, predicted: Values, true: Values) -> tuple[Values, Values]:
    predicted, true = _array("predicted", shape, predicted), _array("true", shape, true)
    if len(predicted) != len(true):
        raise ValueError(f"true: {len(true)} given; as many as there are in predicted, {len(predicted)}, are allowed")
    return predicted, true


def _array(name: str, shape: str, values: Values, fewest: int = 0) -> Values:
    """The values as floats of that shape, (n,) or (P, 2), where an empty list is one of either."""
    array = np.asarray(values, dtype=np.float64)
    tail = (2,) if shape == "(P, 2)" else ()
    if array.shape == (0,):
        array = array.reshape(0, *tail)
    if array.ndim != 1 + len(tail) or array.shape[1:] != tail:
        raise ValueError(f"{name}: an array of shape {array.shape} given; {shape} is allowed")
    if len(array) < fewest:
        raise ValueError(f"{name}: {len(array)} values given; at least {fewest} is allowed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {(~np.isfinite(array)).sum()} values are not finite; only finite ones are allowed")
    return array
