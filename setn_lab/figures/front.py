"""What is not beaten in two things at once: the Pareto front, and its figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from setn_lab.figures.plots import COLOURS, axis, message


def non_dominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of n points (n, k) no other one dominates, where less is better in each of the k: (n,).

    A point dominates another where it is nowhere more and somewhere less. Of equal points all are on the front; a point
    with a value that is not finite is not.
    """
    finite: NDArray[np.bool_] = np.array(np.isfinite(values).all(axis=1))
    found = finite.copy()
    points = values[finite]
    for place, point in zip(np.flatnonzero(finite), points, strict=True):
        found[place] = not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
    return found


def plot_front(
    costs: NDArray[np.float64],
    loss: NDArray[np.float64],
    sources: Mapping[str, NDArray[np.bool_]],
    xlabel: str,
    cap: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Loss against cost (n,) each: a dot an architecture, a colour a source, and the front as a line of rings.

    sources: which of the n are whose, by name. cap: a dashed line, in the unit of the costs.
    """
    ax = axis(ax)
    front = np.flatnonzero(non_dominated(np.stack([costs, loss], axis=1)))
    if not len(front):
        return message(ax, "no candidates scored yet")
    front = front[np.lexsort((loss[front], costs[front]))]
    for colour, (name, own) in zip(COLOURS, sources.items(), strict=False):
        if own.any():
            text = f"{name}: n = {own.sum()}"
            ax.plot(costs[own], loss[own], "o", color=colour, markersize=3, markeredgewidth=0, alpha=0.6, label=text)
    text = f"front: n = {len(front)}"
    ring: dict[str, Any] = {"markersize": 6, "markerfacecolor": "none", "markeredgewidth": 0.9}
    ax.plot(costs[front], loss[front], "o-", color="black", linewidth=0.9, drawstyle="steps-post", label=text, **ring)
    if cap is not None:
        ax.axvline(cap, color="#595959", linewidth=1, linestyle="--", label="cap")
    ax.set(xlabel=xlabel, ylabel="one-shot loss [nats]")
    ax.legend(fontsize="small", edgecolor="none", framealpha=0.85)
    return ax
