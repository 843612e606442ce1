"""Figures, by their artists: what is drawn is what was given, and where."""

import math
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from written_run import distributions

from setn_lab.space.names import label
from setn_lab.space.setn import LARGE, SMALL, SearchSpace, pair_index

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from setn_lab.figures import plots
from setn_lab.figures.panels import Panel, mixing_panel

TRAINED = {"weight_loss": 2.0, "evaluator_loss": 1.5, "weight_accuracy": 0.25, "evaluator_accuracy": 0.5}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def metrics(epochs):
    return [
        {
            "epoch": epoch,
            "weight_loss": 3.0 / epoch,
            "evaluator_loss": 4.0 / epoch,
            "weight_accuracy": 0.5 - 0.25 / epoch,
            "evaluator_accuracy": 0.75 - 0.5 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def lines(ax):
    """{label: (x, y)} of the lines that the legend names."""
    return {
        line.get_label(): tuple(np.array(line.get_data(), dtype=float))
        for line in ax.lines
        if not line.get_label().startswith("_")
    }


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def message(ax):
    """The sentence of an axis that has nothing to show."""
    assert not ax.lines
    assert not ax.patches
    assert not ax.images
    assert ax.get_legend() is None
    (text,) = ax.texts
    return text.get_text()


def written(ax):
    """{(row, column): text} of the values in a heat map."""
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in ax.texts}


def shown(ax):
    """The values of a heat map, NaN where it is blank."""
    (image,) = ax.images
    return np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)


def names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def panels(nodes=4, operations=SMALL, cell_type=0):
    """Distributions drawn at random, and (inputs of r1, inputs of r2, mixing weights), triangles of one cell type."""
    drawn = distributions(SearchSpace(operations, nodes), np.random.default_rng(nodes), 1.0)
    return drawn, *drawn.panels(cell_type)


@pytest.mark.parametrize(
    ("plot", "quantity", "scale", "unit"),
    [(plots.plot_loss, "loss", 1, "[nats]"), (plots.plot_accuracy, "accuracy", 100, "[%]")],
    ids=["loss", "accuracy"],
)
def test_training_curves(plot, quantity, scale, unit):
    records = metrics(7)
    ax = plot(records)
    drawn = lines(ax)
    assert list(drawn) == legend(ax) == ["weights, training images", "evaluator, validation images"]
    for (x, y), key in zip(drawn.values(), ("weight", "evaluator"), strict=True):
        np.testing.assert_array_equal(x, range(1, 8))
        np.testing.assert_allclose(y, [scale * record[f"{key}_{quantity}"] for record in records])
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel().endswith(unit)
    assert quantity == "loss" or "accuracy" in ax.get_ylabel()
    ticks = plot(metrics(3)).xaxis.get_major_locator()()
    np.testing.assert_array_equal(ticks, np.round(ticks))  # there is no epoch 1.25
    first, second = (line.get_color() for line in ax.lines)
    assert first != second


def test_epochs_without_a_value_leave_gaps_and_lone_values_are_dots():
    records = metrics(6)
    records[0]["evaluator_loss"] = None
    del records[2]["evaluator_loss"]
    ax = plots.plot_loss(records)
    x, y = lines(ax)["evaluator, validation images"]
    np.testing.assert_array_equal(x, range(1, 7))
    np.testing.assert_array_equal(np.isnan(y), [True, False, True, False, False, False])
    (dots,) = (line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(np.array(dots.get_data(), dtype=float), [[2], [4 / 2]])
    assert len(legend(ax)) == 2


def test_one_epoch_is_visible():
    ax = plots.plot_accuracy([{"epoch": 1, **TRAINED}])
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert sorted(float(y) for line in dots for y in line.get_ydata()) == [25.0, 50.0]


def test_an_evaluator_that_was_never_trained_has_no_line():
    records = [{**record, "evaluator_loss": None, "evaluator_accuracy": None} for record in metrics(3)]
    for plot in (plots.plot_loss, plots.plot_accuracy):
        assert legend(plot(records)) == ["weights, training images"]


def test_entropies_are_drawn_as_given_with_gaps():
    shares = {"f": np.array([1, 0.5, np.nan, 0.25]), "h": np.full(4, np.nan), "alpha": np.array([1, 0.9, 0.8, 0])}
    ax = plots.plot_entropy([1, 2, 3, 5], shares)
    drawn = lines(ax)
    assert ["$f$" in name for name in drawn] == [True, False]  # without a value there is no line
    for (x, y), key in zip(drawn.values(), ("f", "alpha"), strict=True):
        np.testing.assert_array_equal(x, [1, 2, 3, 5])
        np.testing.assert_array_equal(y, shares[key])
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 1


@pytest.mark.parametrize("cell_type", [0, 1])
@pytest.mark.parametrize(("place", "name", "slot"), [(0, "f", 1), (1, "g", 2)])
def test_inputs_are_in_percent_and_those_that_a_node_lacks_are_blank(place, name, slot, cell_type):
    drawn, inputs, _ = panels(cell_type=cell_type)
    ax = plots.plot_panel(inputs[place])
    exists = np.arange(5) < np.arange(4)[:, None] + 2
    values = 100 * getattr(drawn, name)[cell_type]
    np.testing.assert_allclose(shown(ax), np.where(exists, values, np.nan))
    assert written(ax) == {(row, column): f"{values[row, column]:.0f}%" for row, column in np.argwhere(exists)}
    assert names(ax.xaxis) == ["$c_{k-2}$", "$c_{k-1}$", "node 0", "node 1", "node 2"]
    assert names(ax.yaxis) == ["node 0", "node 1", "node 2", "node 3"]
    assert f"${name}$" in ax.get_title()
    assert f"$r_{slot}$" in ax.get_title()


@pytest.mark.parametrize("operations", [SMALL, LARGE], ids=["small", "large"])
def test_mixing_weights_are_written_in_their_cells(operations):
    space = SearchSpace(operations)
    weights = np.random.default_rng(3).dirichlet(np.ones(len(operations)), len(space.edges))
    ax = plots.plot_panel(mixing_panel(space, weights, "normal cell"))
    np.testing.assert_allclose(shown(ax), weights)
    assert written(ax) == {(row, column): f"{value:.2f}" for (row, column), value in np.ndenumerate(weights)}
    states = ["$c_{k-2}$", "$c_{k-1}$", "node 0", "node 1", "node 2"]
    assert names(ax.yaxis) == [f"{states[state]} → node {node}" for node in range(4) for state in range(node + 2)]
    assert names(ax.xaxis)[:6] == [
        "max pool 3x3",
        "avg pool 3x3",
        "skip",
        "sep conv 3x3",
        "sep conv 5x5",
        "1x3 & 3x1 conv",
    ]
    assert ax.images[0].get_clim() == (0, weights.max())
    assert ax.get_title() == "normal cell"


def test_ratios_are_shaded_around_none():
    _, inputs, triangles = panels()
    for panel in (*inputs, *triangles):
        logarithms = panel._replace(values=np.log2(panel.values / 20))
        ax = plots.plot_ratios(logarithms, 3.0)
        np.testing.assert_array_equal(shown(ax), logarithms.values)
        assert ax.images[0].get_clim() == (-3, 3)
        assert min(ax.images[0].cmap(0.5)[:3]) > 0.95  # uniform is white
        assert not ax.texts


def luminance(colour):
    """Relative luminance of an RGB colour, as WCAG 2 defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_values_can_be_read_on_every_shade():
    numbers = [str(i) for i in range(8)]
    ax = plots.plot_panel(Panel("", numbers, numbers, np.linspace(0, 1, 64).reshape(8, 8), "{:.2f}"))
    assert len(ax.texts) == 64
    for text in ax.texts:
        column, row = text.get_position()
        shade = luminance(ax.images[0].to_rgba(shown(ax))[row, column])
        ink = luminance(matplotlib.colors.to_rgb(text.get_color()))
        assert (max(shade, ink) + 0.05) / (min(shade, ink) + 0.05) >= 4.5  # WCAG's minimum for text


@pytest.mark.parametrize(("node", "cell_type"), [(0, 0), (2, 1)])
def test_the_triangle_is_equation_8(node, cell_type):
    size = len(SMALL)
    drawn, _, triangles = panels(cell_type=cell_type)
    assert len(triangles) == 4
    h = drawn.h[cell_type, node]
    ax = plots.plot_panel(triangles[node])
    grid = shown(ax)
    for r1 in range(size):
        for r2 in range(size):
            if r2 <= r1:
                value = 100 * h[int(pair_index(r1, r2))]
                assert grid[r1, r2] == pytest.approx(value)
                assert written(ax)[r1, r2] == f"{value:.1f}%"
            else:
                assert np.isnan(grid[r1, r2])
                assert (r1, r2) not in written(ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$r_2$", "$r_1$")
    assert names(ax.xaxis) == names(ax.yaxis) == [label(name) for name in SMALL]
    assert f"node {node}" in ax.get_title()


@pytest.mark.parametrize("shape", [(3, 4), (5,), (4, 3), (1, 3, 5), (2, 5)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"panel: .* \(\d.*\) given; .* \(3, 5\)"):
        plots.plot_panel(Panel("", ["row"] * 3, ["column"] * 5, np.ones(shape), "{:.2f}"))
    assert not plt.get_fignums()  # refused before a figure is made


def outlines(ax):
    """{legend's text: (heights, edges)} of the histograms, from the vertices of their outlines."""
    found = {}
    for patch in ax.patches:
        xy = patch.get_xy()
        half = xy[: len(xy) // 2]
        found[patch.get_label()] = (half[1::2, 1], np.unique(xy[:, 0]))
    return found


def test_histograms_share_their_bins_and_tell_n_mean_and_deviation():
    rng = np.random.default_rng(5)
    values = {"evaluator": rng.normal(60, 3, 400), "uniform": rng.normal(45, 6, 250).tolist()}
    ax = plots.plot_candidates(values, bins=20)
    edges = np.linspace(min(map(min, values.values())), max(map(max, values.values())), 21)
    drawn = outlines(ax)
    assert list(drawn) == legend(ax)
    for (text, (heights, its_edges)), (source, scores) in zip(drawn.items(), values.items(), strict=True):
        np.testing.assert_allclose(its_edges, edges)
        np.testing.assert_array_equal(heights[:20], np.histogram(scores, edges)[0])
        mean = sum(scores) / len(scores)
        deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
        assert text == f"{source}: n = {len(scores)}, {mean:.2f} ± {deviation:.2f}"
    means = [line.get_xdata()[0] for line in ax.lines]
    np.testing.assert_allclose(means, [np.mean(scores) for scores in values.values()])
    colours = [matplotlib.colors.to_rgb(patch.get_edgecolor()) for patch in ax.patches]
    assert colours == [matplotlib.colors.to_rgb(line.get_color()) for line in ax.lines]
    assert len(set(colours)) == 2
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("one-shot accuracy [%]", "candidates")


@pytest.mark.parametrize("values", [[62.5], [62.5] * 3, [10.0, np.nextafter(10.0, 11)], [0.0, 0.0]])
def test_one_candidate_and_equal_ones_are_drawn(values):
    ax = plots.plot_candidates({"argmax": values}, xlabel="one-shot loss [nats]")
    ((heights, edges),) = outlines(ax).values()
    assert heights.sum() == len(values)
    assert edges[0] < values[0] < edges[-1]
    deviation = "" if len(values) == 1 else " ± 0.00"
    assert legend(ax) == [f"argmax: n = {len(values)}, {values[0]:.2f}{deviation}"]
    assert ax.get_xlabel() == "one-shot loss [nats]"


def test_scores_that_are_not_finite_are_counted_not_drawn():
    ax = plots.plot_candidates({"broken": [math.nan, math.inf], "whole": [1.0, math.nan, 3.0], "none": []})
    assert legend(ax) == ["whole: n = 2, 2.00 ± 1.41 (1 not finite)"]


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda ax: plots.plot_loss([], ax), "no epochs"),
        (lambda ax: plots.plot_accuracy([], ax), "no epochs"),
        (lambda ax: plots.plot_entropy([], {}, ax), "no epochs"),
        (lambda ax: plots.plot_loss([{"epoch": 1, "weight_loss": None}], ax), "no epochs"),
        (lambda ax: plots.plot_candidates({}, ax), "no candidates"),
        (lambda ax: plots.plot_candidates({"uniform": []}, ax), "no candidates"),
        (lambda ax: plots.plot_candidates({"uniform": [math.nan]}, ax), "no candidates"),
        (lambda ax: plots.plot_entropy([1], {"f": np.full(1, np.nan)}, ax), "no epochs"),
        (lambda ax: plots.plot_panel(Panel("", [], ["a"], np.empty((0, 1)), ""), ax), "no probabilities"),
        (lambda ax: plots.plot_panel(Panel("", ["a"], ["b"], np.array([[np.nan]]), ""), ax), "no probabilities"),
    ],
)
def test_without_data_there_is_a_sentence(draw, sentence):
    given = plt.subplots()[1]
    assert draw(given) is given
    assert message(given).startswith(sentence)
    assert message(draw(None)).startswith(sentence)
    assert len(plt.get_fignums()) == 2


def everything(ax):
    rng = np.random.default_rng(6)
    _, inputs, triangles = panels()
    yield lambda: plots.plot_loss(metrics(5), ax)
    yield lambda: plots.plot_accuracy(metrics(5), ax)
    yield lambda: plots.plot_entropy([1, 2, 3], dict(zip("fgh", rng.random((3, 3)), strict=True)), ax)
    yield lambda: plots.plot_panel(inputs[0], ax)
    yield lambda: plots.plot_panel(inputs[2], ax)
    yield lambda: plots.plot_panel(triangles[3], ax)
    yield lambda: plots.plot_candidates({"uniform": rng.normal(50, 5, 50)}, ax)


@pytest.mark.parametrize("number", range(7))
def test_plots_draw_on_the_axis_given_and_make_one_only_without(number, capfd):
    given = plt.subplots(layout="constrained")[1]
    assert list(everything(given))[number]() is given
    assert len(plt.get_fignums()) == 1
    new = list(everything(None))[number]()
    assert new is not given
    assert len(plt.get_fignums()) == 2
    for ax in (given, new):
        ax.figure.canvas.draw()  # warnings are errors: nothing is clipped, collapsed or without a glyph
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("number", range(7))
def test_no_text_of_a_new_figure_is_clipped(number):
    ax = list(everything(None))[number]()
    ax.figure.canvas.draw()
    box = ax.get_tightbbox()
    assert box.x0 >= -1
    assert box.y0 >= -1
    assert box.x1 <= ax.figure.bbox.width + 1
    assert box.y1 <= ax.figure.bbox.height + 1


def test_importing_plots_does_not_load_torch():
    code = "import sys; import setn_lab.figures.plots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
