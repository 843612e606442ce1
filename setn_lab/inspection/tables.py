"""Small tables for the inspectors: what an evaluator prefers, and how runs differ."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from setn_lab.evaluator.protocol import DistributionsProtocol


def preferences(distributions: DistributionsProtocol) -> list[pd.DataFrame]:
    """For each type of cell, a table of the most probable choices, their probabilities, and the entropies in nats.

    A distribution without any preference has the logarithm of its number of choices as entropy.
    """
    types = range(distributions.space.cell_types)
    return [pd.DataFrame(distributions.preferences(cell_type)) for cell_type in types]


def likeliest(distributions: DistributionsProtocol) -> tuple[Any, str]:
    """The most probable architecture, and a sentence that says how probable it is and whether it is the argmax."""
    likely, argmax = distributions.most_likely(), distributions.space.canonical(distributions.argmax())
    probabilities = [float(distributions.log_probability(architecture)) for architecture in (likely, argmax)]
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
