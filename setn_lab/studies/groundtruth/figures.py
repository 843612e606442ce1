"""The figures of the study with true accuracies."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from setn_lab.figures import plots
from setn_lab.studies.groundtruth.results import Sample, Study, spread_of
from setn_lab.studies.groundtruth.table import BenchmarkTable


def epochs_figure(study: Study) -> Figure:
    """The true accuracy under the evaluator after each epoch, an axis a row: means, a line a seed, and middle 80%.

    Grey: mean and middle 80% of uniform architectures.
    """
    found, truth = study.rows, study.truth
    mean, low, _, high = spread_of(truth.accuracy, np.ones(len(truth.accuracy)))
    figure, axes = _axes(len(found), sharey=True)
    for ax, (name, seeds) in zip(axes, found.items(), strict=True):
        plots.axis(ax)
        ax.axhspan(low, high, color="#000000", alpha=0.08, linewidth=0)
        ax.axhline(mean, color="#595959", linewidth=1, linestyle=":", label="uniform")
        for result in seeds:
            means, least, _, most = np.array(result.spread).T
            colour = plots.COLOURS[result.seed % len(plots.COLOURS)]
            ax.plot(result.epochs, means, color=colour, linewidth=1.5, label=f"seed {result.seed}")
            ax.fill_between(result.epochs, least, most, color=colour, alpha=0.15, linewidth=0)
        ax.set(ylim=_range(truth))
        ax.set_title(title(name), fontsize="small")
        plots.epochs_below(ax)
    axes[0].set_ylabel("true accuracy [%]")
    axes[0].legend(frameon=False, fontsize="small")
    return figure


def _range(truth: BenchmarkTable) -> tuple[float, float]:
    """The accuracies that a figure shows: the middle 80%, as much below, and all above; a few lie far below."""
    _, low, _, high = spread_of(truth.accuracy, np.ones(len(truth.accuracy)))
    return 2 * low - high, truth.accuracy.max() + (high - low) / 20


def title(row: str) -> str:
    """The name of a row, in lines that fit above an axis: one of many changes is wide."""
    return textwrap.fill(row.replace("+", " + "), 40)


def _axes(count: int, sharey: bool) -> tuple[Figure, list[Axes]]:
    """A figure with that many square axes, four in a line."""
    columns = min(count, 4)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.3 * columns, 3.2 * rows), layout="constrained", squeeze=False, sharey=sharey
    )
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return figure, list(axes.flat[:count])


def scatter_figure(study: Study) -> Figure:
    """One-shot loss against true accuracy of the uniform architectures, an axis a row, of its first complete seed.

    A few of the worst architectures lie outside: to the left of it, and above the loss of all but 2%.
    """
    truth = study.truth
    figure, axes = _axes(len(study.rows), sharey=False)
    for ax, (name, seeds) in zip(axes, study.rows.items(), strict=True):
        sample = Sample.read(study.folder / f"{name}-{seeds[0].seed}.uniform.jsonl")
        plots.axis(ax)
        ax.scatter(truth.of(sample.architectures), sample.loss, s=5, color=plots.COLOURS[0], alpha=0.4, linewidths=0)
        low, high = sample.loss.min(), np.quantile(sample.loss, 0.98)
        ax.set(xlabel="true accuracy [%]", xlim=_range(truth), ylim=(low - (high - low) / 20, high + (high - low) / 20))
        ax.set_title(title(name), fontsize="small")
    axes[0].set_ylabel("one-shot loss [nats]")
    return figure
