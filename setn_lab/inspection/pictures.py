"""The inspectors' pictures: plain functions from what `inspection` reads to figures and drawings, without widgets.

A `Picture` is a figure of which a few artists change. Everything else of it is drawn once, since drawing all of it
again, texts above all, takes half a second, and a slider should move without waiting.
"""

import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from setn_lab.figures import plots
from setn_lab.figures.panels import Panel
from setn_lab.inspection.reading import History, Scored
from setn_lab.space.names import edge_names, label, state_name
from setn_lab.space.protocol import Space

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


def evaluator_picture(history: History, cell_type: int) -> Picture:
    """The evaluator of one cell type: what there is to see of its distributions, and below their entropies.

    Shades are ratios to an evaluator that has learned nothing, since its probabilities themselves show above all how
    many choices there are. `show(index)` sets it to the record 0 .. E-1; it begins with the last. Shades mean the same
    at all epochs.
    """
    rows = relative_panels(history, cell_type)  # whose values are (E, rows, columns)
    width = 13.5 if max(map(len, rows)) > 1 else 9
    figure = Figure(figsize=(width, 3.7 + 2.75 * len(rows)), dpi=DPI, layout="constrained")
    heights = (*(1.25 - 0.25 * place for place in range(len(rows))), 0.75)
    *parts, lower = np.asarray(figure.subfigures(len(rows) + 1, 1, height_ratios=heights)).tolist()
    images = [image for part, panels in zip(parts, rows, strict=True) for image in _heat_maps(part, panels)]
    values = [panel.values for panels in rows for panel in panels]
    entropies = history.everything.entropies()
    axes = lower.subplots(1, len(entropies), squeeze=False)[0].tolist()
    for ax, (name, by_epoch) in zip(axes, entropies.items(), strict=True):
        symbol = name if len(name) == 1 else f"\\{name}"
        of_edges = by_epoch.shape[-1] == len(history.space.edges)
        names = edge_names(history.space) if of_edges else None
        plot_entropies(history.epochs, by_epoch[:, cell_type], ax, f"entropy of ${symbol}$", names)
    marks = [ax.axvline(history.epochs[-1], **NOW) for ax in axes]
    axes[-1].legend(frameon=False, fontsize="small", loc="lower left")

    def show(index: int) -> None:
        for image, by_epoch in zip(images, values, strict=True):
            image.set_data(by_epoch[index])
        for mark in marks:
            mark.set_xdata([history.epochs[index]] * 2)

    return Picture(figure, [*images, *marks], show)


LEAST_RATIO = math.log2(1.25)  # the shades reach at least so far: what is all but uniform looks so


def ratios(values: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """The binary logarithm of values over what they are in an evaluator that has learned nothing; 0 / 0 is NaN.

    A probability that has underflowed is as one of 2^-20 times the uniform one.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(np.log2(values / uniform), -20.0)


def relative_panels(history: History, cell_type: int) -> list[list[Panel]]:
    """What there is to see of one cell type as `ratios`, with values (E, rows, columns)."""
    fresh = history.kit.evaluator(history.space).double().distributions().panels(cell_type)  # a third is no float32
    return [
        [panel._replace(values=ratios(panel.values, other.values)) for panel, other in zip(*row, strict=True)]
        for row in zip(history.everything.panels(cell_type), fresh, strict=True)
    ]


def _heat_maps(part: SubFigure, panels: Sequence[Panel]) -> list[AxesImage]:
    """Panels of ratios with values (E, rows, columns) beside one another, as the last record has them.

    Those that have the same names share their scale, and the names at the left.
    """
    alike = len({(*panel.rows, *panel.columns) for panel in panels}) == 1
    widths = [max(1, len(panel.columns) / 4) for panel in panels]
    axes = part.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0].tolist()
    for ax, panel in zip(axes, panels, strict=True):
        extent = max(float(np.nanmax(np.abs(scaled.values))) for scaled in (panels if alike else [panel]))
        title = panel.title.removesuffix(" [%]") + ", over uniform"
        plots.plot_ratios(panel._replace(values=panel.values[-1], title=title), max(extent, LEAST_RATIO), ax)
    if alike:
        for ax in axes[1:]:
            ax.set(yticklabels=[], ylabel="")
    for scaled in [axes] if alike else [[ax] for ax in axes]:
        bar = part.colorbar(scaled[0].images[0], ax=scaled, pad=0.01, format=lambda value, _: _factor(value))
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize="small", width=0.6, length=3)
    return [ax.images[0] for ax in axes]


def _factor(logarithm: float) -> str:
    """A ratio as a factor: ×4, or ÷4."""
    return f"{'÷' if logarithm < 0 else '×'}{2 ** abs(logarithm):.2g}"


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

    figure.draw_without_rendering()  # which lays out the axes; they stay so: bars are where they will be seen
    figure.set_layout_engine("none")
    return Picture(figure, list(marks), show)


CANDIDATE_AXES = {"accuracy [%]": "one-shot accuracy [%]", "loss": "one-shot loss [nats]"}  # columns and their names


class Bar(NamedTuple):
    """A bar of `candidates_picture` that holds candidates: the column of its histogram, its bounds, their places.

    point: the middle of the bar at the bottom of its axes, as fractions of the picture's size from the upper left.
    """

    column: str
    low: float
    high: float
    places: list[int]
    point: tuple[float, float]


def bars(picture: Picture, scored: Scored) -> list[Bar]:
    """All bars of `candidates_picture`, from left to right."""
    width, height = picture.figure.bbox.size
    found = []
    for ax, column in zip(picture.figure.axes, CANDIDATE_AXES, strict=True):
        if not ax.patches:
            continue
        # of the stepped outline: the bins' bounds
        edges = np.unique(np.asarray(ax.patches[0].get_path().vertices)[:, 0])
        values = scored.table[column].to_numpy()
        for low, high in itertools.pairwise(edges.tolist()):
            inside = (values >= low) & ((values < high) | ((high == edges[-1]) & (values == high)))
            if inside.any():
                x, _ = ax.transData.transform(((low + high) / 2, 0))
                point = float(x / width), float(1 - (ax.bbox.y0 + 1) / height)
                found.append(Bar(column, low, high, np.flatnonzero(inside).tolist(), point))
    return found


def bar_at(picture: Picture, scored: Scored, x: float, y: float) -> Bar | None:
    """What lies at a point of `candidates_picture`, given as fractions of its size from the upper left, or None."""
    width, height = picture.figure.bbox.size
    point = x * width, (1 - y) * height
    for ax, column in zip(picture.figure.axes, CANDIDATE_AXES, strict=True):
        if not ax.bbox.contains(*point):
            continue
        value = ax.transData.inverted().transform(point)[0]
        own = [bar for bar in bars(picture, scored) if bar.column == column and bar.low <= value < bar.high]
        return own[0] if own else None
    return None


def sampling_picture(space: Space, uniform: NDArray[np.float64]) -> Picture:
    """How often drawn architectures use each operation and each input; `show` sets it to them: (n, cell types, ...).

    The shares are of all operations of a cell. Black lines: the shares under uniform sampling (Eq. 2-3), of which
    `uniform` are the mixing weights (cell types, edges, |O|). Where every node reads all earlier states, there is
    nothing to show of the inputs.
    """
    states = space.inputs(space.nodes - 1)
    weights = uniform[0] / uniform[0].sum()
    by_state = np.bincount([state for _, state in space.edges], weights.sum(1), states)
    parts = [("operations", [label(operation) for operation in space.operations], weights.sum(0))]
    if _inputs_vary(space):
        parts.append(("inputs", [state_name(space, state) for state in range(states)], by_state))
    figure = Figure(figsize=(11, 2.5 * space.cell_types), dpi=DPI, layout="constrained")
    bars, lines = [], []
    axes = figure.subplots(space.cell_types, len(parts), squeeze=False)
    for row, cell in zip(axes, space.cell_names, strict=True):
        for ax, (what, names, expected) in zip(row, parts, strict=True):
            plots.axis(ax)
            places = np.arange(len(names))
            bars.append(ax.bar(places, 0 * places, width=0.7, color=plots.COLOURS[0], label="drawn"))
            level = places - 0.42, places + 0.42
            lines.append(ax.hlines(100 * expected, *level, color=WINNER, linewidth=1.6, label="uniform"))
            ax.set_xticks(places, names, rotation=20, ha="right", rotation_mode="anchor")
            ax.set(ylim=(0, 100), ylabel="share [%]")
            ax.set_title(f"{cell}: {what}", fontsize="medium")
    axes[0][-1].legend(frameon=False, fontsize="small")

    def show(architectures: NDArray[np.int64]) -> None:
        shares = [
            share
            for cell_type in range(space.cell_types)
            for share in occurrences(space, architectures[:, cell_type])[: len(parts)]
        ]
        for container, share in zip(bars, shares, strict=True):
            for bar, value in zip(container, share, strict=True):
                bar.set_height(100 * value)

    return Picture(figure, [*(bar for container in bars for bar in container), *lines], show)  # lines above bars


def _inputs_vary(space: Space) -> bool:
    """Whether cells differ in the states that they read."""
    _, states = space.operands(space.sample(np.random.default_rng(0), 100))
    return bool((states != states[0]).any())


def occurrences(space: Space, cells: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shares of each operation (|O|,) and of each state that is read, in what drawn cells (n, ...) sum."""
    operations, states = space.operands(cells)
    counts = (
        np.bincount(operations.ravel(), minlength=len(space.operations)),
        np.bincount(states.ravel(), minlength=space.inputs(space.nodes - 1)),
    )
    return counts[0] / counts[0].sum(), counts[1] / counts[1].sum()


def png(figure: Figure) -> bytes:
    """A figure that does not change."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return _encode(canvas, fast=False)


def _encode(canvas: FigureCanvasAgg, fast: bool) -> bytes:
    buffer = io.BytesIO()
    pixels = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if fast:
        pixels.save(buffer, "png", compress_level=1)
    else:  # 256 colours are enough for flat shades and text
        pixels.quantize(256, dither=PIL.Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()
