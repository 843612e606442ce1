"""What there is to see of an evaluator, as numbers with names; `plots.plot_panel` draws one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from setn_lab.space.names import edge_names, label
from setn_lab.space.protocol import Space


class Panel(NamedTuple):
    """A part of an evaluator to look at: a matrix with a title and names for its rows and columns.

    values: (..., rows, columns), NaN where there is no choice. form: how a value is written.
    """

    title: str
    rows: list[str]
    columns: list[str]
    values: NDArray[np.float64]
    form: str
    rows_name: str = ""
    columns_name: str = ""


def mixing_panel(space: Space, weights: NDArray[np.float64], title: str) -> Panel:
    """The mixing weights (..., edges, |O|) of one cell type; those of a node of the paper's space sum to 2."""
    return Panel(title, edge_names(space), [label(name) for name in space.operations], weights, "{:.2f}")
