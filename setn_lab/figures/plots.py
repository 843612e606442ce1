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

from setn_lab.figures.panels import Panel

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


def plot_entropy(epochs: ArrayLike, shares: Mapping[str, NDArray[np.float64]], ax: Axes | None = None) -> Axes:
    """How undecided the evaluator is, by epoch (E,): entropies as shares of their maximum, a line (E,) by distribution.

    1 is uniform and 0 decided.
    """
    names = {
        "f": "input of $r_1$ ($f$)",
        "g": "input of $r_2$ ($g$)",
        "h": "pair of operations ($h$)",
        "alpha": "operation of an edge",
    }
    records = [{"epoch": epoch} for epoch in np.asarray(epochs).tolist()]
    ax = _by_epoch(records, {names.get(key, key): values for key, values in shares.items()}, ax)
    ax.set_ylabel("entropy / its maximum")
    ax.set_ylim(0, 1.05)
    return ax


def plot_training(metrics: Records, key: str, label: str, unit: float = 1, ax: Axes | None = None) -> Axes:
    """A training's `key` ("loss", "error") by epoch: on training images thin, on test images bold, a colour a seed.

    `metrics` are the lines of a training's metrics.jsonl: `seed`, `epoch`, `key` and "test_" + `key`, which are drawn
    times `unit`.
    """
    ax = axis(ax)
    seeds = list(dict.fromkeys(record["seed"] for record in metrics))
    if not seeds:
        return message(ax, "no epochs recorded yet")
    for number, seed in enumerate(seeds):
        own = [record for record in metrics if record["seed"] == seed]
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


def plot_panel(panel: Panel, ax: Axes | None = None) -> Axes:
    """Heat map of a part of an evaluator; NaN is blank.

    The darkest shade is the largest value, and all numbers are written. Raises ValueError for values that its names do
    not fit.
    """
    ax = _panel_axis(panel, ax)
    values = panel.values
    if not np.isfinite(values).any():
        return message(ax, "no probabilities recorded yet")
    largest = max(float(np.nanmax(values)), np.finfo(float).tiny)
    _shade(panel, ax, "Blues", 0, largest)
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        dark = value > 0.715 * largest  # where white on this shade becomes easier to read than black
        text = panel.form.format(value)
        ax.text(column, row, text, ha="center", va="center", fontsize=7, color="w" if dark else "k")
    return ax


def plot_ratios(panel: Panel, extent: float, ax: Axes | None = None) -> Axes:
    """Heat map of logarithms of ratios around 0, which is white: orange is less, violet more, up to `extent`.

    NaN is blank. Raises ValueError as `plot_panel` does.
    """
    ax = _panel_axis(panel, ax)
    _shade(panel, ax, "PuOr", -extent, extent)
    ax.set_facecolor("#E6E6E6")  # where there is no choice, which is not the same as an indifferent one
    return ax


def _panel_axis(panel: Panel, ax: Axes | None) -> Axes:
    shape = len(panel.rows), len(panel.columns)
    if panel.values.size and panel.values.shape != shape:
        raise ValueError(f"panel: values of shape {panel.values.shape} given; its names need the shape {shape}")
    return axis(ax, (0.5 * shape[1] + 1.6, 0.32 * shape[0] + 1.3))


def _shade(panel: Panel, ax: Axes, colours: str, low: float, high: float) -> None:
    ax.imshow(panel.values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    ax.set_xticks(range(len(panel.columns)), panel.columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(panel.rows)), panel.rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(title=panel.title, xlabel=panel.columns_name, ylabel=panel.rows_name)
    ax.title.set_fontsize("medium")


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
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
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
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
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
    return np.array([record.get(key) for record in records], dtype=float)  # None becomes NaN, which leaves a gap


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
