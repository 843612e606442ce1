"""Views that answer questions: effects against a brute force, choices against loops, figures by their artists."""

import math
import shutil

import numpy as np
import pytest
from journals import change
from references import read_png
from scipy.stats import spearmanr, t
from written_run import write_run

from setn_lab.inspection import pictures, questions, reading
from setn_lab.inspection.reading import InspectionError
from setn_lab.runs.journal import read_journal
from setn_lab.space.nasbench201 import NASBench201Space
from setn_lab.space.setn import LARGE, SMALL, SearchSpace


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 40 candidates, with as many uniform ones of other losses."""
    folder = write_run(tmp_path_factory.mktemp("questions") / "run", epochs=5, candidates=40, nodes=2)
    other = write_run(tmp_path_factory.mktemp("questions") / "other", epochs=5, candidates=40, nodes=2, seed=3)
    shutil.copy(other / "candidates.jsonl", folder / "baseline.jsonl")
    return folder


def brute_force(space, architectures, losses, cell_type, edge, operation):
    """(mean, low, high, count) of the difference, by Welch's formula."""
    node, state = edge
    with_it, without = [], []
    for architecture, loss in zip(architectures, losses, strict=True):
        text = space.genotype(architecture)
        if hasattr(text, "operations"):
            has = text.operations[space.edges.index(edge)] == operation
        else:
            has = (operation, state) in text.cells[cell_type][1][node]
        (with_it if has else without).append(loss)
    if not with_it or not without:
        return math.nan, math.nan, math.nan, len(with_it)
    mean = sum(with_it) / len(with_it) - sum(without) / len(without)
    if min(len(with_it), len(without)) < 2:
        return mean, math.nan, math.nan, len(with_it)
    variances = [
        sum((one - sum(side) / len(side)) ** 2 for one in side) / (len(side) - 1) / len(side)
        for side in (with_it, without)
    ]
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(side) - 1) for variance, side in zip(variances, (with_it, without), strict=True)
    )
    half = t.ppf(0.975, freedom) * math.sqrt(sum(variances))
    return mean, mean - half, mean + half, len(with_it)


@pytest.mark.parametrize("space", [SearchSpace(SMALL, 2), SearchSpace(LARGE, 3), NASBench201Space()], ids=str)
@pytest.mark.parametrize("count", [1, 12, 60])
def test_effects_against_a_brute_force(space, count):
    rng = np.random.default_rng(count)
    architectures = space.canonical(space.sample(rng, count, space.cell_types))
    losses = rng.normal(2, 0.3, count)
    found = questions.effects(space, architectures, losses)
    assert found.mean.shape == (space.cell_types, len(space.edges), len(space.operations))
    for (cell_type, edge, operation), mean in np.ndenumerate(found.mean):
        place = cell_type, edge, operation
        expected = brute_force(space, architectures, losses, cell_type, space.edges[edge], space.operations[operation])
        np.testing.assert_allclose((mean, found.low[place], found.high[place], found.count[place]), expected)


def test_an_effect_that_is_there_is_found():
    space, rng = SearchSpace(SMALL, 1), np.random.default_rng(0)
    architectures = space.sample(rng, 500, 2)
    has = questions.contained(space, architectures)
    losses = rng.normal(2, 0.1, 500) - 0.5 * has[:, 1, 0, 3]
    found = questions.effects(space, architectures, losses)
    assert found.low[1, 0, 3] < -0.5 < found.high[1, 0, 3] < -0.4
    assert np.nanargmin(found.mean) == np.ravel_multi_index((1, 0, 3), found.mean.shape)
    with pytest.raises(ValueError, match=r"losses: 499 given.*500"):
        questions.effects(space, architectures, losses[1:])


def test_uniform_candidates_are_a_second_colour_with_their_own_rho(run):
    (ax,) = questions.agreement_figure(run).axes
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(ax.collections) == 2
    colours = set()
    for points, journal, text in zip(ax.collections, ("candidates", "baseline"), legend, strict=True):
        records = read_journal(run / f"{journal}.jsonl")
        columns = [[record[key] for record in records] for key in ("log_probability", "loss")]
        np.testing.assert_allclose(points.get_offsets(), np.transpose(columns))
        assert f"n = {len(records)}, ρ = {spearmanr(*columns).statistic:+.2f}" in text
        colours.add(tuple(points.get_facecolor()[0]))
    assert len(colours) == 2


def test_effects_stand_beside_the_evaluators_weights(run):
    figure = questions.effects_figure(run)
    history = reading.read_history(run)
    space = history.space
    records = read_journal(run / "baseline.jsonl")
    architectures = [space.encode(space.read(record["genotype"])) for record in records]
    losses = [record["loss"] for record in records]
    weights = history.at(-1).mixing_weights() / history.kit.uniform_weights(space)
    shown = [ax for ax in figure.axes if ax.lines]
    assert len(shown) == 2 * len(SMALL)
    for place, ax in enumerate(shown):
        cell_type, operation = divmod(place, len(SMALL))
        dots = ax.lines[-1]
        expected = [
            brute_force(space, architectures, losses, cell_type, edge, SMALL[operation])[0] for edge in space.edges
        ]
        np.testing.assert_allclose(dots.get_xdata(), expected)
        np.testing.assert_array_equal(dots.get_ydata(), range(len(space.edges)))
        bars = next(other for other in figure.axes if other.patches and other.bbox.bounds == ax.bbox.bounds)
        widths = [bar.get_width() for bar in bars.patches]
        np.testing.assert_allclose(widths, -np.log2(weights[cell_type, :, operation]))


def test_choices_are_the_argmax_of_every_record(run):
    history = reading.read_history(run)
    found = questions.choices(history)
    assert len(found) == 2 * 2 * 2
    for choice in found:
        cells = [history.space.genotype(history.at(index).argmax()) for index in range(5)]
        nodes = [cell.cells[choice.cell_type][1][choice.node] for cell in cells]
        names = [history.space.operations[place] for place in choice.operations]
        for pair, name, state in zip(nodes, names, choice.states, strict=True):
            assert (name, state) in pair
        own = list(zip(choice.operations, choice.states, strict=True))
        assert choice.changed.tolist() == [False, *(one != other for one, other in zip(own[1:], own, strict=False))]


def test_a_strip_for_each_choice_and_bars_of_what_changed(run):
    history = reading.read_history(run)
    found = questions.choices(history)
    strips, below = [ax for ax in questions.strip_figure(run).axes if ax.patches]
    assert len(strips.patches) == sum(1 + choice.changed.sum() for choice in found)
    lengths = dict.fromkeys(range(len(found)), 0.0)
    for patch in strips.patches:
        lengths[round(patch.get_y() + patch.get_height() / 2)] += patch.get_width()
    assert set(lengths.values()) == {5.0}
    heights = [bar.get_height() for bar in below.patches]
    assert heights == np.sum([choice.changed for choice in found], axis=0).tolist()


@pytest.mark.usefixtures("coarse_pictures")
@pytest.mark.parametrize("question", questions.QUESTIONS)
def test_every_view_is_a_picture_and_says_what_is_missing(run, question, tmp_path):
    figure = questions.QUESTIONS[question]
    assert read_png(pictures.png(figure(run))).std() > 0
    with pytest.raises(InspectionError, match=r"yet|Fewer"):
        figure(write_run(tmp_path / "empty", epochs=0, candidates=0, nodes=1))
    damaged = shutil.copytree(run, tmp_path / "damaged")
    for name, key in (("candidates.jsonl", "loss"), ("baseline.jsonl", "loss"), ("evaluator.jsonl", "f")):
        change(damaged, name, key, "text")
    with pytest.raises(InspectionError, match="cannot be shown"):
        figure(damaged)
