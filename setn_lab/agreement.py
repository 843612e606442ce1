"""Whether the evaluator, trained through Eq. 10, ranks what the discrete networks rank."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from setn_lab.evaluator import Distributions
from setn_lab.space import Quadruples


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


def _rho(values: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    if np.ptp(values) == 0 or np.ptp(losses) == 0:
        return 0.0
    return float(spearmanr(values, losses).statistic)
