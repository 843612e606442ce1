"""What run it is that the inspectors show: its images, parameters, result and state, in words."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from setn_lab.config import completed
from setn_lab.inspection.reading import read_config, sentence
from setn_lab.inspection.runs import Row, row
from setn_lab.runs import identity
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import epoch_line
from setn_lab.search.config import SearchConfig

MAIN = ("space", "nodes", "channels", "repeats", "strategy", "epochs", "evaluator_gradient", "candidates", "seed")
ELSEWHERE = ("dataset", "data_dir", "run_dir", "interactive")  # told by other rows, or nothing of the search


def about(folder: Path) -> dict[str, str]:
    """The rows of a table on a search's run folder: run, state, result, images, parameters, and all that were changed.

    Raises InspectionError where the folder is gone, empty or cannot be read.
    """
    stored = read_config(folder)
    with sentence(folder):
        config = completed(SearchConfig, stored)
        found = row(folder, "search")
        default = {field.name: field.default for field in fields(SearchConfig)}
        changed = [name for name in config if name not in (*MAIN, *ELSEWHERE) and config[name] != default.get(name)]
        return {
            "run": folder.name,
            "state": found.state,
            "result": _result(folder, found),
            "data set": _images(folder, config),
            "parameters": _assignments(config, MAIN),
            **({"changed from their defaults": _assignments(config, changed)} if changed else {}),
        }


def _result(folder: Path, found: Row) -> str:
    """The best candidate so far, else the newest epoch."""
    if found.best:
        return f"best candidate: {found.best}" + (f" ({found.cost})" if found.cost else "")
    metrics = read_journal(folder / "metrics.jsonl")
    return epoch_line(metrics[-1]) if metrics else "none yet"


def _images(folder: Path, config: dict[str, Any]) -> str:
    """The data set's name, and what the run has noted of it, which earlier versions have not."""
    facts = (identity.read(folder) or {"contents": {}})["contents"].get("dataset", {})
    if not {"images", "side", "channels", "classes"} <= facts.keys():
        return str(config["dataset"])
    size = f"{facts['side']} x {facts['side']}"
    return (
        f"{config['dataset']}: {facts['images']:,} images, {size}, {facts['channels']} channel"
        f"{'s' if facts['channels'] > 1 else ''}, {len(facts['classes'])} classes"
    )


def _assignments(config: dict[str, Any], names: Any) -> str:
    return ", ".join(f"{name} = {json.dumps(config[name])}" for name in names)
