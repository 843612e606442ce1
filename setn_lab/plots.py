"""Figures of a run, drawn from what lies in its folder: plot_x(data, ax=None) -> ax.

Every function draws on the axis given, or on a new one, and returns it; nothing is shown, saved or closed.
Data that do not exist yet leave a sentence on the axis. Colours are those of Okabe and Ito, which
colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from setn_lab.cells import label as operation_label
from setn_lab.genotype import INPUTS
from setn_lab.space import pair_operations

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
Records = Sequence[Mapping[str, Any]]


def plot_loss(metrics: Records, ax: Axes | None = None) -> Axes:
    """Cross-entropy in nats by epoch: the weights' on training images, the evaluator's on validation images.

    `metrics` are the lines of metrics.jsonl: `epoch` (drawn as recorded, from 1), `weight_loss`,
    `evaluator_loss`. A missing value or None leaves a gap.
    """
    ax = _by_epoch(
        metrics,
        {
            "weights, training images": _column(metrics, "weight_loss"),
            "evaluator, validation images": _column(metrics, "evaluator_loss"),
        },
        ax,
    )
    ax.set_ylabel("cross-entropy [nats]")
    return ax


def plot_accuracy(metrics: Records, ax: Axes | None = None) -> Axes:
    """Top-1 accuracy in percent by epoch, of the same two passes as `plot_loss`.

    `metrics` are the lines of metrics.jsonl: `epoch`; `weight_accuracy`, `evaluator_accuracy` as fractions.
    """
    ax = _by_epoch(
        metrics,
        {
            "weights, training images": 100 * _column(metrics, "weight_accuracy"),
            "evaluator, validation images": 100 * _column(metrics, "evaluator_accuracy"),
        },
        ax,
    )
    ax.set_ylabel("top-1 accuracy [%]")
    return ax


def plot_entropy(records: Records, ax: Axes | None = None) -> Axes:
    """How undecided the evaluator is, by epoch: entropy of f, g and h as a fraction of the maximum.

    `records` are the lines of evaluator.jsonl: `epoch`, `f` and `g` of shape (2, B, B+1), `h` of shape
    (2, B, |O|(|O|+1)/2), or `alpha` (1, edges, |O|). Each distribution's entropy is divided by the logarithm of the
    number of its choices, so that 1 is uniform and 0 decided; the mean is over both cells and all nodes.
    """
    names = {"f": "input of $r_1$ ($f$)", "g": "input of $r_2$ ($g$)", "h": "pair of operations ($h$)"}
    if records and "alpha" in records[0]:
        names = {"alpha": "operation of an edge"}
    lines = {name: np.array([_decision(one.get(key), key) for one in records]) for key, name in names.items()}
    ax = _by_epoch(records, lines, ax)
    ax.set_ylabel("entropy / its maximum")
    ax.set_ylim(0, 1.05)
    return ax


def plot_training(metrics: Records, key: str, label: str, unit: float = 1, ax: Axes | None = None) -> Axes:
    """A training's `key` ("loss", "error") by epoch: on training images thin, on test images bold, a colour a seed.

    `metrics` are the lines of a training's metrics.jsonl: `seed`, `epoch`, `key` and "test_" + `key`, which are drawn
    times `unit`.
    """
    ax = axis(ax)
    seeds = list(dict.fromkeys(one["seed"] for one in metrics))
    if not seeds:
        return message(ax, "no epochs recorded yet")
    for number, seed in enumerate(seeds):
        own = [one for one in metrics if one["seed"] == seed]
        colour, dot = COLOURS[number % len(COLOURS)], "o" if len(own) == 1 else None
        styles = ((key, "training images", 0.7), (f"test_{key}", "test images", 1.8))
        for name, images, width in styles:
            values = unit * _column(own, name)
            text = f"seed {seed}, {images}" if len(seeds) > 1 else images
            ax.plot(_column(own, "epoch"), values, color=colour, linewidth=width, marker=dot, markersize=3, label=text)
    epochs_below(ax).set_ylabel(label)
    if len(seeds) <= len(COLOURS):
        ax.legend(frameon=False, fontsize="small")
    return ax


def plot_distribution(
    probabilities: ArrayLike,
    labels: Sequence[str],
    ax: Axes | None = None,
    title: str | None = None,
    top: float | None = None,
) -> Axes:
    """Heat map of one distribution per node, in percent: f or g of one cell, say.

    `probabilities` has shape (B, choices), `labels` names the choices. A probability of exactly 0 is a choice
    that the node lacks, since softmax gives none, and stays blank. `top`: see `plot_mixing`. Raises ValueError for
    other shapes.
    """
    values = _matrix(probabilities, None, len(labels))
    rows = [f"node {node}" for node in range(len(values))]
    return _heat_map(percent(values), rows, labels, "{:.0f}%", ax, title, top)


def plot_mixing(
    weights: ArrayLike,
    edge_names: Sequence[str],
    operations: Sequence[str],
    ax: Axes | None = None,
    title: str | None = None,
    top: float | None = None,
) -> Axes:
    """Heat map of the weights with which Eq. 10 mixes the operations on each edge; those of a node sum to 2.

    `weights` has shape (edges, operations). The darkest shade is the largest weight, whose number is written as all
    are, or `top`, for pictures that are compared or change: then no numbers are written. Raises ValueError for
    another shape.
    """
    values = _matrix(weights, len(edge_names), len(operations))
    ax = _heat_map(values, edge_names, list(map(operation_label, operations)), "{:.2f}", ax, title, top)
    ax.set_ylabel("edge")
    return ax


def plot_pair_triangle(
    h: ArrayLike,
    operations: Sequence[str],
    ax: Axes | None = None,
    title: str | None = None,
    top: float | None = None,
) -> Axes:
    """Probabilities of the pairs of operations of one node, in percent: r1 down, r2 <= r1 across (Eq. 8).

    `h` has shape (|O|(|O|+1)/2,). `top`: see `plot_mixing`. Raises ValueError for another shape.
    """
    size = len(operations)
    values = _matrix(np.asarray(h, dtype=float)[np.newaxis], 1, size * (size + 1) // 2).ravel()
    triangle = pair_triangle(values, size)
    names = list(map(operation_label, operations))
    ax = _heat_map(triangle, names, names, "{:.1f}%", ax, title, top)
    ax.set_xlabel("$r_2$")
    ax.set_ylabel("$r_1$")
    return ax


def percent(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities in percent, NaN for those of exactly 0: what `plot_distribution` shades."""
    return np.where(probabilities == 0, np.nan, 100 * probabilities)


def pair_triangle(h: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """h (|O|(|O|+1)/2,) in percent at its places r1, r2 in a (|O|, |O|) matrix, NaN elsewhere."""
    triangle = np.full((size, size), np.nan)
    triangle[pair_operations(np.arange(h.size))] = 100 * h
    return triangle


def plot_candidates(
    values_by_source: Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    bins: int = 30,
    xlabel: str = "one-shot accuracy [%]",
) -> Axes:
    """Histograms of the candidates' scores, one for each source, over the same bins; dashed lines are means.

    The values are in the unit that `xlabel` names. The legend gives n, mean and standard deviation (n - 1 in
    the denominator); scores that are not finite are counted there and left out of everything else.
    """
    arrays = {source: np.asarray(values, dtype=float) for source, values in values_by_source.items()}
    finite = {source: values[np.isfinite(values)] for source, values in arrays.items()}
    everything = np.concatenate([np.empty(0), *finite.values()])
    ax = axis(ax)
    if not everything.size:
        return message(ax, "no candidates scored yet")
    low, high = everything.min(), everything.max()
    if np.isclose(low, high):  # one candidate, or equal ones: bins of no width
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    for colour, (source, values) in zip(_colours(finite), finite.items(), strict=True):
        if not values.size:
            continue
        name = f"{source}: n = {values.size}, {values.mean():.2f}"
        if values.size > 1:
            name += f" ± {values.std(ddof=1):.2f}"
        if lost := arrays[source].size - values.size:
            name += f" ({lost} not finite)"
        style: dict[str, Any] = {"histtype": "stepfilled", "facecolor": (colour, 0.3), "edgecolor": colour}
        ax.hist(values, edges.tolist(), label=name, linewidth=0.8, **style)
        ax.axvline(values.mean(), color=colour, linewidth=1.2, linestyle="--")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel(xlabel)
    ax.set_ylabel("candidates")
    ax.legend(fontsize="small", edgecolor="none", framealpha=0.85)
    return ax


def axis(ax: Axes | None, size: tuple[float, float] = (4.8, 3.2)) -> Axes:
    """The axis given, or a new one of that size in inches, in this project's style."""
    if ax is None:
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_linewidth(0.6)
    ax.tick_params(width=0.6, length=3, labelsize="small")
    return ax


def epochs_below(ax: Axes) -> Axes:
    """The axis with whole epochs on its horizontal scale."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlabel("epoch")
    return ax


def message(ax: Axes, text: str) -> Axes:
    """The axis with a sentence in place of data."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#595959")
    return ax


def _colours(names: Mapping[str, Any]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(names))]


def _column(records: Records, key: str) -> NDArray[np.float64]:
    return np.array([one.get(key) for one in records], dtype=float)  # None becomes NaN, which leaves a gap


def _by_epoch(records: Records, lines: Mapping[str, NDArray[np.float64]], ax: Axes | None) -> Axes:
    """One line for each name, at least one of whose values is known; epochs count from 1, as recorded."""
    ax = axis(ax)
    epochs = _column(records, "epoch")
    if not any(np.isfinite(values).any() for values in lines.values()):
        return message(ax, "no epochs recorded yet")
    for colour, (name, values) in zip(_colours(lines), lines.items(), strict=True):
        known = np.isfinite(values)
        if not known.any():
            continue
        ax.plot(epochs, values, color=colour, linewidth=1.4, label=name)
        padded = np.pad(known, 1)
        alone = known & ~padded[:-2] & ~padded[2:]  # a value between two gaps is a line of no length: a dot
        if alone.any():
            ax.plot(epochs[alone], values[alone], color=colour, linestyle="none", marker="o", markersize=3)
    epochs_below(ax)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _decision(probabilities: ArrayLike | None, key: str) -> float:
    """The mean over cells and nodes of one record's relative entropy; NaN where there is none to speak of."""
    if probabilities is None:
        return np.nan
    p = np.asarray(probabilities, dtype=float)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)  # 0 log 0 = 0
    choices = np.full(p.shape[1], p.shape[2]) if key in ("h", "alpha") else np.arange(p.shape[1]) + INPUTS
    if choices.min() < 2:  # a single operation leaves nothing to decide
        return np.nan
    return float((entropy / np.log(choices)).mean())


def _matrix(values: ArrayLike, rows: int | None, columns: int) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=float)
    if not matrix.size:
        return np.empty((0, columns))  # nothing recorded yet, in whatever shape
    if matrix.ndim != 2 or matrix.shape != (len(matrix) if rows is None else rows, columns):
        wanted = f"({'nodes' if rows is None else rows}, {columns})"
        raise ValueError(f"an array of shape {matrix.shape} given; the labels need the shape {wanted}")
    return matrix


def _heat_map(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    form: str,
    ax: Axes | None,
    title: str | None,
    top: float | None,
) -> Axes:
    """Cells shaded from 0 to `top`, or to the largest value with each value written in its cell; NaN is blank."""
    ax = axis(ax, (0.5 * len(columns) + 1.6, 0.32 * len(rows) + 1.3))
    if not np.isfinite(values).any():
        return message(ax, "no probabilities recorded yet")
    largest = max(float(np.nanmax(values)), np.finfo(float).tiny)
    ax.imshow(values, cmap="Blues", vmin=0, vmax=top or largest, aspect="auto")
    ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for row, column in np.argwhere(np.isfinite(values)) if top is None else ():
        value = values[row, column]
        dark = value > 0.715 * largest  # where white on this shade becomes easier to read than black
        ax.text(column, row, form.format(value), ha="center", va="center", fontsize=7, color="w" if dark else "k")
    if title is not None:
        ax.set_title(title, fontsize="medium")
    return ax
