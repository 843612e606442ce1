"""The inspectors' pictures: plain functions from what `inspection` reads to figures and drawings, without widgets.

A `Picture` is a figure of which a few artists change. Everything else of it is drawn once, since drawing all of it
again, texts above all, takes half a second, and a slider should move without waiting.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from setn_lab import plots
from setn_lab.cells import label
from setn_lab.edge_space import EdgeSpace
from setn_lab.evaluator import Distributions
from setn_lab.inspection import History, Scored
from setn_lab.space import Space
from setn_lab.spaces import edge_names, kind_names, new_evaluator, state_name

DPI = 90
NOW = {"color": "#595959", "linewidth": 1.0, "linestyle": ":"}  # the line that marks the chosen epoch
PICKED, WINNER = "#D55E00", "#000000"


@dataclass(eq=False)
class Picture:
    """A figure, its `moving` artists, and `show`, which sets them to what it is given."""

    figure: Figure
    moving: list[Artist]
    show: Callable[..., None]
    _canvas: FigureCanvasAgg = field(init=False)
    _background: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Give the figure a canvas of its own: pyplot would keep it alive, and show it by itself."""
        self._canvas = FigureCanvasAgg(self.figure)

    def png(self, fast: bool = False) -> bytes:
        """The figure as it is now; a `fast` one, for a slider, is a file several times as large."""
        if self._background is None:
            for artist in self.moving:
                artist.set_animated(True)  # left out of the background
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self.figure.bbox)
        self._canvas.restore_region(self._background)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        return _encode(self._canvas, fast)


def evaluator_picture(history: History, kind: int) -> Picture:
    """The evaluator of one cell kind (0 normal, 1 reduction): f, g and mixing weights above h, entropies at the bottom.

    `show(index)` sets it to the record 0 .. E-1; it begins with the last. Shades mean the same at all epochs.
    """
    space, every, now = history.space, history.everything, history.at(-1)
    if not isinstance(every, Distributions) or not isinstance(now, Distributions):
        return _edge_evaluator_picture(history)
    figure = Figure(figsize=(13.5, 9.2), dpi=DPI, layout="constrained")
    upper, middle, lower = np.asarray(figure.subfigures(3, 1, height_ratios=(1.25, 1.0, 0.75))).tolist()
    states = [state_name(state, space) for state in range(space.inputs(space.nodes - 1))]
    inputs_1, inputs_2, mixing = upper.subplots(1, 3, width_ratios=(1, 1, 1.6))
    top = 100 * float(every.f[:, kind].max())
    plots.plot_distribution(now.f[kind], states, inputs_1, "$f$: input of $r_1$, by node [%]", top)
    top = 100 * float(every.g[:, kind].max())
    plots.plot_distribution(now.g[kind], states, inputs_2, "$g$: input of $r_2$, by node [%]", top)
    top = float(every.mixing_weights()[:, kind].max())
    title = "mixing weights of Eq. 10, by edge"
    plots.plot_mixing(now.mixing_weights()[kind], edge_names(space), space.operations, mixing, title, top).set_ylabel(
        ""
    )
    triangles = middle.subplots(1, space.nodes, squeeze=False)[0].tolist()
    top = 100 * float(every.h[:, kind].max())
    for node, ax in enumerate(triangles):
        plots.plot_pair_triangle(now.h[kind, node], space.operations, ax, f"$h$ of node {node} [%]", top)
        if node:
            ax.set(yticklabels=[], ylabel="")
    for part, axes in ((upper, [inputs_1]), (upper, [inputs_2]), (upper, [mixing]), (middle, triangles)):
        bar = part.colorbar(axes[0].images[0], ax=axes, pad=0.01)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize="small", width=0.6, length=3)
    images = [ax.images[0] for ax in (inputs_1, inputs_2, mixing, *triangles)]
    marks = []
    for ax, (name, values) in zip(lower.subplots(1, 3), every.entropies().items(), strict=True):
        plot_entropies(history.epochs, values[:, kind], ax, f"entropy of ${name}$")
        marks.append(ax.axvline(history.epochs[-1], **NOW))
        if name == "h":
            ax.legend(frameon=False, fontsize="small", loc="lower left")

    def show(index: int) -> None:
        at, size = history.at(index), len(space.operations)
        assert isinstance(at, Distributions)  # as all records are
        shades = [plots.percent(at.f[kind]), plots.percent(at.g[kind]), at.mixing_weights()[kind]]
        shades += [plots.pair_triangle(h, size) for h in at.h[kind]]
        for image, values in zip(images, shades, strict=True):
            image.set_data(values)
        for mark in marks:
            mark.set_xdata([history.epochs[index]] * 2)

    return Picture(figure, [*images, *marks], show)


def _edge_evaluator_picture(history: History) -> Picture:
    """The evaluator of NAS-Bench-201's space: the probabilities of each edge's operations, and their entropies."""
    space, every = history.space, history.everything
    figure = Figure(figsize=(11, 3.6), dpi=DPI, layout="constrained")
    probabilities, entropies = figure.subplots(1, 2)
    weights = every.mixing_weights()[:, 0]
    title = "probabilities, the mixing weights of Eq. 10"
    plots.plot_mixing(weights[-1], edge_names(space), space.operations, probabilities, title, float(weights.max()))
    figure.colorbar(probabilities.images[0], ax=probabilities, pad=0.01)
    plot_entropies(history.epochs, every.entropies()["alpha"][:, 0], entropies, "entropy", edge_names(space))
    entropies.legend(frameon=False, fontsize="small")
    mark = entropies.axvline(history.epochs[-1], **NOW)

    def show(index: int) -> None:
        probabilities.images[0].set_data(weights[index])
        mark.set_xdata([history.epochs[index]] * 2)

    return Picture(figure, [probabilities.images[0], mark], show)


def plot_entropies(
    epochs: ArrayLike,
    entropies: ArrayLike,
    ax: Axes | None = None,
    title: str | None = None,
    names: Sequence[str] | None = None,
) -> Axes:
    """The entropy in nats of several distributions by epoch: `entropies` (E, n), a line each, by default the nodes."""
    ax = plots.axis(ax)
    for number, values in enumerate(np.asarray(entropies, dtype=float).T):
        ax.plot(
            epochs,
            values,
            color=plots.COLOURS[number % len(plots.COLOURS)],
            linewidth=1.4,
            marker="o" if len(values) == 1 else None,
            markersize=3,
            label=f"node {number}" if names is None else names[number],
        )
    plots.epochs_below(ax).set_ylabel("entropy [nats]")
    ax.set_ylim(bottom=0)
    if title is not None:
        ax.set_title(title, fontsize="medium")
    return ax


def candidates_picture(scored: Scored) -> Picture:
    """Histograms of one-shot accuracy and loss, the winner marked; `show(place)` marks a picked candidate (or None)."""
    figure = Figure(figsize=(11, 3.4), dpi=DPI, layout="constrained")
    marks = []
    for ax, (column, xlabel) in zip(figure.subplots(1, 2), CANDIDATE_AXES.items(), strict=True):
        values = scored.table[column].tolist()
        plots.plot_candidates({"candidates": values}, ax, xlabel=xlabel)
        if scored.winner is not None:
            ax.axvline(
                values[scored.winner], color=WINNER, linewidth=1.4, label="winner" if scored.chosen else "best so far"
            )
        marks.append(ax.axvline(np.nan, color=PICKED, linewidth=2.4, label="picked"))
        ax.legend(fontsize="small", frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)  # above all bars

    def show(place: int | None) -> None:
        for mark, column in zip(marks, CANDIDATE_AXES, strict=True):
            mark.set_xdata([np.nan if place is None else scored.table[column].iloc[place]] * 2)

    return Picture(figure, list(marks), show)


CANDIDATE_AXES = {"accuracy [%]": "one-shot accuracy [%]", "loss": "one-shot loss [nats]"}  # columns and their names


def bar_at(picture: Picture, scored: Scored, x: float, y: float) -> tuple[str, float, float, list[int]] | None:
    """What lies at a point of `candidates_picture`, given as fractions of its width and height from the upper left.

    (column, low, high, places): the bar's histogram, its bounds and the candidates in it; None outside of all bars.
    """
    width, height = picture.figure.bbox.size
    point = x * width, (1 - y) * height
    for ax, column in zip(picture.figure.axes, CANDIDATE_AXES, strict=True):
        if not ax.bbox.contains(*point) or not ax.patches:
            continue
        value = ax.transData.inverted().transform(point)[0]
        edges = np.unique(
            np.asarray(ax.patches[0].get_path().vertices)[:, 0]
        )  # of the stepped outline: the bins' bounds
        place = int(np.searchsorted(edges, value, side="right")) - 1
        if not 0 <= place < len(edges) - 1:
            return None
        low, high = edges[place : place + 2]
        values = scored.table[column].to_numpy()
        inside = (values >= low) & ((values < high) | ((place == len(edges) - 2) & (values == high)))
        return (column, float(low), float(high), np.flatnonzero(inside).tolist()) if inside.any() else None
    return None


def sampling_picture(space: Space) -> Picture:
    """How often drawn architectures use each operation and each input; `show` sets it to architectures (n, kinds, ...).

    The shares are of all operations of a cell. Black lines: the shares under uniform sampling (Eq. 2-3). Where every
    node reads all earlier states, there is nothing to show of the inputs.
    """
    names = kind_names(space)
    figure = Figure(figsize=(11, 2.5 * len(names)), dpi=DPI, layout="constrained")
    states = space.inputs(space.nodes - 1)
    uniform = new_evaluator(space).distributions().mixing_weights()[0]
    uniform = uniform / uniform.sum()
    by_state = np.bincount([state for _, state in space.edges], uniform.sum(1), states)
    labels = [label(operation) for operation in space.operations], [state_name(state, space) for state in range(states)]
    parts = list(zip(labels, (uniform.sum(0), by_state), ("operations", "inputs"), strict=True))
    if isinstance(space, EdgeSpace):
        parts = parts[:1]
    bars, lines = [], []
    axes = figure.subplots(len(names), len(parts), squeeze=False)
    for row, kind in zip(axes, names, strict=True):
        for ax, (own, expected, what) in zip(row, parts, strict=True):
            plots.axis(ax)
            places = np.arange(len(own))
            bars.append(ax.bar(places, 0 * places, width=0.7, color=plots.COLOURS[0], label="drawn"))
            level = places - 0.42, places + 0.42
            lines.append(ax.hlines(100 * expected, *level, color=WINNER, linewidth=1.6, label="uniform"))
            ax.set_xticks(places, own, rotation=20, ha="right", rotation_mode="anchor")
            ax.set(ylim=(0, 100), ylabel="share [%]")
            ax.set_title(f"{kind}: {what}", fontsize="medium")
    axes[0][-1].legend(frameon=False, fontsize="small")

    def show(architectures: NDArray[np.int64]) -> None:
        shares = [
            share for kind in range(len(names)) for share in occurrences(space, architectures[:, kind])[: len(parts)]
        ]
        for container, share in zip(bars, shares, strict=True):
            for bar, value in zip(container, share, strict=True):
                bar.set_height(100 * value)

    return Picture(figure, [*(bar for container in bars for bar in container), *lines], show)  # lines above bars


def occurrences(space: Space, cells: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shares of each operation (|O|,) and of each state that is read, in what drawn cells (n, ...) sum."""
    if isinstance(space, EdgeSpace):
        operations = np.bincount(cells.ravel(), minlength=len(space.operations))
        states = np.bincount([state for _, state in space.edges])
    else:
        operations = np.bincount(cells[..., :2].ravel(), minlength=len(space.operations))
        states = np.bincount(cells[..., 2:].ravel(), minlength=space.inputs(space.nodes - 1))
    return operations / operations.sum(), states / states.sum()


def png(figure: Figure) -> bytes:
    """A figure that does not change."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return _encode(canvas, fast=False)


def comparison_figure(metrics: Mapping[str, Sequence[Mapping[str, Any]]], scores: Mapping[str, pd.DataFrame]) -> Figure:
    """Several runs by name, a colour each: losses and entropy over the epochs, and their candidates' scores."""
    figure = Figure(figsize=(13, 6.4), dpi=DPI, layout="constrained")
    (loss, entropy), (accuracies, losses) = figure.subplots(2, 2)
    for ax, keys, text in (
        (loss, {"weight_loss": "-", "evaluator_loss": "--"}, "cross-entropy [nats]"),
        (entropy, {"entropy": "-"}, "entropy of an architecture [nats]"),
    ):
        plots.axis(ax)
        for number, (name, records) in enumerate(metrics.items()):
            epochs = [one["epoch"] for one in records]
            dot = "o" if len(records) == 1 else None
            for key, style in keys.items():
                values = np.array([one.get(key) for one in records], dtype=float)
                own = _plain(name) if key in ("weight_loss", "entropy") else None
                colour = plots.COLOURS[number % len(plots.COLOURS)]
                ax.plot(epochs, values, style, color=colour, linewidth=1.4, marker=dot, markersize=3, label=own)
        plots.epochs_below(ax)
        ax.set_ylabel(text)
        if metrics:
            ax.legend(frameon=False, fontsize="small")
        else:
            plots.message(ax, "no epochs recorded yet")
    loss.set_title("weights, training images (solid); evaluator, validation images (dashed)", fontsize="medium")
    for ax, (column, xlabel) in zip((accuracies, losses), CANDIDATE_AXES.items(), strict=True):
        # a run without candidates keeps its colour for the others' sake: an empty list takes one
        by_run = {_plain(name): scores[name][column].tolist() if name in scores else [] for name in metrics}
        plots.plot_candidates(by_run, ax, xlabel=xlabel)
    return figure


def _plain(name: str) -> str:
    """A folder's name as matplotlib writes it: no formulas, no underscore in front, which hides a legend's entry."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def _encode(canvas: FigureCanvasAgg, fast: bool) -> bytes:
    buffer = io.BytesIO()
    pixels = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if fast:
        pixels.save(buffer, "png", compress_level=1)
    else:  # 256 colours are enough for flat shades and text
        pixels.quantize(256, dither=PIL.Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()
