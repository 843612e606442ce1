"""All run folders as rows: what each holds, how far it has come, what it found, and what that costs.

No run is held up. What was read of a folder, see `kinds`, is kept until a file of it changes.
"""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from setn_lab.inspection.kinds import KINDS, UNREADABLE, Found, other
from setn_lab.runs.lock import in_use
from setn_lab.runs.progress import duration

if TYPE_CHECKING:
    import pandas as pd

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


_known: dict[Path, tuple[Any, Row, Found | None]] = {}


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


def _read(folder: Path, given: str | None) -> tuple[Row, Found | None]:
    kind, begun = given or "?", started(folder)
    try:
        kind = given or str(json.loads((folder / "environment.json").read_text(encoding="utf-8"))["kind"])
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = KINDS.get(kind, other)(folder, config)
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


def _operations(text: str) -> str:
    from setn_lab.space.names import label  # runs are listed in a shell without NumPy

    content = json.loads(text)
    if not isinstance(content, dict):
        return str(content)
    cells = [node for name in ("normal", "reduce") for node in content[name]]
    counts = Counter(label(operation) for node in cells for operation, _ in node)
    return ", ".join(f"{count} {operation}" for operation, count in counts.most_common())
