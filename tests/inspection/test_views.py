"""The inspectors' pictures by their artists and pixels: what they show, and that drawing a part leaves no trace."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from references import read_png
from written_run import distributions

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from setn_lab.evaluator.setn import Distributions
from setn_lab.inspection import comparison, pictures
from setn_lab.inspection.reading import History
from setn_lab.kits import KITS
from setn_lab.space.setn import LARGE, SMALL, SearchSpace, pair_index

EPOCHS = 5


def history_of(space, epochs=EPOCHS):
    rng = np.random.default_rng(1)
    every = [distributions(space, rng, 1 + epoch / 2) for epoch in range(epochs)]
    stacked = Distributions(space, *(np.array([getattr(one, name) for one in every]) for name in "fgh"))
    return History(KITS["small"], space, np.arange(1, epochs + 1), stacked)


def cut(history, count):
    stacked = Distributions(history.space, *(getattr(history.everything, name)[:count] for name in "fgh"))
    return History(history.kit, history.space, history.epochs[:count], stacked)


@pytest.fixture(scope="module")
def history():
    return history_of(SearchSpace(SMALL, 3))


@pytest.fixture(scope="module")
def drawn(history):
    """One picture of each cell, drawn already; tests leave them at any epoch."""
    made = [pictures.evaluator_picture(history, kind) for kind in range(2)]
    for picture in made:
        picture.png()
    return made


@pytest.fixture(autouse=True)
def nothing_is_given_to_pyplot():
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


def titled(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def shades(picture):
    """{title: values} of the heat maps, NaN where they are blank."""
    return {
        title: np.ma.filled(np.ma.asarray(ax.images[0].get_array(), dtype=float), np.nan)
        for title, ax in titled(picture.figure).items()
        if ax.images
    }


def slow_shades(history, index, kind):
    """What the heat maps show of one record, in their order, by loops over Eq. 8 and Eq. 10."""
    space, size = history.space, len(history.space.operations)
    f, g, h = (getattr(history.everything, name)[index][kind] for name in "fgh")
    inputs_1, inputs_2 = (np.full(f.shape, np.nan) for _ in range(2))
    mixing, triangles = np.zeros((len(space.edges), size)), np.full((space.nodes, size, size), np.nan)
    for edge, (node, state) in enumerate(space.edges):
        inputs_1[node, state], inputs_2[node, state] = 100 * f[node, state], 100 * g[node, state]
        for r1 in range(size):
            for r2 in range(r1 + 1):
                p = h[node, int(pair_index(r1, r2))]
                mixing[edge, r1] += f[node, state] * p
                mixing[edge, r2] += g[node, state] * p
                triangles[node, r1, r2] = 100 * p
    return [inputs_1, inputs_2, mixing, *triangles]


def over_uniform(space, expected):
    """The logarithms of what `slow_shades` returns over the same of uniform distributions."""
    flat = history_of(space, 1)
    for name in "fgh":
        values = getattr(flat.everything, name)
        values[...] = (values > 0) / (values > 0).sum(-1, keepdims=True)
    pairs = zip(expected, slow_shades(flat, 0, 0), strict=True)
    return [np.maximum(np.log2(own / uniform), -20) for own, uniform in pairs]  # below that all are as one


def check_shades(picture, expected):
    found = shades(picture)
    words = ["$f$", "$g$", "mixing", *(f"$h$ of node {node}" for node in range(len(expected) - 3))]
    for word, (title, values), wanted in zip(words, found.items(), expected, strict=True):
        assert title.startswith(word)
        np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-12, equal_nan=True)


# The evaluator


@pytest.mark.parametrize("kind", [0, 1])
def test_every_epoch_is_that_of_the_journal_on_shades_of_the_whole_history(history, drawn, kind):
    expected = [over_uniform(history.space, slow_shades(history, index, kind)) for index in range(EPOCHS)]
    tops = [max(np.nanmax(np.abs(one[place])) for one in expected) for place in range(len(expected[0]))]
    tops[3:] = [max(tops[3:])] * len(tops[3:])  # the triangles have one scale
    picture = drawn[kind]
    for index in (3, 0, EPOCHS - 1, 1):
        picture.show(index)
        check_shades(picture, expected[index])
        axes = [ax for ax in titled(picture.figure).values() if ax.images]
        for ax, top in zip(axes, tops, strict=True):
            np.testing.assert_allclose(ax.images[0].get_clim(), (-top, top))
        marks = [ax.lines[-1] for title, ax in titled(picture.figure).items() if title.startswith("entropy")]
        assert [list(mark.get_xdata()) for mark in marks] == [[history.epochs[index]] * 2] * 3


def test_an_evaluator_that_has_learned_nothing_is_white():
    flat = history_of(SearchSpace(SMALL, 2), 2)
    for name in "fgh":
        values = getattr(flat.everything, name)
        values[...] = (values > 0) / (values > 0).sum(-1, keepdims=True)
    for panel in (panel for row in pictures.relative_panels(flat, 0) for panel in row):
        np.testing.assert_allclose(panel.values[np.isfinite(panel.values)], 0, atol=1e-12)
    picture = pictures.evaluator_picture(flat, 0)
    assert min(ax.images[0].get_clim()[1] for ax in titled(picture.figure).values() if ax.images) > 0.1


def test_an_epoch_is_what_a_picture_of_the_history_until_then_ends_with(history, drawn):
    for index in (0, 2):
        drawn[1].show(index)
        whole, until = shades(drawn[1]), shades(pictures.evaluator_picture(cut(history, index + 1), 1))
        for title, values in until.items():
            np.testing.assert_array_equal(values, whole[title])


def test_entropies_of_every_node_by_epoch(history, drawn):
    for kind, picture in enumerate(drawn):
        for name in "fgh":
            ax = titled(picture.figure)[f"entropy of ${name}$"]
            lines = ax.lines[:-1]
            assert len(lines) == history.space.nodes
            for node, line in enumerate(lines):
                rows = getattr(history.everything, name)[:, kind, node].tolist()
                expected = [-sum(p * np.log(p) for p in row if p > 0) for row in rows]
                assert line.get_label() == f"node {node}"
                np.testing.assert_array_equal(line.get_xdata(), history.epochs)
                np.testing.assert_allclose(line.get_ydata(), expected)


def test_drawing_a_part_leaves_no_trace(history, drawn):
    fresh = {}
    for index in (1, EPOCHS - 1):
        picture = pictures.evaluator_picture(history, 0)
        picture.show(index)
        fresh[index] = picture.png(fast=True)
    assert fresh[1] != fresh[EPOCHS - 1]
    for index in (0, 1, 3, EPOCHS - 1, 2, 1, 1, EPOCHS - 1):
        drawn[0].show(index)
        shown = drawn[0].png(fast=True)
        assert shown == fresh.get(index, shown)
    small = drawn[0].png()
    assert len(small) < len(shown) / 2
    difference = np.abs(read_png(small).astype(int) - read_png(shown))
    assert difference.mean() < 1  # of 256 shades: it has fewer colours


def test_what_an_epoch_changes_lies_within_the_axes_and_in_each_of_them(drawn):
    picture = drawn[0]
    drawn = []
    for index in (0, 4):
        picture.show(index)
        drawn.append(read_png(picture.png(fast=True)))
    changed = (drawn[0] != drawn[1]).any(-1)[::-1]  # rows from below, as matplotlib counts them
    for ax in titled(picture.figure).values():
        x0, y0, x1, y1 = ax.bbox.extents
        part = changed[int(y0) - 1 : int(y1) + 2, int(x0) - 1 : int(x1) + 2]
        assert part.any(), ax.get_title()
        part[:] = False
    assert not changed.any()


@pytest.mark.parametrize("nodes", [1, 4])
def test_one_epoch(nodes):
    space = SearchSpace(LARGE, nodes)
    history = history_of(space, 1)
    picture = pictures.evaluator_picture(history, 1)
    before = picture.png()
    picture.show(0)
    assert picture.png() == before
    check_shades(picture, over_uniform(space, slow_shades(history, 0, 1)))
    for title, ax in titled(picture.figure).items():
        if title.startswith("entropy"):
            assert [line.get_marker() for line in ax.lines[:-1]] == ["o"] * nodes  # a line of no length is not seen


def test_fifty_epochs_shown_leave_as_many_artists(history, drawn):
    artists = len(drawn[0].figure.findobj())
    for step in range(50):
        drawn[0].show(step % EPOCHS)
        if step % 10 == 0:
            drawn[0].png()
    assert len(drawn[0].figure.findobj()) == artists


# Sampling


def sampling_picture(space):
    return pictures.sampling_picture(space, KITS["small"].uniform_weights(space))


@pytest.mark.parametrize("nodes", [1, 4])
def test_bars_count_the_drawn_slots(nodes):
    space = SearchSpace(SMALL, nodes)
    picture = sampling_picture(space)
    for seed, count in ((0, 300), (1, 1)):
        drawn = distributions(space, np.random.default_rng(seed), 2.0).sample(np.random.default_rng(seed), count)
        picture.show(drawn)
        for place, ax in enumerate(picture.figure.axes):
            kind, slots = place // 2, (slice(0, 2), slice(2, 4))[place % 2]
            counts = [0] * (nodes + 1 if place % 2 else len(SMALL))
            for value in drawn[:, kind, :, slots].ravel().tolist():
                counts[value] += 1
            heights = [bar.get_height() for bar in ax.patches]
            np.testing.assert_allclose(heights, [100 * one / (count * nodes * 2) for one in counts])
    used = picture.png()
    fresh = sampling_picture(space)
    fresh.show(drawn)
    assert fresh.png() == used


@pytest.mark.parametrize("nodes", [1, 4])
def test_marks_are_the_shares_of_uniform_sampling(nodes):
    space, count = SearchSpace(LARGE, nodes), 50_000
    drawn = space.sample(np.random.default_rng(5), count)
    for place, ax in enumerate(sampling_picture(space).figure.axes):
        slots = (slice(0, 2), slice(2, 4))[place % 2]
        shares = np.bincount(drawn[..., slots].ravel()) / (count * nodes * 2)
        marks = [segment[0, 1] / 100 for segment in ax.collections[0].get_segments()]
        np.testing.assert_allclose(sum(marks), 1)
        assert (np.abs(marks - shares) < 5 * np.sqrt(shares / (count * nodes))).all()


# Several runs


def test_lines_of_several_runs_and_a_run_without_candidates_keeps_its_colour():
    metrics = {
        name: [
            {"epoch": e, "weight_loss": 2 / e + shift, "evaluator_loss": None if e < 2 else 3 / e, "entropy": 40 - e}
            for e in range(1, epochs + 1)
        ]
        for shift, (name, epochs) in enumerate({"a": 4, "b": 1, "c": 3}.items())
    }
    scores = {
        "a": pd.DataFrame({"accuracy [%]": [50.0, 51.0], "loss": [2.0, 2.1]}),
        "c": pd.DataFrame({"accuracy [%]": [60.0, 61.0], "loss": [1.0, 1.1]}),
    }
    figure = comparison.comparison_figure(metrics, scores)
    loss, entropy, *histograms = figure.axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["a", "b", "c"]
    colours = {}
    for number, (name, records) in enumerate(metrics.items()):
        trained, checked = loss.lines[2 * number : 2 * number + 2]
        for line, key in ((trained, "weight_loss"), (checked, "evaluator_loss"), (entropy.lines[number], "entropy")):
            np.testing.assert_array_equal(line.get_xdata(), [one["epoch"] for one in records])
            np.testing.assert_array_equal(line.get_ydata(), np.array([one[key] for one in records], dtype=float))
            assert (line.get_marker() == "o") == (len(records) == 1)
            assert colours.setdefault(name, line.get_color()) == line.get_color()
        assert trained.get_linestyle() != checked.get_linestyle()
    assert len(set(colours.values())) == 3
    for ax in histograms:
        drawn = {patch.get_label()[0]: matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in ax.patches}
        assert drawn == {name: colours[name].lower() for name in ("a", "c")}
    assert read_png(pictures.png(figure)).std() > 0


def test_no_runs_leave_sentences():
    figure = comparison.comparison_figure({}, {})
    assert all(len(ax.texts) == 1 and not ax.lines for ax in figure.axes)
    pictures.png(figure)
