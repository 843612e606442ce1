"""Racing, against full scoring of made-up tables and against a slow reference."""

import math
from itertools import pairwise
from statistics import NormalDist, fmean, stdev

import numpy as np
import pytest

from setn_lab.search.racing import race


def scorer(table, batches, asked=None):
    """score() of a table (racers, images); the racers that each batch was asked for go into `asked`."""
    firsts = np.cumsum([0, *batches])
    assert firsts[-1] == table.shape[1]

    def score(running, batch):
        if asked is not None:
            asked.append((batch, running.tolist()))
        return table[running, firsts[batch] : firsts[batch + 1]]

    return score


def images_table(rng, racers, images, gap, noise=0.5):
    """Losses with a difficulty of each image that all racers share; racers are `gap` apart, in random order."""
    levels = gap * rng.permutation(racers)
    difficulty = rng.exponential(size=images)
    return levels[:, None] + difficulty + noise * rng.normal(size=(racers, images))


def slow_race(table, batches, confidence):
    """The stated rule in plain loops: the winner, the images of each racer, and who is asked for in each batch."""
    racers, total = len(table), sum(batches)
    z = NormalDist().inv_cdf(1 - (1 - confidence) / (racers * len(batches)))
    running, images, asked = list(range(racers)), [0] * racers, []
    seen = {racer: [] for racer in running}
    for number, size in enumerate(batches):
        asked.append((number, list(running)))
        first = sum(batches[:number])
        for racer in running:
            for image in range(first, first + size):
                seen[racer].append(float(table[racer][image]))
            images[racer] = first + size
        n = first + size
        if number == len(batches) - 1:
            break
        if n < 30:
            continue
        means = {racer: fmean(seen[racer]) for racer in running}
        leader = min(running, key=lambda racer: means[racer])
        left = []
        for racer in running:
            pairs = [mine - best for mine, best in zip(seen[racer], seen[leader], strict=True)]
            if not means[racer] - means[leader] > z * stdev(pairs) / math.sqrt(n) * math.sqrt(1 - n / total):
                left.append(racer)
        running = left
    return min(running, key=lambda racer: fmean(seen[racer])), images, asked


@pytest.mark.parametrize("seed", range(5))
def test_with_clear_gaps_the_full_winner_is_found_with_far_fewer_images(seed):
    table = images_table(np.random.default_rng(seed), racers=40, images=1000, gap=0.1)
    result = race(40, [50] * 20, scorer(table, [50] * 20))
    assert result.winner == table.mean(axis=1).argmin()
    assert result.images[result.winner] == 1000
    assert result.images.sum() < 0.25 * table.size


def test_a_race_is_the_stated_rule():
    drops = later = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        racers = int(rng.integers(1, 9))
        batches = rng.integers(4, 24, size=int(rng.integers(1, 9))).tolist()
        confidence = float(rng.choice([0.01, 0.5, 0.8, 0.95, 0.999]))
        table = images_table(rng, racers, sum(batches), gap=rng.choice([0.0, 0.1, 0.4]))
        if seed % 3 == 0:  # as accuracies are raced: wrong or right, with equal means and no spread at all
            table = -(rng.random(table.shape) < rng.random((racers, 1))).astype(np.float32)
        asked = []
        result = race(racers, batches, scorer(table, batches, asked), confidence)
        winner, images, expected = slow_race(table, batches, confidence)
        assert (result.winner, result.images.tolist(), asked) == (winner, images, expected), seed
        drops += sum(count < sum(batches) for count in images)
        later += len(set(images)) > 2
    assert drops > 200, "few racers dropped out, so little was compared"
    assert later > 30, "few races dropped racers after different batches"


def test_confidence_is_095_unless_given():
    table = images_table(np.random.default_rng(0), 12, 120, gap=0.05)
    images = {}
    for confidence in (0.5, 0.95, 0.9999):
        images[confidence] = race(12, [10] * 12, scorer(table, [10] * 12), confidence).images.tolist()
    assert race(12, [10] * 12, scorer(table, [10] * 12)).images.tolist() == images[0.95]
    assert sum(images[0.5]) < sum(images[0.95]) < sum(images[0.9999])


def test_only_running_racers_are_scored_and_survivors_on_all_images():
    batches = [30, 29, 31, 30, 30]
    table = images_table(np.random.default_rng(3), 20, sum(batches), gap=0.04)
    asked = []
    result = race(20, batches, scorer(table, batches, asked))
    assert [batch for batch, _ in asked] == [0, 1, 2, 3, 4]
    assert asked[0][1] == list(range(20))
    for (_, before), (_, after) in pairwise(asked):
        assert set(after) <= set(before)
        assert after == sorted(after)
    for racer, count in enumerate(result.images.tolist()):
        prefix = [batch for batch, running in asked if racer in running]
        assert prefix == list(range(len(prefix)))
        assert count == sum(batches[: len(prefix)])
    survivors = np.flatnonzero(result.images == sum(batches))
    assert survivors.tolist() == asked[-1][1]
    assert 1 < len(survivors) < 20
    assert len(set(result.images.tolist())) > 2
    assert result.winner in survivors
    assert result.winner == survivors[table[survivors].mean(axis=1).argmin()]


def test_identical_racers_stay_together_and_the_first_wins():
    row = np.random.default_rng(0).normal(size=60)
    result = race(5, [10] * 6, scorer(np.tile(row, (5, 1)), [10] * 6))
    assert result.winner == 0
    assert result.images.tolist() == [60] * 5
    table = np.stack([row + 1, row, row + 1, row, row + 2, row])
    result = race(6, [10] * 6, scorer(table, [10] * 6))
    assert result.winner == 1
    assert result.images.tolist() == [30, 60, 30, 60, 30, 60]
    result = race(3, [10] * 6, scorer(np.zeros((3, 60)), [10] * 6))
    assert (result.winner, result.images.tolist()) == (0, [60] * 3)


def test_one_racer_and_one_batch():
    table = images_table(np.random.default_rng(0), 7, 40, gap=1.0)
    asked = []
    result = race(1, [10] * 4, scorer(table[:1], [10] * 4, asked))
    assert (result.winner, result.images.tolist()) == (0, [40])
    assert asked == [(batch, [0]) for batch in range(4)]
    for size in (1, 40):  # nobody drops out of one batch, whatever its scores
        result = race(7, [size], scorer(table[:, :size], [size]))
        assert result.winner == table[:, :size].mean(axis=1).argmin()
        assert result.images.tolist() == [size] * 7
    result = race(1, [1], scorer(table[:1, :1], [1]), confidence=0.01)
    assert (result.winner, result.images.tolist()) == (0, [1])


@pytest.mark.parametrize("kind", ["loss", "accuracy"])
def test_close_racers_are_told_apart_with_the_confidence_that_was_asked_for(kind):
    found, images, size = 0, 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        table = images_table(rng, racers=12, images=480, gap=0.01)
        if kind == "accuracy":
            table = -(table < 1).astype(np.float32)
        result = race(12, [40] * 12, scorer(table, [40] * 12))
        means = table.mean(axis=1)
        found += means[result.winner] == means.min()
        images, size = images + result.images.sum(), size + table.size
    assert found >= 190
    assert images < 0.9 * size, "hardly any racer dropped out, so the confidence was not at stake"


@pytest.mark.parametrize(
    ("racers", "batches", "confidence", "name"),
    [
        (3, [4, 4], 0.0, "confidence: 0.0"),
        (3, [4, 4], 1.0, "confidence: 1.0"),
        (3, [4, 4], -0.5, "confidence: -0.5"),
        (3, [4, 4], 95, "confidence: 95"),
        (3, [4, 4], math.nan, "confidence: nan"),
        (0, [4, 4], 0.95, "racers: 0"),
        (3, [], 0.95, "0 batches"),
    ],
)
def test_a_bad_argument_is_named(racers, batches, confidence, name):
    def never(running, batch):
        raise AssertionError("scored before the arguments were checked")

    with pytest.raises(ValueError, match=name):
        race(racers, batches, never, confidence)


def test_a_racer_without_a_finite_mean_drops_out_at_once():
    table = images_table(np.random.default_rng(0), 4, 80, gap=0.0)
    table[0, 3], table[2, 45] = np.nan, np.inf
    result = race(4, [10] * 8, scorer(table, [10] * 8))
    assert result.images.tolist() == [10, 80, 50, 80]
    assert result.winner == 1 + 2 * int(table[3].mean() < table[1].mean())
    table[:, 70] = np.nan  # in the last batch
    with pytest.raises(FloatingPointError, match="no racer"):
        race(4, [10] * 8, scorer(table, [10] * 8))
