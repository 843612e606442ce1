"""The estimators that the benchmark compares: drawn by the right law, with the gradients of their papers."""

import numpy as np
import pytest
import relaxations
import torch
import torch.nn.functional as F

from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).gumbel(size=shape))


@pytest.mark.parametrize("draw", [relaxations.gumbel, relaxations.reinmax])
def test_the_law_of_the_draws_is_the_softmax(draw):
    logits = torch.tensor([0.3, -1.0, 1.2, 0.0], dtype=torch.float64)
    drawn = draw(logits.expand(40_000, 4), noise(40_000, 4))
    torch.testing.assert_close(drawn, drawn.round(), atol=1e-12, rtol=0)
    torch.testing.assert_close(drawn.mean(0), logits.softmax(-1), atol=0.01, rtol=0)


def test_the_gradient_of_gumbel_is_torch_s():
    logits, of_gumbel = torch.randn(5, 7, dtype=torch.float64, requires_grad=True), noise(5, 7)
    weights = torch.randn(5, 7, dtype=torch.float64)
    (ours,) = torch.autograd.grad((relaxations.gumbel(logits, of_gumbel) * weights).sum(), logits)
    (theirs,) = torch.autograd.grad((F.softmax(logits + of_gumbel, -1) * weights).sum(), logits)
    torch.testing.assert_close(ours, theirs)


def test_the_mean_gradient_of_reinmax_is_exact_for_quadratic_losses():
    logits = torch.tensor([0.3, -1.0, 1.2, 0.0], dtype=torch.float64, requires_grad=True)
    square, line = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def loss(one_hot):
        return one_hot @ square @ one_hot + one_hot @ line

    mean, probabilities = torch.zeros(4, dtype=torch.float64), logits.softmax(-1)
    for drawn in range(4):  # a noise that makes this the draw
        relaxed = relaxations.reinmax(logits, 100 * F.one_hot(torch.tensor(drawn), 4).double())
        mean += probabilities[drawn].detach() * torch.autograd.grad(loss(relaxed), logits, retain_graph=True)[0]
    expected = sum(probabilities[drawn] * loss(torch.eye(4, dtype=torch.float64)[drawn]) for drawn in range(4))
    torch.testing.assert_close(mean, torch.autograd.grad(expected, logits)[0])


@pytest.mark.parametrize("draw", [relaxations.gumbel, relaxations.reinmax])
def test_the_loss_is_that_of_a_drawn_architecture(tiny, draw):
    search = prepare_search(SearchConfig(**tiny))
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    mixed, update = search.scored_template.mixed, relaxations.Relaxed(search, draw)
    weights = []
    search.scored_template.mixed = lambda images, given: mixed(images, weights.append(given) or given)
    objective, _ = update(images, labels, 3)
    objective.backward()
    (given,) = weights
    torch.testing.assert_close(given, given.round())
    edges = np.array(search.space.edges)
    for node in range(search.space.nodes):  # two operations a node, on states that it reads
        assert (given[:, edges[:, 0] == node].sum((1, 2)) == 2).all()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in search.evaluator.parameters())
