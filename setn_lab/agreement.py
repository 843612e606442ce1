"""Whether the evaluator, trained through Eq. 10, ranks what the discrete networks rank."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from setn_lab.cells import label
from setn_lab.evaluator import Distributions
from setn_lab.space import Quadruples, Space
from setn_lab.spaces import distributions, kind_names


@dataclass(frozen=True)
class Agreement:
    """Spearman's rho of uniformly drawn architectures' one-shot losses; 0 where a side does not vary.

    overall: with the evaluator's log-probability. nodes (2, B): with that of one node. uses (2, |O|): with how
    often the architecture uses an operation in that kind of cell. shares (2, |O|): the operation's share in the
    evaluator's mixing weights over its share in uniform ones.
    """

    overall: float
    nodes: NDArray[np.float64]
    uses: NDArray[np.float64]
    shares: NDArray[np.float64]


def agreement(evaluator: Distributions, quadruples: Quadruples, losses: NDArray[np.float64]) -> Agreement:
    """Compare the evaluator with the losses (n,) of uniformly drawn architectures (n, 2, B, 4).

    Raises ValueError for fewer than 3 architectures.
    """
    if len(losses) < 3:
        raise ValueError(f"losses: {len(losses)} given; at least 3 are needed to rank anything")
    space = evaluator.space
    by_node = evaluator.node_log_probability(quadruples)  # (n, 2, B)
    operations = np.arange(len(space.operations))
    used = (quadruples[..., :2, None] == operations).sum((-3, -2))  # (n, 2, |O|)
    weight = evaluator.mixing_weights().sum(1)  # (2, |O|)
    return Agreement(
        overall=_rho(by_node.sum((-2, -1)), losses),
        nodes=np.apply_along_axis(_rho, 0, by_node, losses),
        uses=np.apply_along_axis(_rho, 0, used, losses),
        shares=weight / (2 * space.nodes / len(space.operations)),  # the weights of a node sum to 2
    )


def section(space: Space, uniform: list[dict[str, Any]], evaluator: list[dict[str, Any]]) -> list[str]:
    """The tables of `agreement` as lines of Markdown, or why there are none, from a run's two journals."""
    if len(uniform) < 3:
        return ["Fewer than three uniform candidates were scored.", ""]
    last = distributions(space, evaluator[-1])
    if not isinstance(last, Distributions):
        return ["The study with true accuracies says more of this space: notebooks/groundtruth.ipynb.", ""]
    quadruples = np.stack([space.encode(space.read(one["genotype"])) for one in uniform])
    found = agreement(last, quadruples, np.array([one["loss"] for one in uniform]))
    lines = [
        f"Over the {len(uniform)} uniform candidates, Spearman's rho between the evaluator's log-probability and the "
        f"one-shot loss is {found.overall:+.3f} (negative is right; without any relation it would lie within "
        f"±{1.96 / (len(uniform) - 1) ** 0.5:.2f} in 95 of 100 cases). By node:",
        "",
        "| cell | " + " | ".join(f"node {node}" for node in range(space.nodes)) + " |",
        "|---" * (space.nodes + 1) + "|",
    ]
    for name, row in zip(kind_names(space), found.nodes, strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{rho:+.2f}" for rho in row) + " |")
    lines += [
        "",
        "By operation: its share in the evaluator's mixing weights over its share in uniform ones, and Spearman's rho "
        "between how often a uniform candidate uses it and that candidate's loss (negative: it helps).",
        "",
        "| operation | normal: share | use and loss | reduction: share | use and loss |",
        "|---|---|---|---|---|",
    ]
    for index, operation in enumerate(space.operations):
        cells_of = (f"{found.shares[kind, index]:.2f} | {found.uses[kind, index]:+.2f}" for kind in (0, 1))
        lines.append(f"| {label(operation)} | " + " | ".join(cells_of) + " |")
    return [*lines, ""]


def _rho(values: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    if np.ptp(values) == 0 or np.ptp(losses) == 0:
        return 0.0
    return float(spearmanr(values, losses).statistic)
