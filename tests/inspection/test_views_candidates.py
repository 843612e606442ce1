"""The candidates' histograms: a click finds exactly the candidates of its bar, and the picked one is marked."""

import itertools

import numpy as np
import pandas as pd
import pytest

from setn_lab.inspection import pictures
from setn_lab.inspection.reading import Scored
from setn_lab.kits import KITS
from setn_lab.space.setn import SearchSpace


def scored_of(accuracies, losses, winner=0, chosen=True):
    return Scored(
        KITS["small"], SearchSpace(), [], pd.DataFrame({"accuracy [%]": accuracies, "loss": losses}), winner, chosen
    )


def random_scores(count=200):
    rng = np.random.default_rng(2)
    losses = rng.normal(2, 0.1, count)
    losses[[3, 50]] = np.nan, np.inf
    return scored_of(rng.integers(30, 61, count).astype(float), losses, 7)  # whole percents lie on bounds of bars


SCORED = {
    "random": random_scores(),
    "a thousand equal ones": scored_of([62.5] * 1000, [1.0] * 999 + [1.5]),
    "one": scored_of([50.0], [2.0]),
    "none finite": scored_of([40.0, 41.0], [np.nan, np.inf], None, False),
}


def fractions(picture, ax, value, height):
    """The place of a value on an axis, at a fraction of its height, as a browser says where it was clicked."""
    x = ax.transData.transform((value, 0))[0]
    y = ax.transAxes.transform((0, height))[1]
    width, whole = picture.figure.bbox.size
    return float(x / width), float(1 - y / whole)


@pytest.mark.parametrize("name", SCORED)
def test_a_click_finds_the_candidates_of_that_bar(name):
    scored = SCORED[name]
    picture = pictures.candidates_picture(scored)
    picture.png()  # lays the axes out
    for ax, column in zip(picture.figure.axes, ("accuracy [%]", "loss"), strict=True):
        values = scored.table[column].tolist()
        finite = [value for value in values if np.isfinite(value)]
        if not finite:
            assert pictures.bar_at(picture, scored, *fractions(picture, ax, 0.5, 0.5)) is None
            continue
        low, high = min(finite), max(finite)
        bounds = np.linspace(*((low, high) if low < high else (low - 0.5, high + 0.5)), 31)
        found = []
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            inside = [
                place
                for place, value in enumerate(values)
                if start <= value and (value < end or (number == 29 and value == end))
            ]
            for along in (0.05, 0.5, 0.95):
                click = fractions(picture, ax, start + along * (end - start), along)
                answer = pictures.bar_at(picture, scored, *click)
                assert (answer and answer[:4]) == ((column, start, end, inside) if inside else None)
            found += inside
        heights, _ = np.histogram(finite, bounds)
        outline = ax.patches[0].get_xy()
        assert outline[: len(outline) // 2][1::2, 1].tolist() == heights.tolist()  # the bars that are seen
        assert sorted(found) == [place for place, value in enumerate(values) if np.isfinite(value)]
        for beyond in (bounds[0] - 0.01 * (high - low + 0.1), bounds[-1] + 0.01 * (high - low + 0.1)):
            assert pictures.bar_at(picture, scored, *fractions(picture, ax, beyond, 0.5)) is None
        for height in (-0.05, 1.05):
            assert pictures.bar_at(picture, scored, *fractions(picture, ax, (low + high) / 2, height)) is None
    for nowhere in ((0, 0), (1, 1), (0.001, 0.5), (0.5, 0.999), (-1, 0.5), (0.5, 7)):
        assert pictures.bar_at(picture, scored, *nowhere) is None


def test_the_bars_are_all_that_hold_candidates_and_their_points_lie_in_them():
    scored = random_scores()
    picture = pictures.candidates_picture(scored)
    found = pictures.bars(picture, scored)
    picture.png()
    assert pictures.bars(picture, scored) == found  # they lie where they are drawn, also before they are
    for column in pictures.CANDIDATE_AXES:
        own = [bar for bar in found if bar.column == column]
        assert (
            sorted(place for bar in own for place in bar.places)
            == np.flatnonzero(np.isfinite(scored.table[column])).tolist()
        )
        assert [bar.point[0] for bar in own] == sorted(bar.point[0] for bar in own)
    for bar in found:
        assert pictures.bar_at(picture, scored, *bar.point) == bar


def test_the_winner_and_the_picked_one_are_marked():
    scored = random_scores()
    picture = pictures.candidates_picture(scored)
    empty = picture.png()
    for place in (11, None):
        picture.show(place)
        for ax, column in zip(picture.figure.axes, ("accuracy [%]", "loss"), strict=True):
            at = {line.get_label(): float(line.get_xdata()[0]) for line in ax.lines}
            assert at["winner"] == scored.table[column][7]
            np.testing.assert_equal(at["picked"], np.nan if place is None else scored.table[column][place])
        assert (picture.png() == empty) == (place is None)
    best = pictures.candidates_picture(scored_of([1.0, 2.0], [2.0, 1.0], 1, chosen=False))
    assert "best so far" in [line.get_label() for line in best.figure.axes[0].lines]
