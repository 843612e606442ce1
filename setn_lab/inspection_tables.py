"""Small tables for the inspectors: what an evaluator prefers, and how runs differ."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from setn_lab.edge_evaluator import EdgeDistributions
from setn_lab.evaluator import KINDS, Distributions
from setn_lab.genotype import INPUTS


def preferences(distributions: Distributions | EdgeDistributions) -> list[pd.DataFrame]:
    """For each kind of cell, a table of the most probable choices, their probabilities, and the entropies in nats.

    A row a node, with its inputs of r1 (f) and of r2 (g) and its pair of operations (h); or a row an edge, with its
    operation. A distribution without any preference has the logarithm of its number of choices as entropy.
    """
    if isinstance(distributions, EdgeDistributions):
        return [_edge_preferences(distributions)]
    space, entropies = distributions.space, distributions.entropies()
    pair = [
        f"{space.operations[r1]} + {space.operations[r2]}"
        for r1 in range(len(space.operations))
        for r2 in range(r1 + 1)
    ]
    tables = []
    for kind in range(KINDS):
        rows = []
        for node in range(space.nodes):
            f, g, h = (p[kind, node] for p in (distributions.f, distributions.g, distributions.h))
            row = {
                "node": node,
                "input of r1": f"{state_text(int(f.argmax()))} ({f.max():.0%})",
                "input of r2": f"{state_text(int(g.argmax()))} ({g.max():.0%})",
                "operations r1 + r2": f"{pair[h.argmax()]} ({h.max():.1%})",
            }
            row |= {f"entropy of {name} [nats]": values[kind, node] for name, values in entropies.items()}
            rows.append(row)
        tables.append(pd.DataFrame(rows))
    return tables


def _edge_preferences(distributions: EdgeDistributions) -> pd.DataFrame:
    space, entropies = distributions.space, distributions.entropies()["alpha"][0]
    rows = []
    for (node, state), alpha, entropy in zip(space.edges, distributions.alpha[0], entropies, strict=True):
        name = space.operations[alpha.argmax()]
        edge = f"{'input' if state == 0 else f'node {state - 1}'} to node {node}"
        rows.append({"edge": edge, "operation": f"{name} ({alpha.max():.0%})", "entropy [nats]": entropy})
    return pd.DataFrame(rows)


def likeliest(distributions: Distributions | EdgeDistributions) -> tuple[Any, str]:
    """The most probable architecture, and a sentence that says how probable it is and whether it is the argmax."""
    likely, argmax = distributions.most_likely(), distributions.space.canonical(distributions.argmax())
    probabilities = [float(distributions.log_probability(one)) for one in (likely, argmax)]
    text = f"The most likely architecture has the log-probability {probabilities[0]:.2f} nats"
    if (likely == argmax).all():
        text += "; it is the argmax of each distribution (T = 1)."
    else:
        text += (
            f", the argmax of each distribution (T = 1) has {probabilities[1]:.2f}: one operation on two different "
            "inputs has two encodings, whose probabilities add."
        )
    return distributions.space.genotype(likely), text


def config_differences(configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The parameters in which runs, by name, differ: a row a parameter, a column a run, "-" where it has none."""
    names = list(dict.fromkeys(name for config in configs.values() for name in config))
    rows = []
    for name in names:
        values = {run: json.dumps(config[name]) if name in config else "-" for run, config in configs.items()}
        if len(set(values.values())) > 1:
            rows.append({"parameter": name, **values})
    return pd.DataFrame(rows, columns=["parameter", *configs])


def state_text(state: int) -> str:
    """What texts call a state: "c_{k-2}", "c_{k-1}", then "node 0" and so on."""
    return ("c_{k-2}", "c_{k-1}")[state] if state < INPUTS else f"node {state - INPUTS}"
