"""The studies' figures, against slow independent references and their own properties."""

import itertools
import json
import math
import time
from dataclasses import asdict
from fractions import Fraction
from statistics import NormalDist, fmean, pstdev, stdev

import numpy as np
import pytest
from references import ndcg_by_hand, weighted_tau_by_hand

from setn_lab.studies.statistics.pairs import all_pairs, by_gap, good_pairs
from setn_lab.studies.statistics.ranks import kendall, ndcg, spearman, weighted_tau, within_best
from setn_lab.studies.statistics.samples import best_of, compare, describe, shares_above

BOTH = pytest.mark.parametrize("correlation", [kendall, spearman])
ALL = pytest.mark.parametrize("correlation", [kendall, spearman, weighted_tau])
Z = NormalDist().inv_cdf(0.975)


def sign(number):
    return int(number > 0) - int(number < 0)


def slow_tau(x, y):
    """tau-b by its definition, over all pairs: concordant minus discordant, over those untied on each side."""
    pairs = [(sign(x[i] - x[j]), sign(y[i] - y[j])) for i, j in itertools.combinations(range(len(x)), 2)]
    untied = [sum(pair[side] != 0 for pair in pairs) for side in (0, 1)]
    return sum(a * b for a, b in pairs) / math.sqrt(untied[0] * untied[1])


def slow_rho(x, y):
    """Pearson's correlation of ranks; a rank is 1 + how many are less + half of how many others are equal."""
    a, b = ([sum((u < v) + (u == v) / 2 for u in side) for v in side] for side in (x, y))
    a, b = [v - fmean(a) for v in a], [v - fmean(b) for v in b]
    covariance = sum(u * v for u, v in zip(a, b, strict=True))
    return covariance / math.sqrt(sum(u * u for u in a) * sum(v * v for v in b))


def wilson(good, count):
    p = good / count
    middle = (p + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(p * (1 - p) / count + Z**2 / (4 * count**2))
    return middle - half, middle + half


def noisy(seed, n, noise=1.0):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n)
    return true + noise * rng.normal(size=n), true


@pytest.mark.parametrize(
    ("correlation", "slow"), [(kendall, slow_tau), (spearman, slow_rho), (weighted_tau, weighted_tau_by_hand)]
)
def test_a_correlation_is_its_definition_with_and_without_ties(correlation, slow):
    compared = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 15))
        levels = int(rng.choice([2, 4, 1000]))
        x, y = rng.integers(levels, size=(2, n)) / levels
        result = correlation(x, y, resamples=1)
        assert result.count == n
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert result.value is None
            continue
        assert result.value == pytest.approx(slow(x.tolist(), y.tolist()), abs=1e-12), seed
        compared += 1
    assert compared > 100


@BOTH
def test_only_the_order_counts(correlation):
    predicted, true = noisy(1, 40)
    straight = correlation(predicted, true, 100)
    assert correlation(np.exp(predicted), 3 * true**3 - 5, 100) == straight
    assert correlation(true, predicted, 1).value == pytest.approx(straight.value, abs=1e-12)
    flipped = correlation(-predicted, true, 100)
    assert flipped.value == pytest.approx(-straight.value, abs=1e-12)
    assert (flipped.low, flipped.high) == pytest.approx((-straight.high, -straight.low), abs=1e-12)
    order = np.random.default_rng(0).permutation(40)
    assert correlation(predicted[order], true[order], 1).value == pytest.approx(straight.value, abs=1e-12)


@ALL
def test_a_perfect_ranking_has_a_point_for_its_interval(correlation):
    values = np.arange(8.0)
    for predicted, extreme in ((values, 1.0), (-values, -1.0)):
        result = correlation(predicted, values, 50)
        assert (result.value, result.low, result.high) == pytest.approx((extreme, extreme, extreme))


@ALL
def test_the_interval_is_that_of_the_bootstrap(correlation):
    predicted, true = noisy(2, 60)
    result = correlation(predicted, true, 200)
    assert result.low < result.value < result.high
    assert result.note == ""
    assert correlation(predicted, true, 200) == result
    other = correlation(predicted, true, 200, seed=1)
    assert other.value == result.value
    assert (other.low, other.high) != (result.low, result.high)


@BOTH
def test_the_interval_holds_95_percent_of_an_independent_bootstrap(correlation):
    predicted, true = noisy(2, 12)
    result = correlation(predicted, true, resamples=3000)
    slow = slow_tau if correlation is kendall else slow_rho
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3000):
        chosen = rng.integers(12, size=12)
        found.append(slow(predicted[chosen].tolist(), true[chosen].tolist()))
    low, high = np.quantile(found, [0.025, 0.975])
    # Three standard errors of such quantiles; an interval of 90% would be off by 0.08 of the width.
    assert [result.low, result.high] == pytest.approx([low, high], abs=0.05 * (high - low))


@BOTH
def test_intervals_shrink_with_the_number_of_items(correlation):
    widths = []
    for n in (25, 100, 400):
        results = [correlation(*noisy(seed, n), resamples=100) for seed in range(3)]
        widths.append(fmean(result.high - result.low for result in results))
    for wide, narrow in itertools.pairwise(widths):
        assert 1.5 < wide / narrow < 2.7  # four times the items: half the width


def test_intervals_cover_the_true_correlation():
    noise = 1.0
    r = 1 / math.sqrt(1 + noise**2)
    truth = 2 / math.pi * math.asin(r)  # tau of a bivariate normal distribution
    covered = 0
    for seed in range(30):
        result = kendall(*noisy(seed, 50, noise), resamples=100, seed=seed)
        covered += result.low <= truth <= result.high
    assert covered >= 25  # 28 are expected


@ALL
def test_undefined_correlations_say_why(correlation):
    for predicted, true, note in (
        ([], [], "0 items; at least 3 are needed"),
        ([1, 2], [1, 2], "2 items; at least 3 are needed"),
        ([1, 1, 1], [1, 2, 3], "all predictions are equal"),
        ([1, 1, 1], [2, 2, 2], "all predictions are equal"),
        ([1, 2, 3], [5, 5, 5], "all true values are equal"),
    ):
        result = correlation(predicted, true)
        assert (result.value, result.low, result.high, result.count) == (None, None, None, len(true))
        assert result.note == note


@BOTH
def test_degenerate_resamples_are_left_out(correlation):
    # One other value on each side, at different items: a resample has both in about 41% of cases.
    predicted, true = np.eye(10)[0], np.eye(10)[1]
    result = correlation(predicted, true, resamples=400)
    assert result.value == pytest.approx(-1 / 9)
    assert (result.low, result.high) == (None, None)
    name, defined = result.note.split(" is defined in ")
    assert name == f"no interval: {'tau' if correlation is kendall else 'rho'}"
    assert int(defined.removesuffix(" of 400 resamples")) == pytest.approx(164, abs=35)
    # At the same item it has it in 65%.
    result = correlation(predicted, predicted, resamples=400)
    assert (result.low, result.high, result.note) == (pytest.approx(1), pytest.approx(1), "")


@BOTH
def test_many_items_are_fast(correlation):
    predicted, true = noisy(0, 2000)
    started = time.process_time()
    correlation(predicted, true)
    assert time.process_time() - started < 5


def test_weighted_tau_asks_for_the_best_items_first():
    true = np.arange(10.0)
    wrong_above, wrong_below = true.copy(), true.copy()
    wrong_above[[8, 9]] = wrong_above[[9, 8]]
    wrong_below[[0, 1]] = wrong_below[[1, 0]]
    assert kendall(wrong_above, true, 1).value == kendall(wrong_below, true, 1).value
    assert weighted_tau(wrong_above, true, 1).value < weighted_tau(wrong_below, true, 1).value
    assert ndcg(wrong_above, true) < ndcg(wrong_below, true)


def test_ndcg_is_its_definition_with_and_without_ties():
    compared = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 7))
        x, y = rng.integers(int(rng.choice([2, 4, 1000])), size=(2, n)) / 7
        if np.ptp(y) == 0:
            assert ndcg(x, y) is None
            continue
        assert ndcg(x, y) == pytest.approx(ndcg_by_hand(x.tolist(), y.tolist()), abs=1e-12), seed
        assert ndcg(3 * x**3 - 1, 5 * y + 90) == pytest.approx(ndcg(x, y), abs=1e-12)
        compared += 1
    assert compared > 30
    assert ndcg([1, 2], [1, 2]) is None


def test_equal_predictions_have_the_ndcg_of_chance():
    rng = np.random.default_rng(0)
    true = rng.normal(size=30)
    found = [ndcg(rng.permutation(30), true) for _ in range(1000)]
    assert ndcg(np.zeros(30), true) == pytest.approx(fmean(found), abs=4 * stdev(found) / math.sqrt(1000))


def test_all_pairs_are_those_of_different_items():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 12))
        x, y = rng.integers(int(rng.choice([2, 5, 1000])), size=(2, n)) / 7
        pairs = list(itertools.combinations(range(n), 2))
        places = np.array(pairs)
        found, groups = all_pairs(x, y, resamples=20)
        expected = good_pairs(x[places], y[places])
        assert (found.good, found.bad, found.share.count) == (expected.good, expected.bad, len(pairs))
        assert (found.tied_predicted, found.tied_true) == (expected.tied_predicted, expected.tied_true)
        assert found.share.value == expected.share.value
        for group, other in zip(groups, by_gap(x[places], y[places]), strict=True):
            assert (group.least_gap, group.most_gap, group.mean_gap) == (
                other.least_gap,
                other.most_gap,
                other.mean_gap,
            )
            assert (group.share.value, group.share.count) == (other.share.value, other.share.count)


def slow_shares(predicted, true, bins, resamples):
    """The shares of good pairs in resamples of the items, of all pairs and by their gap in the sample."""
    n, rng = len(true), np.random.default_rng(0)
    pairs = sorted(itertools.combinations(range(n), 2), key=lambda pair: abs(true[pair[0]] - true[pair[1]]))
    groups = [pairs, *([tuple(pair) for pair in group.tolist()] for group in np.array_split(pairs, bins))]
    found = [[] for _ in groups]
    for _ in range(resamples):
        chosen = rng.integers(n, size=n).tolist()
        drawn = [tuple(sorted(pair)) for pair in itertools.combinations(chosen, 2)]
        for shares, group in zip(found, groups, strict=True):
            members = set(group)
            own = [pair for pair in drawn if pair in members]
            good = sum(sign(predicted[i] - predicted[j]) == sign(true[i] - true[j]) for i, j in own)
            shares += [good / len(own)] if own else []
    return [np.quantile(shares, [0.025, 0.975]) for shares in found]


def test_the_interval_of_all_pairs_is_a_bootstrap_over_the_items():
    predicted, true = noisy(4, 14)
    found, groups = all_pairs(predicted, true, bins=2, resamples=3000)
    slow = slow_shares(predicted.tolist(), true.tolist(), 2, 2000)
    for share, (low, high) in zip([found.share, *(group.share for group in groups)], slow, strict=True):
        assert [share.low, share.high] == pytest.approx([low, high], abs=0.07 * (high - low))
    places = np.array(list(itertools.combinations(range(14), 2)))
    wilson_interval = good_pairs(predicted[places], true[places]).share
    assert found.share.high - found.share.low > 1.3 * (wilson_interval.high - wilson_interval.low)


def test_all_pairs_of_few_items():
    found, groups = all_pairs([], [])
    assert (found.share.value, found.share.count, groups) == (None, 0, [])
    found, groups = all_pairs([1.0], [2.0])
    assert (found.share.value, groups) == (None, [])
    found, (group,) = all_pairs([1, 2], [1, 2], resamples=50)
    assert found.share.value == group.share.value == 1.0
    with pytest.raises(ValueError, match="resamples: 0 given"):
        all_pairs([1, 2], [1, 2], resamples=0)


def test_no_interval_where_most_resamples_have_no_such_pair():
    rng = np.random.default_rng(0)
    _, groups = all_pairs(rng.normal(size=8), rng.normal(size=8), bins=28, resamples=400)  # a group has one pair
    for group in groups:  # both items are in 41% of the resamples
        assert (group.share.low, group.share.high) == (None, None)
        assert int(group.share.note.split()[2]) == pytest.approx(0.413 * 400, abs=45)


def test_within_best_ranks_the_best_items_alone():
    predicted, true = noisy(3, 50)
    order = sorted(range(50), key=lambda item: -true[item])
    result = within_best(predicted, true, resamples=20)
    assert list(result) == [0.1, 0.25, 0.5]
    for fraction, count in ((0.1, 5), (0.25, 13), (0.5, 25)):
        chosen = order[:count]
        assert result[fraction].count == count
        assert result[fraction].value == pytest.approx(slow_tau(predicted[chosen].tolist(), true[chosen].tolist()))
    assert within_best(predicted, true, [1.0], 1)[1.0].value == pytest.approx(kendall(predicted, true, 1).value)
    assert within_best(predicted, true, [0.5], 20, 4)[0.5] != within_best(predicted, true, [0.5], 20, 5)[0.5]


def test_within_best_takes_the_first_of_equals_and_rounds_up():
    true = np.array([1.0, 2, 3, 1, 1, 1, 1])  # the best 4 are items 2, 1, 0 and 3
    predicted = np.array([0.0, 2, 1, 3, 9, 9, 9])
    result = within_best(predicted, true, [0.5], 9)[0.5]
    assert result.count == 4
    assert result.value == pytest.approx(slow_tau([1, 2, 0, 3], [3, 2, 1, 1]))
    assert within_best(*noisy(0, 100), [0.07, 0.29], 1)[0.07].count == 7  # 0.07 * 100 is above 7 in floats
    few = within_best(*noisy(0, 10), resamples=9)
    assert few[0.1].note == "1 items; at least 3 are needed"
    assert few[0.25].count == 3
    assert within_best([], [], [0.5])[0.5].value is None


def test_good_pairs_compare_as_the_true_values_do():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        predicted, true = rng.integers(3, size=(2, int(rng.integers(1, 12)), 2)) / 3
        result = good_pairs(predicted, true)
        good = sum(sign(p - q) == sign(t - u) for (p, q), (t, u) in zip(predicted, true, strict=True))
        assert (result.good, result.bad) == (good, len(true) - good)
        assert result.tied_predicted == sum(p == q for p, q in predicted)
        assert result.tied_true == sum(t == u for t, u in true)
        assert result.share.value == good / len(true)
        assert result.share.count == len(true)
        assert (result.share.low, result.share.high) == pytest.approx(wilson(good, len(true)), abs=1e-9)


def test_a_tie_is_good_only_on_both_sides():
    rising, tied = [0.1, 0.2], [0.3, 0.3]
    assert good_pairs([tied], [tied]).good == 1
    assert good_pairs([tied], [rising]).good == 0
    assert good_pairs([rising], [tied]).good == 0
    assert good_pairs([rising], [[0.7, 0.9]]).good == 1
    assert good_pairs([rising], [[0.9, 0.7]]).good == 0
    mixed = good_pairs([tied, tied, rising], [rising, tied, tied])
    assert (mixed.tied_predicted, mixed.tied_true) == (2, 2)


@pytest.mark.parametrize("nothing", [[], np.empty((0, 2))])
def test_no_pairs_have_no_share(nothing):
    result = good_pairs(nothing, nothing)
    assert (result.share.value, result.share.low, result.share.high, result.share.note) == (
        None,
        None,
        None,
        "no pairs",
    )
    assert (result.good, result.bad, result.share.count) == (0, 0, 0)
    assert by_gap(nothing, nothing) == []


@pytest.mark.parametrize("pairs", [1, 3, 4, 10, 37])
def test_by_gap_groups_pairs_from_the_smallest_gap_on(pairs):
    predicted, true = np.random.default_rng(pairs).random((2, pairs, 2))
    bins = by_gap(predicted, true)
    assert len(bins) == min(pairs, 4)
    sizes = [one.share.count for one in bins]
    assert sum(sizes) == pairs
    assert max(sizes) - min(sizes) <= 1
    order = sorted(range(pairs), key=lambda pair: abs(true[pair, 0] - true[pair, 1]))
    for one, end in zip(bins, itertools.accumulate(sizes), strict=True):
        group = order[end - one.share.count : end]
        gaps = [abs(true[pair, 0] - true[pair, 1]) for pair in group]
        assert (one.least_gap, one.most_gap) == (min(gaps), max(gaps))
        assert one.mean_gap == pytest.approx(fmean(gaps))
        good = sum(sign(predicted[i, 0] - predicted[i, 1]) == sign(true[i, 0] - true[i, 1]) for i in group)
        assert one.share.value == good / len(group)
    assert [one.share.count for one in by_gap(predicted, true, bins=2)] == (
        [1] if pairs == 1 else [-(-pairs // 2), pairs // 2]
    )


def slow_u(a, b):
    return sum((x > y) + (x == y) / 2 for x in a for y in b)


def test_compare_counts_the_pairs_that_a_wins():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        a, b = (rng.integers(5, size=int(rng.integers(1, 15))) / 5 for _ in range(2))
        result = compare(a, b)
        u = slow_u(a, b)
        assert (result.count_a, result.count_b) == (len(a), len(b))
        assert result.u == u
        assert result.superiority == pytest.approx(u / (len(a) * len(b)))
        assert result.difference == pytest.approx(fmean(a) - fmean(b), abs=1e-12)
        assert 0 <= result.p <= 1
        other = compare(b, a)
        assert other.p == pytest.approx(result.p)
        assert other.superiority == pytest.approx(1 - result.superiority)


def test_p_is_the_share_of_permutations_that_are_as_extreme():
    a, b = [0.3, 0.9, 0.8, 0.7], [0.1, 0.2, 0.4, 0.5, 0.6]
    both = a + b
    extreme = abs(slow_u(a, b) - 10)
    splits = [set(chosen) for chosen in itertools.combinations(range(9), 4)]
    as_extreme = sum(
        abs(slow_u([both[i] for i in chosen], [both[i] for i in range(9) if i not in chosen]) - 10) >= extreme
        for chosen in splits
    )
    assert compare(a, b).p == pytest.approx(as_extreme / len(splits))


def test_compare_with_nothing_and_with_nothing_but_ties():
    for a, b, note in (([], [1], "no values in a"), ([1], [], "no values in b"), ([], [], "no values in a and b")):
        result = compare(a, b)
        assert (result.u, result.p, result.superiority, result.difference) == (None, None, None, None)
        assert (result.count_a, result.count_b, result.note) == (len(a), len(b), note)
    result = compare([0.5] * 3, [0.5] * 4)
    assert (result.u, result.p, result.superiority, result.difference) == (6.0, 1.0, 0.5, 0.0)
    assert result.note == "all values are equal"


def slow_best_of(pool, draws, lowest):
    """How the value of the best of T draws is distributed, by all len(pool)**draws equally likely draws."""
    found = []
    for drawn in itertools.product(range(len(pool)), repeat=draws):
        found.append(pool[min(drawn, key=lambda item: (pool[item][0] if lowest else -pool[item][0], item))][1])
    found.sort()
    # The level is reached at the first value that at least so many are at or below.
    low, median, high = (found[math.ceil(level * len(found)) - 1] for level in map(Fraction, ("1/20", "1/2", "19/20")))
    return fmean(found), pstdev(found), low, median, high


@pytest.mark.parametrize("lowest", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_best_of_is_the_enumeration_of_all_draws(lowest, weighted):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 5))
        scores, values = rng.integers(4, size=n) / 4, rng.random(n)
        weights = rng.integers(3, size=n) if weighted else np.ones(n, dtype=int)
        if not weights.any():
            weights[0] = 1
        pool = [(s, v) for s, v, w in zip(scores, values, weights, strict=True) for _ in range(w)]
        if len(pool) > 6:
            continue
        draws = [1, 2, 3, 5]
        named = {"value": values, "score": scores}
        rows = best_of(scores, named, draws, lowest, weights if weighted else None)
        assert [row.draws for row in rows] == draws
        for T, row in zip(draws, rows, strict=True):
            assert row.beyond == (len(pool) < T)
            assert list(row.values) == ["value", "score"]
            for name, of in (("value", pool), ("score", [(s, s) for s, _ in pool])):
                spread = row.values[name]
                expected = slow_best_of(of, T, lowest)
                assert (spread.mean, spread.std) == pytest.approx(expected[:2], abs=1e-12)
                assert (spread.low, spread.median, spread.high) == expected[2:], (seed, T, name)


def test_quantiles_of_one_draw_are_exact_at_the_levels():
    for n in (20, 40, 100, 2000):
        values = np.random.default_rng(n).permutation(n).astype(float)
        spread = best_of(values, {"v": values}, [1], lowest=True)[0].values["v"]
        assert (spread.low, spread.median, spread.high) == (n / 20 - 1, n / 2 - 1, 19 * n / 20 - 1)


def test_best_of_many_draws_is_the_best():
    scores, accuracy = noisy(5, 50)
    rows = best_of(scores, {"loss": scores, "accuracy": accuracy}, [1, 10, 50, 51, 10_000], lowest=True)
    assert [row.beyond for row in rows] == [False, False, False, True, True]
    means = [row.values["loss"].mean for row in rows]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(scores.mean())
    last = rows[-1].values
    assert last["loss"].mean == pytest.approx(scores.min())
    assert last["accuracy"].median == accuracy[scores.argmin()]
    assert last["accuracy"].std < 1e-6


def test_results_are_plain_numbers_that_json_can_hold():
    predicted, true = noisy(6, 12)
    pairs, others = predicted.reshape(6, 2), true.reshape(6, 2)
    results = [kendall(predicted, true, 9), good_pairs(pairs, others), compare(predicted, true), describe(true)]
    results += by_gap(pairs, others) + best_of(true, {"a": predicted}, np.array([1, 99]), True, np.full(12, 2))
    text = json.dumps([[asdict(result) for result in results], shares_above(true, [0])], allow_nan=False)
    assert "NaN" not in text


def test_shares_above_count_what_exceeds_the_threshold():
    assert shares_above([0.1, 0.2, 0.2, 0.9], [0.0, 0.1, 0.2, 0.5, 0.9]) == [1.0, 0.75, 0.25, 0.25, 0.0]
    assert shares_above([0.5], []) == []


def test_describe_summarizes():
    values = np.random.default_rng(0).permutation(21) / 20
    summary = describe(values)
    assert summary.count == 21
    assert summary.mean == pytest.approx(fmean(values))
    assert summary.std == pytest.approx(stdev(values))
    assert (summary.minimum, summary.maximum) == (0.0, 1.0)
    assert list(summary.quantiles) == [0.05, 0.25, 0.5, 0.75, 0.95]
    for level, value in summary.quantiles.items():
        assert value == pytest.approx(level)
    one = describe([0.3])
    assert (one.count, one.mean, one.std, one.minimum, one.maximum) == (1, 0.3, None, 0.3, 0.3)
    assert set(one.quantiles.values()) == {0.3}


NAN = [0.1, float("nan"), 0.3]
THREE = [0.1, 0.2, 0.3]
PAIRS = [[0.1, 0.2]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kendall(NAN, THREE), "predicted: 1 values are not finite"),
        (lambda: spearman(THREE, NAN), "true: 1 values are not finite"),
        (lambda: kendall(THREE, THREE[:2]), "true: 2 given; as many as there are in predicted, 3"),
        (lambda: spearman(PAIRS, THREE), r"predicted: an array of shape \(1, 2\) given; \(n,\) is allowed"),
        (lambda: kendall(THREE, THREE, resamples=0), "resamples: 0 given; at least 1"),
        (lambda: within_best(THREE, THREE, [0.5, 0.0]), "fractions: 0.0 given"),
        (lambda: within_best(THREE, THREE, [1.5]), "fractions: 1.5 given"),
        (lambda: within_best(THREE, NAN), "true: 1 values are not finite"),
        (lambda: good_pairs([[0.1, float("inf")]], PAIRS), "predicted: 1 values are not finite"),
        (lambda: good_pairs(PAIRS, [NAN[:2]]), "true: 1 values are not finite"),
        (lambda: good_pairs(PAIRS, PAIRS * 2), "true: 2 given"),
        (lambda: good_pairs(PAIRS, THREE), r"true: an array of shape \(3,\) given; \(P, 2\) is allowed"),
        (lambda: good_pairs([THREE], PAIRS), r"predicted: an array of shape \(1, 3\) given"),
        (lambda: all_pairs(NAN, THREE), "predicted: 1 values are not finite"),
        (lambda: all_pairs(THREE, THREE, bins=0), "bins: 0 given; at least 1"),
        (lambda: ndcg(THREE, NAN), "true: 1 values are not finite"),
        (lambda: ndcg(THREE, THREE[:2]), "true: 2 given"),
        (lambda: weighted_tau(NAN, THREE), "predicted: 1 values are not finite"),
        (lambda: by_gap(PAIRS, PAIRS, bins=0), "bins: 0 given; at least 1"),
        (lambda: by_gap(PAIRS, [NAN[:2]]), "true: 1 values are not finite"),
        (lambda: compare(NAN, THREE), "a: 1 values are not finite"),
        (lambda: compare([], NAN), "b: 1 values are not finite"),
        (lambda: best_of(THREE, {}, [2, 0], True), "draws: 0 given; at least 1"),
        (lambda: best_of([], {}, [1], True), "scores: 0 values given; at least 1"),
        (lambda: best_of(NAN, {}, [1], True), "scores: 1 values are not finite"),
        (lambda: best_of(THREE, {"loss": NAN}, [1], True), r"values\['loss'\]: 1 values are not finite"),
        (lambda: best_of(THREE, {"loss": [1]}, [1], True), "loss.*: 1 values given; one for each of the 3 scores"),
        (lambda: best_of(THREE, {}, [1], True, [1, 2]), "weights: 2 values given; one for each of the 3 scores"),
        (lambda: best_of(THREE, {}, [1], True, [1, -1, 1]), "weights: .* given; numbers of at least 0"),
        (lambda: best_of(THREE, {}, [1], True, [0, 0, 0]), "weights: .* given; numbers of at least 0"),
        (lambda: shares_above([], [0.5]), "accuracies: 0 values given; at least 1"),
        (lambda: shares_above(NAN, [0.5]), "accuracies: 1 values are not finite"),
        (lambda: describe([]), "values: 0 values given; at least 1"),
        (lambda: describe(NAN), "values: 1 values are not finite"),
    ],
)
def test_what_is_not_allowed_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
