"""The evaluator's distributions against enumeration, and its draws against the distributions."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from references import random_evaluator
from scipy.stats import chisquare

from setn_lab.compute.streams import generator
from setn_lab.evaluator.setn import Distributions, Evaluator
from setn_lab.space.setn import LARGE, SMALL, SearchSpace

LIMIT = 1e-4  # the least p-value of a chi-square test; the draws are always the same, so a test cannot flicker


def softmax(values):
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def pairs(operations):
    """(r1, r2) in the order of Eq. 8: (1, 1), (2, 1), (2, 2), (3, 1), ... counted from 0."""
    return [(r1, r2) for r1 in range(operations) for r2 in range(r1 + 1)]


def node_probabilities(evaluator, kind, node):
    """The probability of each quadruple (r1, r2, t, u) of one node, by Eq. 4-9 with four loops."""
    inputs = 2 + node
    f, g = (softmax(logits[kind, node, :inputs].tolist()) for logits in (evaluator.f, evaluator.g))
    h = softmax(evaluator.h[kind, node].tolist())
    return {
        (r1, r2, t, u): h[r] * f[t] * g[u]
        for r, (r1, r2) in enumerate(pairs(len(evaluator.space.operations)))
        for t in range(inputs)
        for u in range(inputs)
    }


def edges(quadruple):
    """What a node computes: equal for two encodings of one node."""
    r1, r2, t, u = quadruple
    return tuple(sorted([(r1, t), (r2, u)]))


def chi_square(counts, probabilities):
    """The p-value of counts (a Counter) against probabilities; rare outcomes are put together."""
    assert set(counts) <= set(probabilities)
    total = sum(counts.values())
    common = [key for key, p in probabilities.items() if p * total >= 5]
    observed = [counts[key] for key in common]
    expected = [probabilities[key] * total for key in common]
    rest = total - sum(expected)
    if rest >= 5:
        observed.append(total - sum(observed))
        expected.append(rest)
    scale = sum(observed) / sum(expected)
    return chisquare(observed, [value * scale for value in expected]).pvalue


def test_new_evaluator_is_uniform_over_what_a_node_reads():
    space = SearchSpace(SMALL, 4)
    f, g, h = Evaluator(space).probabilities()
    for node in range(4):
        inputs = 2 + node
        for p in (f, g):
            torch.testing.assert_close(p[:, node, :inputs], torch.full((2, inputs), 1 / inputs))
            assert bool((p[:, node, inputs:] == 0).all())
    torch.testing.assert_close(h, torch.full((2, 4, 21), 1 / 21))


def test_probabilities_are_masked_softmaxes():
    space = SearchSpace(SMALL, 4)
    evaluator = random_evaluator(space, scale=2).double()
    probabilities = evaluator.probabilities()
    for kind in range(2):
        for node in range(4):
            for p, logits in zip(probabilities, (evaluator.f, evaluator.g, evaluator.h), strict=True):
                size = 21 if logits is evaluator.h else 2 + node
                expected = softmax(logits[kind, node, :size].tolist()) + [0.0] * (logits.shape[2] - size)
                torch.testing.assert_close(p[kind, node], torch.tensor(expected, dtype=torch.float64))
    stored = evaluator.distributions()
    for p, array in zip(probabilities, (stored.f, stored.g, stored.h), strict=True):
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, p.detach().numpy())
    assert {name: np.array(value).tolist() for name, value in stored.to_record().items()} == {
        "f": stored.f.tolist(),
        "g": stored.g.tolist(),
        "h": stored.h.tolist(),
    }


def test_gradients_reach_every_readable_logit_and_no_other():
    space = SearchSpace(SMALL, 4)
    evaluator = random_evaluator(space)
    weights = evaluator.mixing_weights()
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=tuple(weights.shape))).float()
    (weights * direction).sum().backward()
    for node in range(4):
        for logits in (evaluator.f, evaluator.g):
            assert bool((logits.grad[:, node, : 2 + node] != 0).all())
            assert bool((logits.grad[:, node, 2 + node :] == 0).all())
    assert bool((evaluator.h.grad != 0).all())


def test_gradient_of_the_mixing_weights_is_their_slope():
    space = SearchSpace(("skip_connect", "sep_conv_3x3", "max_pool_3x3"), 2)
    evaluator = random_evaluator(space).double()
    logits = (evaluator.f, evaluator.g, evaluator.h)

    def weights(f, g, h):
        return torch.func.functional_call(Caller(evaluator), {"one.f": f, "one.g": g, "one.h": h}, ())

    assert torch.autograd.gradcheck(weights, logits)


class Caller(torch.nn.Module):
    """Makes `mixing_weights` the forward pass, for functional_call."""

    def __init__(self, evaluator):
        super().__init__()
        self.one = evaluator

    def forward(self):
        return self.one.mixing_weights()


@pytest.mark.parametrize("operations", [SMALL, LARGE])
def test_mixing_weights_are_expected_uses_of_each_operation(operations):
    space = SearchSpace(operations, 3)
    evaluator = random_evaluator(space, scale=2).double()
    weights = evaluator.mixing_weights()
    assert weights.shape == (2, 2 + 3 + 4, len(operations))
    for kind in range(2):
        expected = {(node, state): [0.0] * len(operations) for node in range(3) for state in range(2 + node)}
        for node in range(3):
            for (r1, r2, t, u), p in node_probabilities(evaluator, kind, node).items():
                expected[node, t][r1] += p
                expected[node, u][r2] += p
            total = sum(sum(expected[node, state]) for state in range(2 + node))
            assert total == pytest.approx(2)
        for index, edge in enumerate(sorted(expected)):  # node by node, state by state
            torch.testing.assert_close(weights[kind, index], torch.tensor(expected[edge], dtype=torch.float64))
    on_host = evaluator.distributions().mixing_weights()
    np.testing.assert_allclose(on_host, weights.detach().numpy(), rtol=1e-12, atol=1e-15)
    single = random_evaluator(space, scale=2)
    np.testing.assert_allclose(single.mixing_weights().detach().numpy(), on_host, rtol=1e-5, atol=1e-7)
    start = 0
    for node in range(3):
        part = on_host[:, start : start + 2 + node]
        np.testing.assert_allclose(part.sum((1, 2)), 2)
        start += 2 + node


def test_samples_follow_the_joint_distribution_of_every_node():
    space = SearchSpace(("skip_connect", "sep_conv_3x3", "max_pool_3x3"), 2)
    evaluator = random_evaluator(space)
    drawn = evaluator.distributions().sample(generator(0, "draws"), 20_000)
    assert drawn.shape == (20_000, 2, 2, 4)
    for kind, node in itertools.product(range(2), range(2)):
        counts = Counter(map(tuple, drawn[:, kind, node].tolist()))
        assert chi_square(counts, node_probabilities(evaluator, kind, node)) > LIMIT


def test_nodes_and_cells_are_drawn_independently():
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), 2)
    evaluator = random_evaluator(space, scale=0.5)
    drawn = evaluator.distributions().sample(generator(1, "draws"), 20_000)
    for one, other in itertools.combinations(itertools.product(range(2), range(2)), 2):
        couples = zip(drawn[:, *one].tolist(), drawn[:, *other].tolist(), strict=True)
        joint = Counter((tuple(a), tuple(b)) for a, b in couples)
        expected = {
            (a, b): p * q
            for a, p in node_probabilities(evaluator, *one).items()
            for b, q in node_probabilities(evaluator, *other).items()
        }
        assert chi_square(joint, expected) > LIMIT


def test_large_space_samples_follow_f_g_and_h():
    space = SearchSpace(LARGE, 4)
    evaluator = random_evaluator(space)
    distributions = evaluator.distributions()
    drawn = distributions.sample(generator(2, "draws"), 20_000)
    order = {pair: r for r, pair in enumerate(pairs(len(LARGE)))}
    for kind, node in itertools.product(range(2), range(4)):
        here = drawn[:, kind, node].tolist()
        t, u = (Counter(quadruple[place] for quadruple in here) for place in (2, 3))
        r = Counter(order[quadruple[0], quadruple[1]] for quadruple in here)
        for counts, p in ((t, distributions.f), (u, distributions.g), (r, distributions.h)):
            readable = {index: value for index, value in enumerate(p[kind, node].tolist()) if value > 0}
            assert chi_square(counts, readable) > LIMIT


def test_an_improbable_outcome_is_never_drawn():
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), 2)
    f = np.array([[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]] * 2)
    g = np.array([[[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]] * 2)
    h = np.array([[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]] * 2)
    drawn = Distributions(space, f, g, h).sample(generator(3, "draws"), 500)
    assert set(map(tuple, drawn[:, :, 0].reshape(-1, 4).tolist())) == {(1, 0, 1, 0)}
    assert set(map(tuple, drawn[:, :, 1].reshape(-1, 4).tolist())) == {(1, 1, 2, 0), (1, 1, 2, 2)}


def test_draws_are_a_function_of_the_generator():
    distributions = random_evaluator(SearchSpace(SMALL, 4)).distributions()
    first, same, other = (distributions.sample(generator(seed, "draws"), 5) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_argmax_is_the_most_probable_quadruple():
    space = SearchSpace(SMALL, 3)
    evaluator = random_evaluator(space)
    best = evaluator.distributions().argmax()
    for kind, node in itertools.product(range(2), range(3)):
        probabilities = node_probabilities(evaluator, kind, node)
        assert tuple(best[kind, node].tolist()) == max(probabilities, key=probabilities.get)


def all_architectures(evaluator):
    """Every encoding of a space of one node, with its probability: quadruples (2, 1, 4)."""
    normal, reduce = (node_probabilities(evaluator, kind, 0) for kind in range(2))
    for a, p in normal.items():
        for b, q in reduce.items():
            yield (a, b), p * q


def test_log_probability_is_a_distribution_over_distinct_architectures():
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), 1)
    evaluator = random_evaluator(space).double()
    distributions = evaluator.distributions()
    expected, written = {}, {}
    for (a, b), p in all_architectures(evaluator):
        key = edges(a), edges(b)
        expected[key] = expected.get(key, 0) + p
        written.setdefault(key, []).append([[a], [b]])
    assert len(expected) == space.count_architectures()
    for key, encodings in written.items():
        for encoding in encodings:
            log_probability = distributions.log_probability(np.array(encoding))
            assert log_probability.shape == ()
            assert float(log_probability) == pytest.approx(math.log(expected[key]), rel=1e-12)
    ones = np.array([encodings[0] for encodings in written.values()])
    together = distributions.log_probability(ones)
    assert together.shape == (len(ones),)
    assert np.exp(together).sum() == pytest.approx(1)
    assert np.exp(distributions.log_probability(ones.reshape(-1, 2, 2, 1, 4))).sum() == pytest.approx(1)

    drawn = distributions.sample(generator(4, "draws"), 20_000)
    counts = Counter((edges(a), edges(b)) for ((a,), (b,)) in drawn.tolist())
    by_name = {key: float(np.exp(value)) for key, value in zip(written, together, strict=True)}
    assert chi_square(counts, by_name) > LIMIT


def test_equal_architectures_have_equal_log_probability():
    space = SearchSpace(SMALL, 4)
    distributions = random_evaluator(space).distributions()
    drawn = distributions.sample(generator(5, "draws"), 200)
    exchanged = drawn[..., [1, 0, 3, 2]]  # the two halves of every node; r2 > r1 where they differ
    np.testing.assert_allclose(distributions.log_probability(exchanged), distributions.log_probability(drawn))
    for one, other in zip(drawn[:20], exchanged[:20], strict=True):
        assert space.genotype(one) == space.genotype(other)


def test_log_probability_is_the_sum_over_nodes():
    space = SearchSpace(SMALL, 3)
    evaluator = random_evaluator(space).double()
    drawn = space.sample(np.random.default_rng(6), 30, 2)
    tables = {}
    for kind, node in itertools.product(range(2), range(3)):
        table = tables[kind, node] = {}
        for quadruple, p in node_probabilities(evaluator, kind, node).items():
            table[edges(quadruple)] = table.get(edges(quadruple), 0) + p
    for architecture, value in zip(drawn, evaluator.distributions().log_probability(drawn), strict=True):
        expected = sum(math.log(tables[place][edges(architecture[place].tolist())]) for place in tables)
        assert value == pytest.approx(expected, rel=1e-10)


def test_log_probability_of_the_impossible_is_minus_infinity():
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), 1)
    half, sure = np.full((2, 1, 2), 0.5), np.array([[[1.0, 0.0, 0.0]]] * 2)
    distributions = Distributions(space, half, half, sure)
    quadruples = np.array([[[[1, 1, 0, 0]], [[0, 0, 0, 0]]], [[[0, 0, 0, 1]], [[0, 0, 1, 1]]]])
    impossible, possible = distributions.log_probability(quadruples)
    assert impossible == -math.inf
    assert possible == pytest.approx(math.log(2 / 4 * 1 / 4))


def test_entropy_is_that_of_all_quadruples():
    space = SearchSpace(SMALL, 3)
    evaluator = random_evaluator(space, scale=2).double()
    distributions = evaluator.distributions()
    parts = distributions.entropies()
    assert parts.keys() == {"f", "g", "h"}
    total = 0.0
    for kind, node in itertools.product(range(2), range(3)):
        expected = -sum(p * math.log(p) for p in node_probabilities(evaluator, kind, node).values())
        assert sum(part[kind, node] for part in parts.values()) == pytest.approx(expected)
        total += expected
    assert distributions.entropy() == pytest.approx(total)


def test_entropy_is_greatest_at_the_start_and_zero_when_sure():
    space = SearchSpace(SMALL, 4)
    start = Evaluator(space).double().distributions()
    assert start.entropy() == pytest.approx(math.log(space.count_encodings()))
    assert random_evaluator(space).distributions().entropy() < start.entropy()
    sure = [np.zeros((2, 4, size)) for size in (5, 5, 21)]
    for p in sure:
        p[..., 0] = 1
    assert Distributions(space, *sure).entropy() == 0


def test_new_evaluator_gives_every_encoding_the_same_probability():
    space = SearchSpace(SMALL, 4)
    distributions = Evaluator(space).double().distributions()
    drawn = space.canonical(space.sample(np.random.default_rng(7), 50, 2))
    r1, r2, t, u = np.moveaxis(drawn, -1, 0)
    twice = ((r1 == r2) & (t != u)).sum((1, 2))
    expected = twice * math.log(2) - math.log(space.count_encodings())
    np.testing.assert_allclose(distributions.log_probability(drawn), expected)


def likeliest_by_trying(distributions, operations, nodes):
    """The best log-probability among every architecture of the space, and how many there are."""
    space, encodings = distributions.space, []
    for node in range(nodes):
        states = range(2 + node)
        encodings.append([(*pair, t, u) for pair in pairs(operations) for t in states for u in states])
    cells = list(itertools.product(*encodings))
    every = {}
    for cell in cells:  # the two cells are independent: each is tried beside the same other one
        value = distributions.log_probability(np.array([[cell, cells[0]], [cells[0], cell]]))
        every[tuple(map(edges, cell))] = value
    assert len(every) ** 2 == space.count_architectures()
    shared = float(distributions.log_probability(np.array([cells[0], cells[0]])))
    return sum(max(value[kind] for value in every.values()) for kind in range(2)) - shared


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_most_likely_architecture_by_trying_all(nodes):
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), nodes)
    differs = 0
    for seed in range(12):
        distributions = random_evaluator(space, seed, 0.5).distributions()
        likely = distributions.most_likely()
        np.testing.assert_array_equal(likely, space.canonical(likely))
        found = float(distributions.log_probability(likely))
        assert found == pytest.approx(likeliest_by_trying(distributions, 2, nodes))
        differs += not np.array_equal(likely, space.canonical(distributions.argmax()))
        assert found >= float(distributions.log_probability(distributions.argmax())) - 1e-12
    assert 0 < differs < 12


def test_the_most_likely_architecture_need_not_be_the_argmax():
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), 1)
    f = g = np.array([[[0.55, 0.45]]] * 2)
    h = np.array([[[0.6, 0.4, 0.0]]] * 2)  # twice the skip on c_{k-2} has .1815; on both inputs 2 x .1485
    distributions = Distributions(space, f, g, h)
    assert distributions.argmax().tolist() == [[[0, 0, 0, 0]]] * 2
    assert distributions.most_likely().tolist() == [[[0, 0, 0, 1]]] * 2
    assert distributions.log_probability(distributions.most_likely()) == pytest.approx(2 * math.log(0.6 * 0.495))


def test_the_most_likely_architecture_reads_only_what_a_node_can():
    space = SearchSpace(SMALL, 4)
    for seed in range(3):
        likely = random_evaluator(space, seed, 3).distributions().most_likely()
        assert (likely[..., 2:] < np.arange(2, 6)[:, None]).all()
        space.genotype(likely)  # which checks it


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1, 2.0, 10])
def test_tempered_distributions_are_normalised_powers(temperature):
    distributions = random_evaluator(SearchSpace(SMALL, 3)).double().distributions()
    tempered = distributions.tempered(temperature)
    for name in "fgh":
        before, after = getattr(distributions, name), getattr(tempered, name)
        powers = before ** (1 / temperature)
        np.testing.assert_allclose(after, powers / powers.sum(-1, keepdims=True), rtol=1e-10)
        np.testing.assert_array_equal(after == 0, before == 0)
        assert temperature != 1 or np.allclose(after, before, rtol=1e-14, atol=0)
    order = np.sign(tempered.entropy() - distributions.entropy())
    assert temperature == 1 or order == np.sign(temperature - 1)
    np.testing.assert_array_equal(tempered.argmax(), distributions.argmax())


def test_temperatures_at_the_ends():
    distributions = random_evaluator(SearchSpace(SMALL, 3), scale=20).double().distributions()
    cold, hot = distributions.tempered(1e-9), distributions.tempered(1e12)
    for name in "fgh":
        before = getattr(distributions, name)
        one_hot = np.eye(before.shape[-1])[before.argmax(-1)]
        np.testing.assert_array_equal(getattr(cold, name), one_hot)
        possible = before > 0
        np.testing.assert_allclose(getattr(hot, name), possible / possible.sum(-1, keepdims=True), atol=1e-8)


@pytest.mark.parametrize("temperature", [0, -1, math.inf, math.nan, -0.0])
def test_a_temperature_that_is_none_is_refused(temperature):
    distributions = Evaluator(SearchSpace(SMALL, 1)).distributions()
    with pytest.raises(ValueError, match=r"temperature: .* given; a finite number above 0 is allowed"):
        distributions.tempered(temperature)


def test_stacked_distributions_give_the_weights_and_entropies_of_each():
    space = SearchSpace(SMALL, 3)
    each = [random_evaluator(space, seed).distributions() for seed in range(4)]
    stacked = Distributions(space, *(np.stack([getattr(one, name) for one in each]) for name in "fgh"))
    np.testing.assert_allclose(stacked.mixing_weights(), [one.mixing_weights() for one in each], rtol=1e-12)
    for name, values in stacked.entropies().items():
        np.testing.assert_allclose(values, [one.entropies()[name] for one in each], rtol=1e-12)
    assert stacked.mixing_weights().shape == (4, 2, 9, 6)
