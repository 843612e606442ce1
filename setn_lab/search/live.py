"""The curves of a search while it is trained, as a picture to be drawn again and again."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from setn_lab.figures import plots
from setn_lab.search.results import SearchRun


def curves(folder: Path) -> Callable[[], bytes | None]:
    """A function that draws loss, accuracy and entropy of the search in `folder` by epoch, as a PNG picture.

    The entropy is that of an architecture in percent of a uniform one's. None where no epoch is recorded yet. Of the
    journals only the short one is read, so that a picture costs the same at all epochs.
    """
    run = SearchRun.read(folder)
    uniform = run.kit.evaluator(run.space).distributions().entropy()

    def draw() -> bytes | None:
        metrics = run.journal("metrics")
        if not metrics:
            return None
        figure = Figure(figsize=(10, 2.6), dpi=90, layout="constrained")  # none of pyplot's, which a cell would show
        loss, accuracy, entropy = figure.subplots(1, 3)
        plots.plot_loss(metrics, loss)
        plots.plot_accuracy(metrics, accuracy)
        shares = np.array([100 * record["entropy"] / uniform for record in metrics])
        plots.plot_entropy([record["epoch"] for record in metrics], {"an architecture": shares}, entropy)
        entropy.set(ylabel="entropy [% of uniform]", ylim=(0, 105))
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        return picture.getvalue()

    return draw
