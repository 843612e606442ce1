"""Several runs side by side: their curves and their candidates' scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from setn_lab.figures import plots
from setn_lab.inspection import pictures


def comparison_figure(metrics: Mapping[str, Sequence[Mapping[str, Any]]], scores: Mapping[str, pd.DataFrame]) -> Figure:
    """Several runs by name, a colour each: losses and entropy over the epochs, and their candidates' scores."""
    figure = pictures.Figure(figsize=(13, 6.4), dpi=pictures.DPI, layout="constrained")
    (loss, entropy), (accuracies, losses) = figure.subplots(2, 2)
    for ax, keys, text in (
        (loss, {"weight_loss": "-", "evaluator_loss": "--"}, "cross-entropy [nats]"),
        (entropy, {"entropy": "-"}, "entropy of an architecture [nats]"),
    ):
        plots.axis(ax)
        for number, (name, records) in enumerate(metrics.items()):
            epochs = [record["epoch"] for record in records]
            dot = "o" if len(records) == 1 else None
            for key, style in keys.items():
                values = np.array([record.get(key) for record in records], dtype=float)
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
    for ax, (column, xlabel) in zip((accuracies, losses), pictures.CANDIDATE_AXES.items(), strict=True):
        # a run without candidates keeps its colour for the others' sake: an empty list takes one
        by_run = {_plain(name): scores[name][column].tolist() if name in scores else [] for name in metrics}
        plots.plot_candidates(by_run, ax, xlabel=xlabel)
    return figure


def _plain(name: str) -> str:
    """A folder's name as matplotlib writes it: no formulas, no underscore in front, which hides a legend's entry."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")
