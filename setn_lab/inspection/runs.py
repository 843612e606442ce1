"""All run folders as rows: what each holds, how far it has come, what it found, and what that costs.

Read without torch, but for runs of older versions; no run is held up. What was read of a folder is kept until a file of
it changes.
"""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.lock import in_use
from setn_lab.runs.progress import duration

if TYPE_CHECKING:
    import pandas as pd

UNREADABLE = ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RunError, TypeError, ValueError
FINISHED = "finished"
PLACES = {"seed", "run_dir", "template_run", "interactive"}  # parameters in which runs of one group may differ


@dataclass(frozen=True)
class Row:
    """One run folder.

    name: of the folder. kind: search, retrain or a study. data: the name of its images. started: seconds since 1970.
    state: such as "running at epoch 3 of 24". best: what it found, in words. epochs: how many are done. gain: by how
    many nats the evaluator's draws are better than uniform ones in their mean loss. best_loss: of a candidate, in nats.
    genotype: the text of the winner's file. parameters: of the network that was found. seconds: of training, where the
    folder records it. group: equal for runs that differ in their seed alone. studies: that this search belongs to. What
    is not known is None, or empty.
    """

    folder: Path
    kind: str
    started: float
    state: str
    data: str = ""
    space: str = ""
    strategy: str = ""
    seed: int | None = None
    best: str = ""
    epochs: int | None = None
    gain: float | None = None
    best_loss: float | None = None
    genotype: str = ""
    parameters: int | None = None
    seconds: float = 0.0
    group: str = ""
    members: tuple[str, ...] = ()  # of a study: the run folders of its searches
    studies: tuple[str, ...] = ()
    readable: bool = True

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name

    @property
    def winner(self) -> str:
        """Its operations, the most frequent first, or the text of another space's cell; empty where none is read."""
        with suppress(*UNREADABLE):
            return _operations(self.genotype)
        return ""

    @property
    def cost(self) -> str:
        """In words."""
        costs = [] if self.parameters is None else [f"{self.parameters / 1e6:.2f} M parameters"]
        return ", ".join(costs + ([f"trained {duration(self.seconds)}"] if self.seconds else []))


def rows(root: Path) -> list[Row]:
    """A row for each run folder in `root`, the newest first. One that cannot be read says why in its state."""
    found = [row(path.parent) for path in root.glob("*/environment.json")]
    studies: dict[str, list[str]] = {}
    for one in found:
        for member in one.members:
            studies.setdefault(member, []).append(one.name)
    found = [replace(one, studies=tuple(sorted(studies.get(one.name, ())))) for one in found]
    return sorted(found, key=lambda one: -one.started)


COLUMNS = {
    "run": "name",
    "kind": "kind",
    "data": "data",
    "space": "space",
    "strategy": "strategy",
    "seed": "seed",
    "state": "state",
    "epochs": "epochs",
    "gain [nats]": "gain",
    "best loss [nats]": "best_loss",
    "result": "best",
    "winner": "winner",
    "cost": "cost",
}


def frame(found: Iterable[Row], now: float | None = None) -> "pd.DataFrame":
    """The rows as a table, with the age of each run in hours and the studies that it belongs to.

    now: seconds since 1970, by default the present.
    """
    import pandas as pd  # runs are listed in a shell without it

    now, found = time.time() if now is None else now, list(found)
    columns: dict[str, list[Any]] = {
        name: [getattr(row, attribute) for row in found] for name, attribute in COLUMNS.items()
    }
    columns["studies"] = [", ".join(row.studies) for row in found]
    columns["age [h]"] = [(now - row.started) / 3600 for row in found]
    table = pd.DataFrame(columns)
    numbers = ["seed", "epochs", "gain [nats]", "best loss [nats]"]
    return table.astype({"seed": "Int64", "epochs": "Int64", **dict.fromkeys(numbers[2:], "float64")})


def grouped(found: Iterable[Row]) -> "pd.DataFrame":
    """Runs that differ in their seed alone, a row a group of at least two: seeds, mean and spread of what they found.

    The spread is the standard deviation over the seeds (n - 1).
    """
    import pandas as pd

    groups: dict[str, list[Row]] = {}
    for row in found:
        if row.group:
            groups.setdefault(row.group, []).append(row)
    table = []
    for own in groups.values():
        if len(own) < 2:
            continue
        line: dict[str, Any] = {name: getattr(own[0], name) for name in ("kind", "data", "space", "strategy")}
        line["seeds"] = ", ".join(map(str, sorted(row.seed for row in own if row.seed is not None)))
        for name, attribute in (("gain [nats]", "gain"), ("best loss [nats]", "best_loss")):
            values = [value for row in own if (value := getattr(row, attribute)) is not None]
            line[f"{name}, mean"] = fmean(values) if values else math.nan
            line[f"{name}, sd"] = stdev(values) if len(values) > 1 else math.nan
        line["runs"] = ", ".join(row.name for row in own)
        table.append(line)
    columns = ["kind", "data", "space", "strategy", "seeds"]
    columns += [f"{name}, {what}" for name in ("gain [nats]", "best loss [nats]") for what in ("mean", "sd")]
    return pd.DataFrame(table, columns=[*columns, "runs"])


def started(folder: Path) -> float:
    """When the run was started: config.json is written again for another T, environment.json on another machine."""
    paths = folder / "config.json", folder / "environment.json"
    return min(path.stat().st_mtime for path in paths if path.exists())


_known: dict[Path, tuple[Any, Row, "_Found | None"]] = {}


def row(folder: Path, kind: str | None = None) -> Row:
    """Of a run folder; what is in its files is read again where one of them has changed.

    kind: where it is known, else environment.json says it.
    """
    folder = folder.absolute()
    stamp = _stamp(folder)
    known = _known.get(folder)
    if known is None or known[0] != stamp:
        known = (stamp, *_read(folder, kind))
        _known[folder] = known
    _, kept, found = known
    if found is None:
        return kept
    running = in_use(folder)
    state = f"{'running' if running else 'interrupted'} at {found.reached}"
    return replace(kept, state=found.done if found.done and not running else state)


def _stamp(folder: Path) -> frozenset[tuple[str, int, int]]:
    """(name, time of the last change, size) of the files that rows are made of."""
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if entry.name.endswith((".json", ".jsonl", ".safetensors"))]
        return frozenset((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in files)


def _read(folder: Path, given: str | None) -> "tuple[Row, _Found | None]":
    kind, begun = given or "?", started(folder)
    try:
        kind = given or str(json.loads((folder / "environment.json").read_text(encoding="utf-8"))["kind"])
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = KINDS.get(kind, _other)(folder, config)
        members = _members(folder)
    except UNREADABLE as error:
        return Row(folder, kind, begun, f"cannot be read: {error!r}"[:80], readable=False), None
    own = {name: value for name, value in config.items() if name not in PLACES}
    common = Row(
        folder,
        kind,
        begun,
        "",
        data=Path(str(config.get("dataset", ""))).name,
        space=str(config.get("space", "")),
        strategy=str(config.get("strategy", "")),
        seed=config["seed"] if type(config.get("seed")) is int else None,
        best=found.best,
        epochs=found.epochs,
        gain=found.gain,
        best_loss=found.best_loss,
        genotype=found.genotype,
        parameters=found.parameters,
        seconds=found.seconds,
        group=json.dumps([kind, own], sort_keys=True) if "seed" in config else "",
        members=members,
    )
    return common, found


def _members(folder: Path) -> tuple[str, ...]:
    """The run folders of a study's searches, as it names them."""
    path = folder / "runs.json"
    return tuple(json.loads(path.read_text(encoding="utf-8")).values()) if path.exists() else ()


@dataclass(frozen=True)
class _Found:
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


def _search(folder: Path, config: dict[str, Any]) -> _Found:
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
        return _Found(f"epoch {done} of {epochs}", "", best, **common)
    reached = f"candidate {len(scored)}"
    if not (folder / "genotype.json").exists():  # stopped here, or a study's search, which chooses none
        return _Found(reached, f"trained, {len(scored)} candidates scored", best, **common)
    genotype = (folder / "genotype.json").read_text(encoding="utf-8")
    return _Found(reached, FINISHED, best, _winners_parameters(folder), genotype=genotype, **common)


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


def _operations(text: str) -> str:
    from setn_lab.space.names import label  # runs are listed in a shell without NumPy

    content = json.loads(text)
    if not isinstance(content, dict):
        return str(content)
    cells = [node for name in ("normal", "reduce") for node in content[name]]
    counts = Counter(label(operation) for node in cells for operation, _ in node)
    return ", ".join(f"{count} {operation}" for operation, count in counts.most_common())


def _winners_parameters(folder: Path) -> int:
    """Of the winner's network at its final size, as the report of a search leaves it in sizes.json."""
    if (folder / "sizes.json").exists():
        return json.loads((folder / "sizes.json").read_text(encoding="utf-8"))[-1]["parameters"]
    from setn_lab.search.results import SearchRun  # a run of an older version: torch has to count them

    run = SearchRun.read(folder)
    return run.sizes(run.genotype())[-1].parameters


def _retrain(folder: Path, config: dict[str, Any]) -> _Found:
    records = read_journal(folder / "metrics.jsonl")
    last = {record["seed"]: record["test_error"] for record in records}
    exported = sorted(folder.glob("network-*.safetensors"))
    return _Found(
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


def _ablation(folder: Path, config: dict[str, Any]) -> _Found:
    summary = _summary(folder)
    chosen = {name: variant["selected"]["accuracy"] for name, variant in summary.get("variants", {}).items()}
    best = max(chosen, key=chosen.__getitem__, default="")
    searches = len(list(folder.glob("argmax-*.jsonl")))
    return _Found(f"search {searches} of 3", _end(summary), f"{best}: accuracy {chosen[best]:.1%}" if best else "")


def _ranking(folder: Path, config: dict[str, Any]) -> _Found:
    summary, trained = _summary(folder), read_journal(folder / "trained.jsonl")
    tau = summary.get("kendall_tau")
    scored = len(read_journal(folder / "scored.jsonl"))
    seconds = sum(record.get("seconds", 0.0) for record in trained)
    best = "" if tau is None else f"tau of the accuracy {tau:+.2f}"
    return _Found(f"network {len(trained)} of {scored}", _end(summary), best, None, seconds)


def _groundtruth(folder: Path, config: dict[str, Any]) -> _Found:
    key, summary = "chosen_true_accuracy_mean", _summary(folder)
    rows = {name: row for name, row in summary.items() if isinstance(row, dict)}
    true = {name: row[key] for name, row in rows.items() if row.get(key) is not None}
    best = max(true, key=true.__getitem__, default="")
    runs = folder / "runs.json"
    searches = len(json.loads(runs.read_text(encoding="utf-8"))) if runs.exists() else 0
    return _Found(f"search {searches}", _end(summary), f"{best}: true accuracy {true[best]:.2f}%" if best else "")


def _summary(folder: Path) -> dict[str, Any]:
    """What a study leaves at its end; empty before."""
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _end(summary: dict[str, Any]) -> str:
    return FINISHED if summary else ""


def _other(folder: Path, config: dict[str, Any]) -> _Found:
    """A study that a user has added."""
    return _Found("a place of its own", _end(_summary(folder)))


KINDS: dict[str, Callable[[Path, dict[str, Any]], _Found]] = {
    "search": _search,
    "retrain": _retrain,
    "ablation": _ablation,
    "ranking": _ranking,
    "groundtruth": _groundtruth,
}
