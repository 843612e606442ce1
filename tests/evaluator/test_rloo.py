"""The update by drawn architectures' losses against the exact gradient, summed over all architectures of a small space.

The small space has two operations and one node: 144 encodings of a normal and a reduction cell.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import TINY, StopError, random_evaluator, randomized, run_search

from setn_lab.config import ConfigError, digest
from setn_lab.evaluator import rloo
from setn_lab.evaluator.nasbench201 import NASBench201Evaluator
from setn_lab.evaluator.rloo import RLOO
from setn_lab.kits import KITS
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search.candidates import search_candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.steps import Trainer
from setn_lab.search.training import train
from setn_lab.space.nasbench201 import NASBench201Space
from setn_lab.space.setn import SMALL, SearchSpace

MINE = "skip_connect", "sep_conv_3x3"


def space_of(nodes):
    return SearchSpace(MINE, nodes)


@pytest.fixture
def search(monkeypatch):
    """search(**parameters): of the small space, in float64, its evaluator far from uniform."""
    monkeypatch.setitem(KITS, "mine", replace(KITS["small"], space=space_of))

    def make(**parameters):
        values = {**TINY, "space": "mine", "nodes": 1, "evaluator_gradient": "rloo", **parameters}
        found = prepare_search(SearchConfig(**values))
        found.template.double()
        randomized(found.evaluator.double(), seed=3, scale=0.5)
        return found

    return make


def batch(search):
    images, labels = Trainer(search).batch(search.valid, "valid", 0)
    return images.double(), labels


def remember(search, monkeypatch):
    """Let the template compute each architecture's logits once: the tests read the same batch thousands of times."""
    known, real = {}, search.template.sampled

    def sampled(images, architecture, cache):
        key = architecture.tobytes()
        if key not in known:
            known[key] = real(images, architecture)
        return known[key]

    monkeypatch.setattr(search.template, "sampled", sampled)


def encodings():
    """All draws of one node in a normal and a reduction cell: (144, 2, 1, 4)."""
    node = [(r1, r2, t, u) for r1, r2 in ((0, 0), (1, 0), (1, 1)) for t in (0, 1) for u in (0, 1)]
    return np.array(list(itertools.product(node, node)))[:, :, None]


@torch.no_grad()
def all_losses(search, images, labels):
    """Of each of `encodings`, by the template's pass without a cache."""
    template = search.template
    logits = [template.sampled(images, template.per_cell(one), cache=None) for one in encodings()]
    return torch.stack([F.cross_entropy(one, labels) for one in logits])


def probabilities(evaluator):
    """Of each of `encodings` by Eq. 5-9, differentiable, factor by factor."""
    f, g, h = evaluator.probabilities()
    pairs = {(0, 0): 0, (1, 0): 1, (1, 1): 2}
    found = []
    for normal, reduction in encodings()[:, :, 0].tolist():
        p = 1.0
        for kind, (r1, r2, t, u) in enumerate((normal, reduction)):
            p = p * h[kind, 0, pairs[r1, r2]] * f[kind, 0, t] * g[kind, 0, u]
        found.append(p)
    return torch.stack(found)


def gradient(objective, search):
    return torch.cat([one.ravel() for one in torch.autograd.grad(objective, list(search.evaluator.parameters()))])


def unscaled(monkeypatch):
    monkeypatch.setattr(RLOO, "_deviation", lambda self, losses: torch.ones(()))


@pytest.mark.parametrize("samples", [2, 4])
def test_the_mean_of_many_is_the_gradient_of_the_expected_loss(search, samples, monkeypatch):
    found = search(evaluator_samples=samples)
    images, labels = batch(found)
    remember(found, monkeypatch)
    unscaled(monkeypatch)
    p, losses = probabilities(found.evaluator), all_losses(found, images, labels)
    assert p.sum().item() == pytest.approx(1)
    exact = gradient((p * losses).sum(), found)
    step = RLOO(found)
    drawn = torch.stack([gradient(step(images, labels, number)[0], found) for number in range(1000)])
    error = drawn.std(0) / len(drawn) ** 0.5
    assert (exact.abs() > 8 * error).sum() >= 4, "the gradient is not known well enough to compare"
    assert (((drawn.mean(0) - exact) / error).abs() < 4).all()


def test_a_step_is_its_formula(search, monkeypatch):
    found = search(evaluator_samples=3, cost_weight=2.0)
    images, labels = batch(found)
    step = RLOO(found)
    expected_variance = expected_weight = 0.0
    for number in range(3):
        drawn = []
        real = type(found.evaluator.distributions()).sample

        def sample(self, rng, count, drawn=drawn, real=real):
            drawn.append(real(self, rng, count))
            return drawn[-1]

        with monkeypatch.context() as patch:
            patch.setattr(type(found.evaluator.distributions()), "sample", sample)
            objective, outcome = step(images, labels, number)
        (architectures,) = drawn
        with torch.no_grad():
            logits = [found.template.sampled(images, found.template.per_cell(one)) for one in architectures]
        losses = [F.cross_entropy(one, labels).item() for one in logits]
        assert outcome[0].item() == pytest.approx(np.mean(losses), rel=1e-6)
        assert outcome[1].item() == pytest.approx(
            np.mean([(one.argmax(1) == labels).double().mean() for one in logits])
        )
        expected_variance = 0.99 * expected_variance + np.var(losses, ddof=1)
        expected_weight = 0.99 * expected_weight + 1
        by_encoding = {one.tobytes(): p for one, p in zip(encodings(), probabilities(found.evaluator), strict=True)}
        total = 2.0 * found.cost.expected(found.evaluator.mixing_weights())
        for place, architecture in enumerate(architectures):
            others = np.mean([loss for other, loss in enumerate(losses) if other != place])
            total = total + (losses[place] - others) * by_encoding[architecture.tobytes()].log() / 3
        scale = (expected_variance / expected_weight) ** 0.5
        # the losses of a step are float32
        torch.testing.assert_close(gradient(objective, found), gradient(total, found) / scale, rtol=1e-4, atol=1e-4)


def test_the_penalty_s_gradient_is_exact(search, monkeypatch):
    unscaled(monkeypatch)
    found = search(cost_weight=3.0)
    images, labels = batch(found)
    with_cost = gradient(RLOO(found)(images, labels, 5)[0], found)
    without = gradient(RLOO(replace(found, cost=None))(images, labels, 5)[0], found)
    penalty = gradient(3.0 * found.cost.expected(found.evaluator.mixing_weights()), found)
    assert penalty.norm() > 0
    torch.testing.assert_close(with_cost - without, penalty)


def test_draws_of_one_loss_give_no_gradient(search, monkeypatch):
    found = search()
    images, labels = batch(found)
    monkeypatch.setattr(RLOO, "_outcomes", lambda *of: torch.full((4, 2), 1.7))
    objective, outcome = RLOO(found)(images, labels, 0)
    assert torch.equal(gradient(objective, found), torch.zeros(14, dtype=torch.float64))
    assert outcome.tolist() == pytest.approx([1.7, 1.7])


def test_it_lowers_the_expected_loss(search, monkeypatch):
    found = search(evaluator_lr=0.05)
    images, labels = batch(found)
    remember(found, monkeypatch)
    losses = all_losses(found, images, labels)
    trainer = Trainer(found)
    monkeypatch.setattr(trainer, "batch", lambda *of: (images, labels))
    means = [(probabilities(found.evaluator) * losses).sum().item()]
    for step in range(200):
        trainer.evaluator_step(step)
    means.append((probabilities(found.evaluator) * losses).sum().item())
    assert means[1] - losses.min().item() < 0.3 * (means[0] - losses.min().item())


def test_a_step_leaves_the_template_as_it_is_and_no_gradient_on_it(search):
    found = search()
    trainer = Trainer(found)
    images, labels = batch(found)
    trainer.batch = lambda *of: (images, labels)
    before = {name: value.clone() for name, value in found.template.state_dict().items()}
    trainer.evaluator_step(0)
    assert all(torch.equal(value, before[name]) for name, value in found.template.state_dict().items())
    assert all(parameter.grad is None for parameter in found.template.parameters())
    assert all(bool((parameter.grad != 0).any()) for parameter in found.evaluator.parameters())


# The log-probability


@pytest.mark.parametrize(
    "evaluator",
    [random_evaluator(SearchSpace(SMALL, 3)).double(), randomized(NASBench201Evaluator(NASBench201Space()).double())],
    ids=["setn", "nasbench201"],
)
def test_log_probability_of_draws(evaluator):
    distributions = evaluator.distributions()
    drawn = distributions.sample(np.random.default_rng(0), 200)
    found = evaluator.draw_log_probability(drawn)
    if drawn.shape[-1] == 4:  # only what has one encoding: unlike operations, or one input
        single = ((drawn[..., 0] != drawn[..., 1]) | (drawn[..., 2] == drawn[..., 3])).all((1, 2))
        drawn, found = drawn[single], found[torch.from_numpy(single)]
        assert 20 < len(drawn) < 200
    np.testing.assert_allclose(found.detach().numpy(), distributions.log_probability(drawn), rtol=1e-12)

    parameters = list(evaluator.parameters())
    gradients = torch.autograd.grad(found[:5].sum(), parameters)
    rng = np.random.default_rng(1)
    for parameter, slope in zip(parameters, gradients, strict=True):
        assert bool(torch.isfinite(slope).all())
        direction = torch.from_numpy(rng.normal(size=tuple(parameter.shape)))
        values = []
        for step in (1e-6, -2e-6):
            with torch.no_grad():
                parameter += step * direction
                values.append(evaluator.draw_log_probability(drawn[:5]).sum().item())
        with torch.no_grad():
            parameter += 1e-6 * direction
        assert (values[0] - values[1]) / 2e-6 == pytest.approx((slope * direction).sum().item(), rel=1e-5)


def test_two_encodings_add_up_to_their_architecture():
    evaluator = random_evaluator(SearchSpace(SMALL, 1)).double()
    both = np.array([[[[2, 2, 0, 1]], [[3, 1, 0, 1]]], [[[2, 2, 1, 0]], [[3, 1, 0, 1]]]])
    total = evaluator.draw_log_probability(both).logsumexp(0).item()
    assert total == pytest.approx(evaluator.distributions().log_probability(both[0]))


# In a search


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": "setn"},
        {"strategy": "setn-lr", "space": "large"},
        {"strategy": "setn-non"},
        {"space": "nasbench201", "nodes": 4},
        {"precision": "bfloat16", "cost_weight": 0.5},
        {"evaluator_start": 1, "evaluator_samples": 2},
    ],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_the_search_takes_it(tmp_path, tiny_config, values):
    config = tiny_config(tmp_path, evaluator_gradient="rloo", evaluator_lr=0.1, epochs=2, **values)
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        uniform = search.evaluator.distributions().entropy()
        lines = train(search, run)
        search_candidates(search, run)
    assert lines[-1]["entropy"] < uniform
    assert (lines[0]["evaluator_loss"] is None) == (config.evaluator_start == 1)
    assert 1 < lines[1]["evaluator_loss"] < 5
    assert 0 <= lines[1]["evaluator_accuracy"] < 0.6


def test_interrupted_and_run_again_it_is_the_uninterrupted_run(tmp_path, tiny_config, outcome):
    whole, again = (
        tiny_config(tmp_path / name, evaluator_gradient="rloo", evaluator_lr=0.1) for name in ("whole", "again")
    )

    def stop(progress):
        if progress.done == 3:
            raise StopError

    run_search(whole)
    with pytest.raises(StopError):
        run_search(again, stop)
    assert len(read_journal(tmp_path / "again" / "metrics.jsonl")) == 1
    run_search(again)
    whole, again = outcome(tmp_path / "whole"), outcome(tmp_path / "again")
    assert whole == again
    assert "gradient" in whole


def test_the_deviation_is_resumed():
    config = SearchConfig(**TINY, evaluator_gradient="rloo")
    one, other = (Trainer(prepare_search(config)) for _ in range(2))
    one.evaluator_step(0)
    assert one.gradient.variance[1] == 1
    other.load_state(one.state())
    one.evaluator_step(1)
    other.evaluator_step(1)
    assert torch.equal(one.gradient.variance, other.gradient.variance)
    assert one.gradient.variance[1] == pytest.approx(1 + rloo.DECAY)


def test_the_draws_are_those_of_the_step():
    """They come from the step's number alone, and not those of the candidates."""
    search = prepare_search(SearchConfig(**TINY, evaluator_gradient="rloo"))
    images, labels = Trainer(search).batch(search.valid, "valid", 0)
    torch.manual_seed(0)
    first = RLOO(search)(images, labels, 7)[1]
    torch.rand(3)
    assert torch.equal(RLOO(search)(images, labels, 7)[1], first)
    assert not torch.equal(RLOO(search)(images, labels, 8)[1], first)


def test_one_sample_has_no_others():
    with pytest.raises(ConfigError, match=r"evaluator_samples: 1 .*at least 2"):
        SearchConfig(evaluator_gradient="rloo", evaluator_samples=1)


def test_the_number_of_samples_means_nothing_to_the_mixture():
    with pytest.raises(ConfigError, match=r"evaluator_samples: 8 given with evaluator_gradient 'mixture'.*'rloo'"):
        SearchConfig(evaluator_samples=8)
    assert SearchConfig(evaluator_samples=4) == SearchConfig()


def test_the_number_of_samples_is_part_of_what_a_run_is():
    digests = [digest(SearchConfig(evaluator_gradient="rloo", evaluator_samples=count)) for count in (2, 4, 8)]
    assert len(set(digests)) == 3
    assert digests[1] == digest(SearchConfig(evaluator_gradient="rloo"))
