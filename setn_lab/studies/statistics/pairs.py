"""Good pairs (section 5.3): how many pairs of networks a prediction compares as their training does."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from setn_lab.compute.streams import generator
from setn_lab.studies.statistics.values import CONFIDENCE, Interval, Values, paired


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


def good_pairs(predicted: Values, true: Values) -> GoodPairs:
    """Count the good pairs of section 5.3: the predictions (P, 2) compare (<, =, >) as the true values (P, 2) do.

    A pair tied on one side alone is bad, one tied on both is good. Equal means equal to the last bit.
    """
    predicted, true = paired("(P, 2)", predicted, true)
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
    predicted, true = paired("(P, 2)", predicted, true)
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
    predicted, true = paired("(n,)", predicted, true)
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
