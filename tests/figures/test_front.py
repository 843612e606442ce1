"""The Pareto front, against a brute force over all pairs."""

import numpy as np
import pytest

from setn_lab.figures.front import non_dominated, plot_front


def dominated(one, others):
    """Whether another point is nowhere more and somewhere less, read literally."""
    for other in others:
        nowhere_more = all(a <= b for a, b in zip(other, one, strict=True))  # false for nan
        if nowhere_more and np.isfinite(other).all() and list(other) != list(one):
            return True
    return False


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_what_no_other_point_dominates(seed, width):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, size=(60, width)).astype(float)  # many are equal, in one value or in all
    values[rng.random(60) < 0.1, 0] = rng.choice([np.nan, np.inf])
    expected = [bool(np.isfinite(one).all()) and not dominated(one, values) for one in values]
    assert non_dominated(values).tolist() == expected
    assert 0 < sum(expected) < 60


def test_nothing_has_no_front():
    assert non_dominated(np.empty((0, 2))).tolist() == []
    assert "no candidates" in plot_front(np.empty(0), np.empty(0), {}, "cost").texts[0].get_text()


def test_the_figure_shows_every_point_the_front_and_the_cap():
    costs, loss = np.array([1.0, 2.0, 2.0, 3.0, 0.5]), np.array([4.0, 2.0, 3.0, 2.5, np.nan])
    ours = np.array([True, True, False, False, True])
    ax = plot_front(costs, loss, {"ours": ours, "theirs": ~ours}, "cost", 2.5)
    points, others, front, cap = ax.get_lines()
    assert points.get_xydata()[:2].tolist() == [[1.0, 4.0], [2.0, 2.0]]
    assert others.get_xydata().tolist() == [[2.0, 3.0], [3.0, 2.5]]
    assert front.get_xydata().tolist() == [[1.0, 4.0], [2.0, 2.0]]
    assert set(cap.get_xdata()) == {2.5}
    assert ax.get_xlabel() == "cost"
