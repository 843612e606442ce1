"""What the files of a run folder say, for each kind of run: how far it is, what it found, and what that costs.

Read without torch, but for runs of older versions. Files that are damaged or of another version raise one of
`UNREADABLE`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal

UNREADABLE = ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RunError, TypeError, ValueError
FINISHED = "finished"


@dataclass(frozen=True)
class Found:
    """What the files of a run folder say. reached: how far it is. done: in words, where it is at an end."""

    reached: str
    done: str = ""
    best: str = ""
    parameters: int | None = None
    seconds: float = 0.0
    epochs: int | None = None
    gain: float | None = None
    best_loss: float | None = None
    genotype: str = ""


def _search(folder: Path, config: dict[str, Any]) -> Found:
    metrics, scored = read_journal(folder / "metrics.jsonl"), read_journal(folder / "candidates.jsonl")
    most = max((record["images"] for record in scored), default=0)
    whole = [record for record in scored if record["images"] == most and math.isfinite(record["loss"])]
    best = ""
    if whole:  # those that no race has dropped
        by_accuracy = config["select_by"] == "accuracy"
        found = max(whole, key=lambda record: record["accuracy"] if by_accuracy else -record["loss"])
        best = f"loss {found['loss']:.3f}, accuracy {found['accuracy']:.1%}"
    done = metrics[-1]["epoch"] if metrics else 0
    common: dict[str, Any] = {
        "seconds": sum(record["seconds"] for record in metrics),
        "epochs": done,
        "gain": _gain(folder, config, scored),
        "best_loss": min((record["loss"] for record in whole), default=None),
    }
    epochs = config["epochs"] + config.get("evaluator_epochs", 0)
    if done < epochs:
        return Found(f"epoch {done} of {epochs}", "", best, **common)
    reached = f"candidate {len(scored)}"
    if not (folder / "genotype.json").exists():  # stopped here, or a study's search, which chooses none
        return Found(reached, f"trained, {len(scored)} candidates scored", best, **common)
    genotype = (folder / "genotype.json").read_text(encoding="utf-8")
    return Found(reached, FINISHED, best, _winners_parameters(folder), genotype=genotype, **common)


def _gain(folder: Path, config: dict[str, Any], scored: list[dict[str, Any]]) -> float | None:
    """By how much the evaluator's draws have a lower mean loss than uniform ones; None where that cannot be said."""
    uniform = read_journal(folder / "baseline.jsonl")
    if config.get("candidate_source", "evaluator") != "evaluator":
        return None
    if len({record["images"] for record in (*scored, *uniform)}) != 1:  # a race, whose losses are of different images
        return None
    means = []
    for records in (uniform, scored):
        finite = [record for record in records if math.isfinite(record["loss"])]
        if not finite:
            return None
        means.append(sum(record["draws"] * record["loss"] for record in finite) / sum(r["draws"] for r in finite))
    return means[0] - means[1]


def _winners_parameters(folder: Path) -> int:
    """Of the winner's network at its final size, as the report of a search leaves it in sizes.json."""
    if (folder / "sizes.json").exists():
        return json.loads((folder / "sizes.json").read_text(encoding="utf-8"))[-1]["parameters"]
    from setn_lab.search.results import SearchRun  # a run of an older version: torch has to count them

    run = SearchRun.read(folder)
    return run.sizes(run.genotype())[-1].parameters


def _retrain(folder: Path, config: dict[str, Any]) -> Found:
    records = read_journal(folder / "metrics.jsonl")
    last = {record["seed"]: record["test_error"] for record in records}
    exported = sorted(folder.glob("network-*.safetensors"))
    return Found(
        f"epoch {len(records)} of {config['epochs'] * config['seeds']}",
        FINISHED if len(exported) == config["seeds"] else "",
        f"test error {fmean(last.values()):.2%}" if last else "",
        _exported_parameters(exported[0]) if exported else None,
        sum(record["seconds"] for record in records),
        len(records),
    )


def _exported_parameters(path: Path) -> int:
    """Of the network in a safetensors file, from the shapes in its header."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms
    return sum(
        math.prod(value["shape"])
        for name, value in header.items()
        if name != "__metadata__" and not name.endswith(statistics)
    )


def _ablation(folder: Path, config: dict[str, Any]) -> Found:
    summary = _summary(folder)
    chosen = {name: variant["selected"]["accuracy"] for name, variant in summary.get("variants", {}).items()}
    best = max(chosen, key=chosen.__getitem__, default="")
    searches = len(list(folder.glob("argmax-*.jsonl")))
    return Found(f"search {searches}", _end(summary), f"{best}: accuracy {chosen[best]:.1%}" if best else "")


def _ranking(folder: Path, config: dict[str, Any]) -> Found:
    summary, trained = _summary(folder), read_journal(folder / "trained.jsonl")
    tau = summary.get("kendall_tau")
    scored = len(read_journal(folder / "scored.jsonl"))
    seconds = sum(record.get("seconds", 0.0) for record in trained)
    best = "" if tau is None else f"tau of the accuracy {tau:+.2f}"
    return Found(f"network {len(trained)} of {scored}", _end(summary), best, None, seconds)


def _groundtruth(folder: Path, config: dict[str, Any]) -> Found:
    key, summary = "chosen_true_accuracy_mean", _summary(folder)
    rows = {name: row for name, row in summary.items() if isinstance(row, dict)}
    true = {name: row[key] for name, row in rows.items() if row.get(key) is not None}
    best = max(true, key=true.__getitem__, default="")
    runs = folder / "runs.json"
    searches = len(json.loads(runs.read_text(encoding="utf-8"))) if runs.exists() else 0
    return Found(f"search {searches}", _end(summary), f"{best}: true accuracy {true[best]:.2f}%" if best else "")


def _summary(folder: Path) -> dict[str, Any]:
    """What a study leaves at its end; empty before."""
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _end(summary: dict[str, Any]) -> str:
    return FINISHED if summary else ""


def other(folder: Path, config: dict[str, Any]) -> Found:
    """A study that a user has added."""
    return Found("a place of its own", _end(_summary(folder)))


KINDS: dict[str, Callable[[Path, dict[str, Any]], Found]] = {
    "search": _search,
    "retrain": _retrain,
    "ablation": _ablation,
    "ranking": _ranking,
    "groundtruth": _groundtruth,
}
