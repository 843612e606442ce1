"""The best of T candidates with fewer image evaluations than scoring all of them on all images: a race.

All racers are scored on the same images, batch by batch, and those that a paired bound says are beaten drop out
(the races of Maron and Moore, "Hoeffding Races", 1994, with a normal bound on the differences instead of Hoeffding's).
Whoever is left at the end has been scored on every image, so the winner's score is the one full scoring gives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]
FEWEST = 30  # images before the first racer may drop out


@dataclass(frozen=True)
class Race:
    """winner: the racer of the lowest mean over all images. images: how many each racer was scored on, (T,)."""

    winner: int
    images: NDArray[np.int64]


def race(
    racers: int,
    batches: Sequence[int],
    score: Callable[[NDArray[np.int64], int], Values],
    confidence: float = 0.95,
) -> Race:
    """Find the racer whose mean value over all images is lowest.

    batches: the number of images of each batch; together they are all images, in random order.
    score(running, batch): the values of those racers (indices) on the images of that batch, (running, images); a
    value is a loss, or anything to minimize.
    confidence: that the winner is the one that full scoring finds, by Bonferroni over all racers and batches. It is
    nominal: the bound takes the images as independent, while batch statistics tie those of one batch together.

    After each batch, with n of N images seen, racer i drops out when its mean is above that of the leader, the lowest
    so far, by more than z s / sqrt(n) sqrt(1 - n/N): s is the standard deviation of the differences, image by image,
    and the last factor is that of a sample without replacement. None drops out before 30 images are seen, too few for
    a normal bound; one whose mean is not finite does. Raises ValueError for a confidence outside (0, 1),
    no racers or no batches, and FloatingPointError where no racer has a finite mean.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: {confidence} given; a number above 0 and below 1 is allowed")
    if racers < 1 or not batches:
        raise ValueError(f"racers: {racers} given, and {len(batches)} batches; at least one of each is needed")
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (racers * len(batches)))
    running, images = np.arange(racers), np.zeros(racers, dtype=np.int64)
    seen: Values = np.empty((racers, 0))
    total = sum(batches)
    for batch in range(len(batches)):
        seen = np.concatenate([seen, score(running, batch)], axis=1)
        count = seen.shape[1]
        images[running] = count
        means = seen.mean(axis=1)
        finite = np.isfinite(means)
        if not finite.any():
            raise FloatingPointError(f"no racer has a finite mean over the first {count} images")
        running, seen, means = running[finite], seen[finite], means[finite]
        if FEWEST <= count < total:
            leader = means.argmin()
            error = (seen - seen[leader]).std(axis=1, ddof=1) * np.sqrt((1 / count) * (1 - count / total))
            stays = means - means[leader] <= quantile * error
            running, seen = running[stays], seen[stays]
    return Race(int(running[means.argmin()]), images)
