"""How well predictions rank: rank correlations, among all items or the best ones, and NDCG."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr, weightedtau
from sklearn.metrics import ndcg_score

from setn_lab.compute.streams import generator
from setn_lab.studies.statistics.values import CONFIDENCE, Interval, Values, paired

FEWEST = 3  # items that can be ranked in more than two ways
FRACTIONS = (0.1, 0.25, 0.5)


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


def _correlation(
    statistic: Callable[..., Any], name: str, predicted: Values, true: Values, resamples: int, seed: int
) -> Interval:
    if resamples < 1:
        raise ValueError(f"resamples: {resamples} given; at least 1 is allowed")
    predicted, true = paired("(n,)", predicted, true)
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


def ndcg(predicted: Values, true: Values) -> float | None:
    """Normalized discounted cumulative gain of all items, from predictions (n,) and true values (n,).

    The gain of an item is how far its true value is from the lowest to the highest one, 0 to 1: as they stand, true
    values that lie close together give any order nearly 1. Items that are predicted alike share their discounts; so
    equal predictions give the mean over all orders, the value by chance. None for fewer than 3 items and where all
    true values are equal. It has no interval: it depends on how many different items there are, and a resample of the
    bootstrap has fewer.
    """
    predicted, true = paired("(n,)", predicted, true)
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
    predicted, true = paired("(n,)", predicted, true)
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
