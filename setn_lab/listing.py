"""All run folders in a table: what each holds, how far it has come, what it found, and what that costs.

Read without torch, but for runs of older versions; no run is held up, and only failed starts can be removed.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from setn_lab.config import completed
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.lock import MARKER, LockError, holder, in_use, take_lock
from setn_lab.runs.place import run_folder, written
from setn_lab.runs.progress import duration
from setn_lab.runs.run import default_folder

UNREADABLE = ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RunError, TypeError, ValueError
FINISHED = "finished"
HEAD = ("folder", "kind", "started", "state", "best", "cost")


@dataclass(frozen=True)
class Listed:
    """One run folder. reached: how far it is, such as "epoch 3 of 24". done: in a word, where it is at an end.

    best: what it found, such as "test error 3.12%". parameters: of the network that it found. seconds: of training,
    where the folder records it.
    """

    reached: str
    done: str = ""
    best: str = ""
    parameters: int | None = None
    seconds: float = 0.0


BEGUN = {"config.json", "identity.json", "environment.json", "costs.json", "lock", MARKER}  # before anything is done


def failed_starts(root: Path) -> list[Path]:
    """The run folders in `root` in which nothing was ever recorded, and which nobody has open."""
    return [path.parent for path in sorted(root.glob("*/config.json")) if _is_failed(path.parent)]


def _is_failed(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= BEGUN and not in_use(folder)


def remove_failed(root: Path) -> list[Path]:
    """Delete `failed_starts`; returns those that are gone. One that is opened in the same moment stays."""
    removed = []
    for folder in failed_starts(root):
        try:
            lock = take_lock(folder, 0)
        except LockError:
            continue
        try:
            names = {path.name for path in folder.iterdir()}
            if names <= BEGUN:
                for name in names - {"lock", MARKER}:
                    (folder / name).unlink()
                removed.append(folder)
        finally:
            lock.free()
        if folder in removed:
            (folder / "lock").unlink(missing_ok=True)
            folder.rmdir()
    return removed


def newest(root: Path, here: Path, count: int = 10) -> str:
    """The newest runs as Markdown for a notebook in the folder `here`: a table with links to what they have drawn.

    Failed starts would push them out of the table: they are counted below it.
    """
    failed = {folder.name for folder in failed_starts(root)}
    rows = [row for row in listing(root) if row[0] not in failed][:count]
    left_out = (
        f"\n\nLeft out: {len(failed)} in which nothing was ever recorded; `setn-lab runs --remove-failed` deletes them."
        if failed
        else ""
    )
    if not rows:
        return f"{root} holds no run yet.{left_out}"
    lines = ["| run | what | started | state | result | cost | open |", "|---|---|---|---|---|---|---|"]
    for name, *rest in rows:
        figures = sorted((root / name).glob("*.svg"))
        links = [f"[{path.stem}]({os.path.relpath(path, here)})" for path in figures]
        lines.append("| " + " | ".join([f"`{name}`", *rest, ", ".join(links)]) + " |")
    return "\n".join(lines) + left_out


def standing(config: Any, kind: str) -> str:
    """Where the run of this config stands, in a line; `kind` is for example "search".

    Raises what looking for its folder does: ConfigError, and errors of the images that name it.
    """
    folder = default_folder(config, kind) if config.run_dir is None else run_folder(config.run_dir, "run_dir")
    name = written(folder)
    if not (folder / "config.json").exists():
        return f"{name}: a new run"
    try:
        state = state_of(folder, kind)
    except UNREADABLE as error:
        return f"{name}: cannot be read: {error!r}"
    if in_use(folder):
        return f"{name}: {state.text}, by {holder(folder)}; inspect.ipynb shows it with run_dir = {name!r} and `follow`"
    best = f", {state.best}" if state.best else ""
    stored = completed(type(config), json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if others := [field for field in getattr(config, "redone", ()) if stored[field] != getattr(config, field)]:
        return f"{name}: {state.text}{best}; the training is kept, the candidates are others now ({', '.join(others)})"
    return f"{name}: {state.text}{best}; " + ("nothing is left to compute" if state.finished else "goes on from there")


def listing(root: Path) -> list[tuple[str, ...]]:
    """A row, as HEAD says, for each run folder in `root`, the newest first. One that cannot be read says why."""
    folders = [path.parent for path in root.glob("*/environment.json")]
    started = {folder: _written(folder) for folder in folders}
    return [_row(folder, started[folder]) for folder in sorted(folders, key=lambda folder: -started[folder])]


def _written(folder: Path) -> float:
    """When the run was started: config.json is written again for another T, environment.json on another machine."""
    paths = folder / "config.json", folder / "environment.json"
    return min(path.stat().st_mtime for path in paths if path.exists())


def as_text(rows: list[tuple[str, ...]]) -> str:
    """The rows below HEAD in columns."""
    lines = [HEAD, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _row(folder: Path, started: float) -> tuple[str, ...]:
    when = datetime.fromtimestamp(started).strftime("%Y-%m-%d %H:%M")
    kind = "?"
    try:
        kind = str(json.loads((folder / "environment.json").read_text(encoding="utf-8"))["kind"])
        state = state_of(folder, kind)
    except UNREADABLE as error:
        return folder.name, kind, when, f"cannot be read: {error!r}"[:80], "", ""
    return folder.name, kind, when, state.text, state.best, state.cost


class State(NamedTuple):
    """How far a run is, such as "running at epoch 3 of 24", what it found and what that costs, in words."""

    text: str
    best: str
    cost: str

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.text == FINISHED


def state_of(folder: Path, kind: str) -> State:
    """Of the run of that kind in a folder. Raises UNREADABLE."""
    found = KINDS.get(kind, _other)(folder, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    running = in_use(folder)
    text = f"{'running' if running else 'interrupted'} at {found.reached}"
    if found.done and not running:
        text = found.done
    costs = [] if found.parameters is None else [f"{found.parameters / 1e6:.2f} M parameters"]
    costs += [f"trained {duration(found.seconds)}"] if found.seconds else []
    return State(text, found.best, ", ".join(costs))


def _search(folder: Path, config: dict[str, Any]) -> Listed:
    metrics, scored = read_journal(folder / "metrics.jsonl"), read_journal(folder / "candidates.jsonl")
    most = max((record["images"] for record in scored), default=0)
    whole = [record for record in scored if record["images"] == most and math.isfinite(record["loss"])]
    best = ""
    if whole:  # those that no race has dropped
        by_accuracy = config["select_by"] == "accuracy"
        found = max(whole, key=lambda record: record["accuracy"] if by_accuracy else -record["loss"])
        best = f"loss {found['loss']:.3f}, accuracy {found['accuracy']:.1%}"
    seconds = sum(record["seconds"] for record in metrics)
    done = metrics[-1]["epoch"] if metrics else 0
    epochs = config["epochs"] + config.get("evaluator_epochs", 0)
    if done < epochs:
        return Listed(f"epoch {done} of {epochs}", "", best, None, seconds)
    reached = f"candidate {len(scored)}"
    if not (folder / "genotype.json").exists():  # stopped here, or a study's search, which chooses none
        return Listed(reached, f"trained, {len(scored)} candidates scored", best, None, seconds)
    return Listed(reached, FINISHED, best, _winners_parameters(folder), seconds)


def _winners_parameters(folder: Path) -> int:
    """Of the winner's network at its final size, as the report of a search leaves it in sizes.json."""
    if (folder / "sizes.json").exists():
        return json.loads((folder / "sizes.json").read_text(encoding="utf-8"))[-1]["parameters"]
    from setn_lab.search.results import SearchRun  # a run of an older version: torch has to count them

    run = SearchRun.read(folder)
    return run.sizes(run.genotype())[-1].parameters


def _retrain(folder: Path, config: dict[str, Any]) -> Listed:
    records = read_journal(folder / "metrics.jsonl")
    last = {record["seed"]: record["test_error"] for record in records}
    exported = sorted(folder.glob("network-*.safetensors"))
    return Listed(
        f"epoch {len(records)} of {config['epochs'] * config['seeds']}",
        FINISHED if len(exported) == config["seeds"] else "",
        f"test error {fmean(last.values()):.2%}" if last else "",
        _exported_parameters(exported[0]) if exported else None,
        sum(record["seconds"] for record in records),
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


def _ablation(folder: Path, config: dict[str, Any]) -> Listed:
    summary = _summary(folder)
    chosen = {name: variant["selected"]["accuracy"] for name, variant in summary.get("variants", {}).items()}
    best = max(chosen, key=chosen.__getitem__, default="")
    searches = len(list(folder.glob("argmax-*.jsonl")))
    return Listed(f"search {searches} of 3", _end(summary), f"{best}: accuracy {chosen[best]:.1%}" if best else "")


def _ranking(folder: Path, config: dict[str, Any]) -> Listed:
    summary, trained = _summary(folder), read_journal(folder / "trained.jsonl")
    tau = summary.get("kendall_tau")
    scored = len(read_journal(folder / "scored.jsonl"))
    seconds = sum(record.get("seconds", 0.0) for record in trained)
    best = "" if tau is None else f"tau of the accuracy {tau:+.2f}"
    return Listed(f"network {len(trained)} of {scored}", _end(summary), best, None, seconds)


def _groundtruth(folder: Path, config: dict[str, Any]) -> Listed:
    key, summary = "chosen_true_accuracy_mean", _summary(folder)
    rows = {name: row for name, row in summary.items() if isinstance(row, dict)}
    true = {name: row[key] for name, row in rows.items() if row.get(key) is not None}
    best = max(true, key=true.__getitem__, default="")
    runs = folder / "runs.json"
    searches = len(json.loads(runs.read_text(encoding="utf-8"))) if runs.exists() else 0
    return Listed(f"search {searches}", _end(summary), f"{best}: true accuracy {true[best]:.2f}%" if best else "")


def _summary(folder: Path) -> dict[str, Any]:
    """What a study leaves at its end; empty before."""
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _end(summary: dict[str, Any]) -> str:
    return FINISHED if summary else ""


def _other(folder: Path, config: dict[str, Any]) -> Listed:
    """A study that a user has added."""
    return Listed("a place of its own", _end(_summary(folder)))


KINDS: dict[str, Callable[[Path, dict[str, Any]], Listed]] = {
    "search": _search,
    "retrain": _retrain,
    "ablation": _ablation,
    "ranking": _ranking,
    "groundtruth": _groundtruth,
}
