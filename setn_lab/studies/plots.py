"""Figures of the studies: plot_x(data, ax=None) -> ax, with the colours and conventions of `figures.plots`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from setn_lab.figures.plots import COLOURS, axis, message

Values = Sequence[float] | NDArray[np.float64]


def plot_variants(
    values: Mapping[str, Values],
    winners: Mapping[str, float],
    axes: Sequence[Axes],
    bins: int = 30,
    xlabel: str = "one-shot accuracy [%]",
) -> Sequence[Axes]:
    """Figure 2: a histogram for each way to generate candidates, over the same bins; the winner as a triangle.

    values: the candidates' scores by variant; winners: that of the one selected; both in the unit of `xlabel`. One axis
    for each variant; the dashed line is the mean. Raises ValueError where there are fewer axes than variants.
    """
    if len(axes) < len(values):
        raise ValueError(f"axes: {len(axes)} given for {len(values)} variants; at least as many are needed")
    arrays = {name: np.asarray(own, dtype=float) for name, own in values.items()}
    everything = np.concatenate([np.empty(0), *arrays.values()])
    for ax in axes[len(values) :]:
        ax.set_axis_off()
    if not everything.size:
        for ax in axes:
            message(axis(ax), "no candidates scored yet")
        return axes
    low, high = everything.min(), everything.max()
    if np.isclose(low, high):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    for number, (ax, (name, own)) in enumerate(zip(axes, arrays.items(), strict=False)):
        axis(ax)
        ax.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
        ax.set_xlabel(xlabel)
        ax.set_ylabel("candidates")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if not own.size:
            message(ax, f"{name}: no candidates scored yet")
            continue
        _plot_variant(own, edges.tolist(), winners.get(name), COLOURS[number % len(COLOURS)], ax)
        ax.set_title(f"{name.upper()}, n = {own.size}", fontsize="medium")
        ax.label_outer()
        ax.legend(frameon=False, fontsize="small")
    return axes


def _plot_variant(values: NDArray[np.float64], edges: list[float], winner: float | None, colour: str, ax: Axes) -> None:
    ax.hist(values, edges, histtype="stepfilled", facecolor=(colour, 0.3), edgecolor=colour, linewidth=0.8)
    spread = f" ± {values.std(ddof=1):.2f}" if values.size > 1 else ""
    ax.axvline(values.mean(), color=colour, linewidth=1.2, linestyle="--", label=f"mean {values.mean():.2f}{spread}")
    if winner is not None:  # it stands on the axis, whatever the counts
        (mark,) = ax.plot(winner, 0.03, marker="v", color="k", markersize=7, linestyle="none", clip_on=False)
        mark.set(transform=ax.get_xaxis_transform(), label=f"selected {winner:.2f}")


def plot_best_of(
    draws: Sequence[int],
    spreads: Mapping[str, Sequence[tuple[float, float, float]]],
    single: Mapping[str, float],
    ax: Axes | None = None,
    ylabel: str = "accuracy of the best of T [%]",
) -> Axes:
    """The best of T candidates by T, a line a variant: the mean, with a bar from the 5% to the 95% quantile.

    spreads: (mean, low, high) for each of `draws`. single: the argmax cell, drawn as a star at T = 1.
    """
    ax = axis(ax)
    if not any(len(rows) for rows in spreads.values()):
        return message(ax, "no candidates scored yet")
    for number, (name, rows) in enumerate(spreads.items()):
        colour = COLOURS[number % len(COLOURS)]
        shift = 1 + 0.06 * (number - (len(spreads) - 1) / 2)  # bars side by side on the logarithmic axis
        x = np.array(draws) * shift
        mean, low, high = np.array(rows).T
        ax.errorbar(
            x,
            mean,
            np.maximum((mean - low, high - mean), 0),  # a mean can lie beyond a quantile
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=name.upper(),
        )
        if name in single:
            ax.plot(shift, single[name], marker="*", markersize=10, color=colour, markeredgecolor="k", linestyle="none")
    if single:
        ax.plot(
            [], [], marker="*", markersize=10, color="w", markeredgecolor="k", linestyle="none", label="argmax cell"
        )
    ax.set_xscale("log")
    ax.set_xticks(list(draws), [f"{draw:,}" for draw in draws])
    ax.minorticks_off()
    ax.set(xlabel="T, candidates drawn", ylabel=ylabel)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_scatter(
    predicted: Values, true: Values, ax: Axes | None = None, beside: tuple[Axes, Axes] | None = None
) -> Axes:
    """One-shot accuracy against accuracy after training from scratch, in percent, a dot a network.

    beside: the axes above and to the right, for the histograms of either side.
    """
    ax = axis(ax, (4.6, 4.4))
    x, y = np.asarray(predicted, dtype=float), np.asarray(true, dtype=float)
    if not x.size:
        return message(ax, "no networks trained yet")
    ax.scatter(x, y, s=12, color=COLOURS[0], alpha=0.6, linewidths=0)
    ax.set(xlabel="one-shot accuracy on D_val [%]", ylabel="accuracy after training from scratch [%]")
    if beside is not None:
        for side, values, orientation in zip(beside, (x, y), ("vertical", "horizontal"), strict=True):
            side.hist(values, "auto", orientation=orientation, color=(COLOURS[0], 0.4))  # type: ignore[arg-type]
            side.set_axis_off()
    return ax


def plot_by_gap(shares: Mapping[str, Sequence[tuple[float, float, float, float]]], ax: Axes | None = None) -> Axes:
    """Share of good pairs by the gap in accuracy, a line a predictor, both in percent; the bars are 95% intervals.

    shares: (mean gap, share, low, high) of each bin, by predictor.
    """
    ax = axis(ax)
    if not any(len(rows) for rows in shares.values()):
        return message(ax, "no pairs compared yet")
    for number, (name, rows) in enumerate(shares.items()):
        if rows:
            gap, share, low, high = np.array(rows).T
            gap = gap * (1 + 0.02 * (number - (len(shares) - 1) / 2))  # bars side by side
            colour = COLOURS[number % len(COLOURS)]
            ax.errorbar(
                gap,
                share,
                np.maximum((share - low, high - share), 0),  # by rounding
                color=colour,
                marker="o",
                markersize=4,
                linewidth=1.2,
                capsize=2,
                label=name,
            )
    ax.axhline(50, color="#595959", linewidth=0.8, linestyle=":")
    ax.set(xlabel="gap in accuracy after training [points]", ylabel="good pairs [%]", ylim=(0, 103))
    ax.legend(frameon=False, fontsize="small")
    return ax
