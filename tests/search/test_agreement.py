import numpy as np
import pytest
from references import random_evaluator

from setn_lab.compute.streams import generator
from setn_lab.evaluator.setn import Evaluator
from setn_lab.search.agreement import agreement
from setn_lab.space.setn import SearchSpace

SPACE = SearchSpace(("skip_connect", "sep_conv_3x3", "max_pool_3x3"), nodes=2)


def test_losses_that_follow_the_log_probability_are_ranked_perfectly():
    evaluator = random_evaluator(SPACE).distributions()
    quadruples = SPACE.sample(generator(1, "test"), 200, 2)
    log_probability = evaluator.log_probability(quadruples)
    assert agreement(evaluator, quadruples, -log_probability).overall == pytest.approx(-1)
    assert agreement(evaluator, quadruples, np.exp(log_probability)).overall == pytest.approx(1)


def test_the_node_that_decides_the_loss_is_found():
    evaluator = random_evaluator(SPACE).distributions()
    quadruples = SPACE.sample(generator(2, "test"), 2000, 2)
    losses = -evaluator.node_log_probability(quadruples)[:, 1, 0]
    nodes = agreement(evaluator, quadruples, losses).nodes
    assert nodes[1, 0] == pytest.approx(-1)
    assert np.abs(np.delete(nodes.ravel(), 2)).max() < 0.1  # the others were drawn independently of it


def test_uses_and_shares():
    evaluator = Evaluator(SPACE).distributions()
    quadruples = SPACE.sample(generator(3, "test"), 1000, 2)
    count = np.array([[(cell[:, :2] == 1).sum() for cell in architecture] for architecture in quadruples])
    found = agreement(evaluator, quadruples, count[:, 0].astype(float))
    assert found.uses[0, 1] == pytest.approx(1)
    assert np.abs(found.uses[1]).max() < 0.15
    np.testing.assert_allclose(found.shares, 1)  # a uniform evaluator
    assert agreement(evaluator, quadruples, np.ones(1000)).overall == 0  # equal losses rank nothing


def test_too_few_architectures():
    with pytest.raises(ValueError, match="at least 3"):
        agreement(random_evaluator(SPACE).distributions(), SPACE.sample(generator(4, "test"), 2, 2), np.zeros(2))
