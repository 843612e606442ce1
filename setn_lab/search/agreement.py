"""Whether the evaluator, trained through Eq. 10, ranks what the discrete networks rank."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from setn_lab.evaluator.protocol import DistributionsProtocol
from setn_lab.figures.page import table
from setn_lab.space.names import label


@dataclass(frozen=True)
class Agreement:
    """Spearman's rho of uniformly drawn architectures' one-shot losses; 0 where a side does not vary.

    overall: with the evaluator's log-probability. nodes (cell types, B): with that of one node. uses (cell types, |O|):
    with how often the architecture uses an operation in cells of that type. shares (cell types, |O|): the operation's
    share in the evaluator's mixing weights over its share in uniform ones.
    """

    overall: float
    nodes: NDArray[np.float64]
    uses: NDArray[np.float64]
    shares: NDArray[np.float64]


def agreement(
    evaluator: DistributionsProtocol, architectures: NDArray[np.int64], losses: NDArray[np.float64]
) -> Agreement:
    """Compare the evaluator with the losses (n,) of uniformly drawn architectures (n, cell types, ...).

    Raises ValueError for fewer than 3 architectures.
    """
    if len(losses) < 3:
        raise ValueError(f"losses: {len(losses)} given; at least 3 are needed to rank anything")
    space = evaluator.space
    by_node = evaluator.node_log_probability(architectures)  # (n, cell types, B)
    operations, _ = space.operands(architectures)  # (n, cell types, terms)
    used = (operations[..., None] == np.arange(len(space.operations))).sum(-2)  # (n, cell types, |O|)
    weight = evaluator.mixing_weights().sum(1)  # (cell types, |O|)
    return Agreement(
        overall=_rho(by_node.sum((-2, -1)), losses),
        nodes=np.apply_along_axis(_rho, 0, by_node, losses),
        uses=np.apply_along_axis(_rho, 0, used, losses),
        shares=weight / weight.mean(-1, keepdims=True),  # uniform weights are as large for each operation
    )


def section(last: DistributionsProtocol, uniform: list[dict[str, Any]]) -> list[str]:
    """The tables of `agreement` with uniform candidates as paragraphs of Markdown, or why there are none."""
    if len(uniform) < 3:
        return ["Fewer than three uniform candidates were scored."]
    space = last.space
    architectures = np.stack([space.encode(space.read(record["genotype"])) for record in uniform])
    found = agreement(last, architectures, np.array([record["loss"] for record in uniform]))
    nodes = [[name, *(f"{rho:+.2f}" for rho in row)] for name, row in zip(space.cell_names, found.nodes, strict=True)]
    head = [text for name in space.cell_names for text in (f"{name}: share", "use and loss")]
    operations = []
    for index, operation in enumerate(space.operations):
        pairs = zip(found.shares[:, index], found.uses[:, index], strict=True)
        operations.append(
            [label(operation), *(text for share, rho in pairs for text in (f"{share:.2f}", f"{rho:+.2f}"))]
        )
    return [
        f"Over the {len(uniform)} uniform candidates, Spearman's rho between the evaluator's log-probability and the "
        f"one-shot loss is {found.overall:+.3f} (negative is right; without any relation it would lie within "
        f"±{1.96 / (len(uniform) - 1) ** 0.5:.2f} in 95 of 100 cases). By node:",
        table(["cell", *(f"node {node}" for node in range(space.nodes))], nodes),
        "By operation: its share in the evaluator's mixing weights over its share in uniform ones, and Spearman's rho "
        "between how often a uniform candidate uses it and that candidate's loss (negative: it helps).",
        table(["operation", *head], operations),
    ]


def _rho(values: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    if np.ptp(values) == 0 or np.ptp(losses) == 0:
        return 0.0
    return float(spearmanr(values, losses).statistic)
