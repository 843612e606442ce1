"""Views of a search that answer a question each: does the evaluator rank, what helps, what changed.

Each is a plain function of a run folder to a figure, which raises InspectionError where there is nothing to show.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy.stats import spearmanr, ttest_ind

from setn_lab.figures import plots
from setn_lab.figures.looks import look
from setn_lab.inspection import reading
from setn_lab.inspection.pictures import DPI, LEAST_RATIO, ratios
from setn_lab.inspection.reading import History, InspectionError
from setn_lab.space.names import edge_names, label, state_name
from setn_lab.space.protocol import Space

CONFIDENCE = 0.95
FEWEST = 3  # architectures that can be ranked in more than two ways
WIDEST = 0.9  # the share of the intervals' ends that lie on the scale: those of two candidates may be ten times as wide
ENOUGH = 30  # uniform candidates, from which effects are estimated without those that the evaluator drew


@dataclass(frozen=True)
class Effects:
    """What operations do to the loss: all arrays are (cell types, edges, |O|), NaN where a side has too few candidates.

    mean: the mean loss in nats of the candidates that have the operation on the edge minus that of those that have not;
    negative helps. low, high: its 95% interval by Welch's t. count: how many have it.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]


def effects(space: Space, architectures: NDArray[np.int64], losses: NDArray[np.float64]) -> Effects:
    """The marginal effects of all operations on all edges, of architectures (n, cell types, ...) and losses (n,).

    They are those of one operation with all others as they were drawn. Raises ValueError for other numbers of both.
    """
    if len(architectures) != len(losses):
        raise ValueError(f"losses: {len(losses)} given; one for each of {len(architectures)} architectures is allowed")
    has = contained(space, architectures)
    shape = has.shape[1:]
    mean, low, high = (np.full(shape, np.nan) for _ in range(3))
    for place in np.ndindex(shape):
        own = has[(slice(None), *place)]
        with_it, without = losses[own], losses[~own]
        if not len(with_it) or not len(without):
            continue
        mean[place] = with_it.mean() - without.mean()
        if min(len(with_it), len(without)) > 1 and np.ptp(with_it) + np.ptp(without) > 0:
            interval = ttest_ind(with_it, without, equal_var=False).confidence_interval(CONFIDENCE)
            low[place], high[place] = interval.low, interval.high
    return Effects(mean, low, high, has.sum(0))


def contained(space: Space, architectures: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether architectures (n, cell types, ...) have an operation on an edge: (n, cell types, edges, |O|)."""
    places = {edge: place for place, edge in enumerate(space.edges)}
    has = np.zeros((*architectures.shape[:2], len(places), len(space.operations)), dtype=bool)
    for number, cell_type in np.ndindex(has.shape[:2]):
        for node, terms in enumerate(space.terms(architectures[number, cell_type])):
            for operation, state in terms:
                has[number, cell_type, places[node, state], operation] = True
    return has


def agreement_figure(folder: Path) -> Figure:
    """Whether the evaluator ranks: each candidate's log-probability against its one-shot loss, with Spearman's rho.

    Uniform candidates have a colour of their own: rho among them says whether the evaluator knows anything, while that
    among its own draws is of a narrow choice.
    """
    figure = Figure(figsize=(6.4, 4.2), dpi=DPI, layout="constrained")
    ax = plots.axis(figure.subplots())
    sources = {"drawn by the evaluator": _scores(folder, "candidates"), "uniform": _scores(folder, "baseline")}
    if not any(len(losses) for _, losses in sources.values()):
        raise InspectionError(f"No candidate has been scored yet in {folder}")
    for colour, marker, (name, (probabilities, losses)) in zip(plots.COLOURS, "o^", sources.items(), strict=False):
        if not len(losses):
            continue
        text = f"{name}: n = {len(losses)}"
        if len(losses) >= FEWEST and np.ptp(losses) > 0 and np.ptp(probabilities) > 0:
            text += f", ρ = {spearmanr(probabilities, losses).statistic:+.2f}"
        ax.scatter(probabilities, losses, s=16, marker=marker, color=colour, alpha=0.6, linewidths=0, label=text)
    ax.set(xlabel="log-probability under the evaluator [nats]", ylabel="one-shot loss [nats]")
    ax.legend(fontsize="small", frameon=False, title="Spearman's ρ, negative is right", title_fontsize="small")
    return figure


def _scores(folder: Path, journal: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-probabilities and losses of what was scored on all images and is finite."""
    records = _whole(reading.read_scored(folder, journal))
    columns = (np.array([record[key] for record in records], dtype=float) for key in ("log_probability", "loss"))
    probabilities, losses = columns
    known = np.isfinite(probabilities)
    return probabilities[known], losses[known]


def _whole(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with a finite loss that no race has dropped."""
    most = max((record["images"] for record in records), default=0)
    return [record for record in records if record["images"] == most and np.isfinite(record["loss"])]


def effects_figure(folder: Path) -> Figure:
    """What each operation on each edge does to the one-shot loss, beside what the evaluator thinks of it.

    Dots: the effect with its 95% interval, left of the line where it helps. Bars: the mixing weight of Eq. 10 over its
    uniform value, on a logarithmic scale, to the left where it is above: then the evaluator is right.
    """
    history = reading.read_history(folder)
    space = history.space
    uniform, drawn = (_whole(reading.read_scored(folder, journal)) for journal in ("baseline", "candidates"))
    records, source = (uniform, "uniform") if len(uniform) >= ENOUGH else ([*uniform, *drawn], "all")
    records = _whole(records)
    if len(records) < FEWEST:
        raise InspectionError(f"Fewer than {FEWEST} candidates have been scored in {folder}")
    architectures = np.stack([space.encode(space.read(record["genotype"])) for record in records])
    found = effects(space, architectures, np.array([record["loss"] for record in records]))
    preferred = ratios(history.at(-1).mixing_weights(), history.kit.uniform_weights(space))
    names, shape = edge_names(space), (space.cell_types, len(space.operations))
    size = 2.2 + 1.75 * shape[1], shape[0] * (0.9 + 0.19 * len(names))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(*shape, squeeze=False, sharey=True, sharex=True)
    ends = np.abs([found.low, found.high])
    widest = np.nanquantile(ends, WIDEST) if np.isfinite(ends).any() else 0.0
    extent = 1.1 * max(widest, np.nanmax(np.abs(found.mean), initial=1e-6))
    for (cell_type, operation), ax in np.ndenumerate(axes):
        own = cell_type, slice(None), operation
        _draw_effects(ax, found, own, preferred[own], 1.1 * max(np.abs(preferred).max(), LEAST_RATIO))
        ax.set_xlim(-extent, extent)
        ax.set_title(label(space.operations[operation]), fontsize="small")
        if not operation:
            ax.set_yticks(range(len(names)), names)
            ax.set_ylabel(space.cell_names[cell_type])
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(
        f"dots: change of the one-shot loss [nats] with its 95% interval, {len(records)} candidates ({source}); left: "
        "it helps.  bars: the evaluator's weight over its uniform value (log); left: it is preferred",
        fontsize="small",
    )
    return figure


def _draw_effects(ax: Axes, found: Effects, own: Any, preferred: NDArray[np.float64], extent: float) -> None:
    plots.axis(ax)
    places = np.arange(len(preferred))
    bars = ax.twiny()
    bars.barh(places, -preferred, height=0.8, color=plots.COLOURS[5], alpha=0.45, linewidth=0)
    bars.set(xlim=(-extent, extent), xticks=[])
    bars.spines[:].set_visible(False)
    ax.set_zorder(bars.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.axvline(0, color="#000000", linewidth=0.6)
    ax.hlines(places, found.low[own], found.high[own], color=plots.COLOURS[1], linewidth=1.2)
    ax.plot(found.mean[own], places, "o", color=plots.COLOURS[1], markersize=3)
    ax.tick_params(labelsize="x-small")


@dataclass(frozen=True)
class Choice:
    """What the argmax of a node's slot is over the epochs: the places (E,) of operation and state."""

    cell_type: int
    node: int
    slot: int
    operations: NDArray[np.int64]
    states: NDArray[np.int64]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Whether it is another one than at the record before: (E,), False at the first."""
        same = (np.diff(self.operations) == 0) & (np.diff(self.states) == 0)
        return np.concatenate([[False], ~same])


def choices(history: History) -> list[Choice]:
    """What the most probable choices of each node have been at each record."""
    space = history.space
    cells = [history.at(index).argmax() for index in range(len(history.epochs))]
    found = []
    for cell_type in range(space.cell_types):
        terms = [space.terms(cell[cell_type]) for cell in cells]
        for node in range(space.nodes):
            for slot in range(len(terms[0][node])):
                own = np.array([by_node[node][slot] for by_node in terms])
                found.append(Choice(cell_type, node, slot, own[:, 0], own[:, 1]))
    return found


def strip_figure(folder: Path) -> Figure:
    """The argmax cell over the epochs: a strip for each operation of each node, and below how many have changed."""
    history = reading.read_history(folder)
    space, found = history.space, choices(history)
    first, last = history.epochs[0] - 0.5, history.epochs[-1] + 0.5
    figure = Figure(figsize=(11, 1.6 + 0.3 * len(found)), dpi=DPI, layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(0.3 * len(found), 0.9))
    for row, choice in enumerate(found):
        starts = np.flatnonzero(choice.changed | (history.epochs == history.epochs[0]))
        ends = np.append(history.epochs[starts[1:]] - 0.5, last)
        for start, end in zip(starts, ends, strict=True):
            left = history.epochs[start] - 0.5
            operation = space.operations[choice.operations[start]]
            ax.barh(row, end - left, left=left, height=0.84, color=look(operation).colour, edgecolor="w", linewidth=1.2)
            name = _name(space, choice, int(start))
            if 11 * (end - left) / (last - first) > 0.085 * len(label(operation)) + 0.75:  # inches that it takes
                ax.text((left + end) / 2, row, name, ha="center", va="center", color="w", fontsize=7)
    rows = [f"{space.cell_names[one.cell_type]}, node {one.node}" if not one.slot else "" for one in found]
    plots.axis(ax).set_yticks(range(len(rows)), rows)
    ax.set(ylim=(len(found) - 0.5, -0.5), xlim=(first, last))
    ends = ax.secondary_yaxis("right")
    ends.set_yticks(range(len(rows)), [_name(space, choice, -1) for choice in found], fontsize="small")
    for side in (ends, ax):
        side.tick_params(length=0)
    ends.spines[:].set_visible(False)
    _colour_legend(ax, space)
    below.bar(history.epochs, np.sum([choice.changed for choice in found], axis=0), width=0.8, color="#595959")
    plots.epochs_below(plots.axis(below)).set_ylabel("changed")
    return figure


def _name(space: Space, choice: Choice, record: int) -> str:
    operation, state = space.operations[choice.operations[record]], int(choice.states[record])
    return f"{label(operation)} ← {state_name(space, state)}"


def _colour_legend(ax: Axes, space: Space) -> None:
    """Above the strips, what their colours mean; operations of one family have one colour."""
    families: dict[str, list[str]] = {}
    for operation in space.operations:
        families.setdefault(look(operation).colour, []).append(label(operation))
    patches = [Patch(color=colour, label=", ".join(names)) for colour, names in families.items()]
    ax.legend(
        handles=patches, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(patches), frameon=False, fontsize="small"
    )


QUESTIONS: dict[str, Callable[[Path], Figure]] = {
    "does it rank?": agreement_figure,
    "what helps?": effects_figure,
    "what changed?": strip_figure,
}
