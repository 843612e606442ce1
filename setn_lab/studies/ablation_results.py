"""What an ablation study has come to, read from its run folder: the candidates of each variant, and every figure."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setn_lab.runs.run import read_journal
from setn_lab.search.config import BY_SCORES
from setn_lab.search.verdict import drawn
from setn_lab.studies import tables
from setn_lab.studies.ablation import SEARCHES, VARIANTS, AblationConfig
from setn_lab.studies.statistics.samples import BestOf, best_of, compare, describe, shares_above

DRAWS = (1, 10, 100, 1000)  # T
Records = list[dict[str, Any]]
INDEPENDENT = tuple(name for name, variant in VARIANTS.items() if variant.source not in BY_SCORES)  # draws


def scored(folder: Path) -> dict[str, Records]:
    """The finished candidates of each variant: those with a finite loss; variants without any are left out."""
    records = {name: read_journal(folder / f"{name}.jsonl") for name in VARIANTS}
    finite = {name: [record for record in own if np.isfinite(record["loss"])] for name, own in records.items()}
    return {name: own for name, own in finite.items() if own}


def argmax(folder: Path) -> dict[str, dict[str, Any]]:
    """The scored argmax cell (T = 1) of each search; one without a finite loss is left out."""
    records = {name: read_journal(folder / f"argmax-{name}.jsonl") for name in SEARCHES}
    return {name: own[0] for name, own in records.items() if own and np.isfinite(own[0]["loss"])}


def selected(records: Records) -> dict[str, Any]:
    """The candidate of the lowest loss (Algorithm 1), the first among equals."""
    return min(records, key=lambda record: record["loss"])


def summary(folder: Path) -> dict[str, Any]:
    """Every figure of the study by name, as it goes into summary.json; accuracies in 0 .. 1, losses in nats."""
    config, records = tables.read_config(AblationConfig, folder), scored(folder)
    losses = {name: drawn(own, "loss") for name, own in records.items()}
    accuracies = {name: drawn(own, "accuracy") for name, own in records.items()}
    everything = {name: read_journal(folder / f"{name}.jsonl") for name in records}
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    variants: dict[str, Any] = {}
    for name, own in records.items():
        chosen = selected(own)
        accuracy, loss = describe(accuracies[name]), describe(losses[name])
        variants[name] = {
            "run": runs[VARIANTS[name].search],
            "candidates": accuracy.count,
            "distinct": len(own),
            "not_finite": sum(record["draws"] for record in everything[name]) - accuracy.count,
            "mean_accuracy": accuracy.mean,
            "std_accuracy": accuracy.std,
            "accuracy_quantiles": {f"{level:g}": value for level, value in accuracy.quantiles.items()},
            "best_accuracy": accuracy.maximum,
            "mean_loss": loss.mean,
            "below_uniform": _below_uniform(losses, name),
            "std_loss": loss.std,
            "lowest_loss": loss.minimum,
            "share_above": dict(
                zip(
                    [f"{limit:g}%" for limit in config.limits],
                    shares_above(accuracies[name], [limit / 100 for limit in config.limits]),
                    strict=True,
                )
            ),
            "selected": {key: chosen[key] for key in ("genotype", "accuracy", "loss")},
        }
    comparisons = {
        other: {
            "accuracy": asdict(compare(accuracies["setn"], accuracies[other])),
            "loss": asdict(compare(losses["setn"], losses[other])),
        }
        for other in records
        if other in INDEPENDENT and other != "setn" and "setn" in records
    }
    return {
        "run": folder.name,
        "variants": variants,
        "setn_against": comparisons,
        "argmax": {name: {key: record[key] for key in ("accuracy", "loss")} for name, record in argmax(folder).items()},
        "best_of": {
            name: [asdict(row) for row in best_of_draws(own)] for name, own in records.items() if name in INDEPENDENT
        },
        "costs": json.loads((folder / "costs.json").read_text(encoding="utf-8"))
        if (folder / "costs.json").exists()
        else [],
    }


def _below_uniform(losses: dict[str, NDArray[np.float64]], name: str) -> float | None:
    """How far the variant's mean loss lies below that of uniform candidates, in their standard deviations.

    None without uniform candidates of the same template.
    """
    uniform = losses.get("setn-rand")
    shared = SEARCHES[VARIANTS[name].search].strategy == SEARCHES[VARIANTS["setn-rand"].search].strategy
    if uniform is None or len(uniform) < 2 or not shared:
        return None
    deviation = float(np.std(uniform, ddof=1))
    return float(np.mean(uniform) - np.mean(losses[name])) / deviation if deviation else None


def best_of_draws(records: Records) -> list[BestOf]:
    """Selection by the lowest loss among T draws, and what the selected one's accuracy and loss are then."""
    values = {key: np.array([record[key] for record in records], dtype=float) for key in ("accuracy", "loss")}
    weights = np.array([record["draws"] for record in records], dtype=float)
    return best_of(values["loss"], values, DRAWS, lowest=True, weights=weights)
