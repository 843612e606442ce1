"""One-shot loss against what final networks cost, of a run folder alone: every candidate, and the Pareto front."""

import csv
import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from setn_lab.config import completed
from setn_lab.figures import page
from setn_lab.figures.front import non_dominated, plot_front
from setn_lab.kits import KITS
from setn_lab.network.costs import CostTable, Metric
from setn_lab.runs import identity
from setn_lab.runs.journal import read_journal
from setn_lab.search.caps import CAPS, OBEYED, FinalSize, Tally, in_words, read_latencies
from setn_lab.search.config import SearchConfig
from setn_lab.search.results import SOURCES
from setn_lab.search.verdict import finite

SHOWN: tuple[Metric, ...] = "parameters", "multiply_adds"  # and latencies where they were measured
LABELS: dict[Metric, str] = {
    "parameters": "parameters [M]",
    "multiply_adds": "multiply-adds [M]",
    "latency": "latency [ms], sum of parts",
}


@dataclass(frozen=True, eq=False)
class Front:
    """The distinct architectures of a search that were scored on all images, n of them.

    size: of the networks whose costs (n,) these are, in the units of `caps.CAPS`. sources: which were drawn by whom
    (n,). limits: the caps, in the same units. device: where latencies were measured.
    """

    size: FinalSize
    genotypes: list[str]
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    costs: dict[Metric, NDArray[np.float64]]
    sources: dict[str, NDArray[np.bool_]]
    limits: dict[Metric, float]
    device: str | None

    def on(self, metric: Metric) -> NDArray[np.bool_]:
        """Which have no other of lower loss and cost (n,), see `non_dominated`."""
        return non_dominated(np.stack([self.costs[metric], self.loss], axis=1))


def read_front(folder: Path) -> Front:
    """Of a search's run folder. Raises OSError, and ValueError or KeyError for what is none."""
    config = completed(SearchConfig, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    space = KITS[config["space"]].space(config["nodes"])
    stored = identity.read(folder)
    size = FinalSize.of(config, {} if stored is None else stored["contents"].get("dataset", {}))
    records = {name: finite(read_journal(folder / f"{journal}.jsonl")) for journal, name in SOURCES.items()}
    most = max((record["images"] for own in records.values() for record in own), default=0)
    known: dict[str, dict[str, Any]] = {}
    drawn: dict[str, set[str]] = {}
    for name, own in records.items():
        complete = {record["genotype"]: record for record in own if record["images"] == most}
        known, drawn[name] = {**complete, **known}, set(complete)
    architectures = np.array([space.encode(space.read(text)) for text in known])
    tables = {metric: _table(size, config["space"], config["nodes"], metric) for metric in SHOWN}
    measured = read_latencies(folder, space)
    if measured is not None and measured[0] == size:
        tables["latency"] = measured[1]
    costs = {
        metric: (table.of_all(architectures) if known else np.empty(0)) / CAPS[metric].scale
        for metric, table in tables.items()
    }
    given = {metric: config[cap.parameter] for metric, cap in CAPS.items()}
    return Front(
        size,
        list(known),
        np.array([record["loss"] for record in known.values()]),
        np.array([record["accuracy"] for record in known.values()]),
        costs,
        {name: np.array([text in own for text in known], dtype=bool) for name, own in drawn.items()},
        {metric: value for metric, value in given.items() if value is not None},
        measured[2] if measured is not None and "latency" in costs else None,
    )


@lru_cache(maxsize=16)
def _table(size: FinalSize, space: str, nodes: int, metric: Metric) -> CostTable:
    kit = KITS[space]
    return size.table(kit, kit.space(nodes), metric)


def figure(front: Front) -> Figure:
    """One-shot loss against each cost."""
    count = len(front.costs)
    drawing, axes = plt.subplots(1, count, figsize=(5 * count, 3.6), layout="constrained", squeeze=False)
    for ax, (metric, costs) in zip(axes[0], front.costs.items(), strict=True):
        plot_front(costs, front.loss, front.sources, LABELS[metric], front.limits.get(metric), ax)
    return drawing


def table(front: Front) -> str:
    """Who is on a front, from the lowest loss on, as Markdown; a cost in bold is one on whose front it is."""
    on = {metric: front.on(metric) for metric in front.costs}
    members: list[int] = np.flatnonzero(np.any(list(on.values()), axis=0)).tolist() if front.genotypes else []
    rows = []
    for place in sorted(members, key=lambda place: front.loss[place]):
        cells = [f"{values[place]:.4g}" for values in front.costs.values()]
        cells = [f"**{cell}**" if found[place] else cell for cell, found in zip(cells, on.values(), strict=True)]
        rows.append([f"{front.loss[place]:.4f}", f"{front.accuracy[place]:.2%}", *cells, f"`{front.genotypes[place]}`"])
    return page.table(["loss", "accuracy", *(LABELS[metric] for metric in front.costs), "genotype"], rows)


def as_csv(front: Front) -> str:
    """Every architecture with its scores and costs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["genotype", "loss", "accuracy", *front.sources, *(LABELS[metric] for metric in front.costs)])
    for place, genotype in enumerate(front.genotypes):
        drawn = [int(own[place]) for own in front.sources.values()]
        costs = [f"{values[place]:.10g}" for values in front.costs.values()]
        writer.writerow([genotype, front.loss[place], front.accuracy[place], *drawn, *costs])
    return text.getvalue()


def section(folder: Path, front: Front) -> list[str]:
    """The paragraphs of a report: the network that is meant, the caps, how many draws obeyed them, and the front."""
    paragraphs = [
        f"Costs are those of {front.size.text}. The front holds every architecture than which none of those scored has "
        "both a lower loss and a lower cost; a cost in bold is one on whose front it is. `costs.csv` has all of them.",
        *_obeyed(folder),
        "![loss against cost](front.svg)",
        table(front),
    ]
    if front.device is not None:
        paragraphs.append(
            f"Latencies are sums of what the parts of a network took alone, for one image, on {front.device}."
        )
    return paragraphs


def _obeyed(folder: Path) -> list[str]:
    """What the caps were and how they were obeyed; nothing without caps."""
    path = folder / OBEYED
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    limits = " and ".join(in_words(metric, limit) for metric, limit in found["limits"].items())
    shares = [
        f"{tally.share:.2%} of the {tally.drawn:,} draws for {SOURCES[name]} obeyed"
        for name, numbers in found["draws"].items()
        for tally in [Tally(**numbers)]
    ]
    winner = " and ".join(in_words(metric, cost, digits=4) for metric, cost in found["winner"].items())
    text = (
        f"Caps: at most {limits}. {', '.join(shares) or 'The argmax was taken'}; the others were drawn again, uniform "
        f"ones too, so that these show what the evaluator adds and not what the caps do. The winner has {winner}."
    )
    if found["measured"] is not None:
        text += f" Its whole network was measured too: {in_words('latency', found['measured'], digits=4)}"
        over = found["measured"] > found["limits"]["latency"]
        text += ", above the cap, as a whole is more than the sum of its parts: lower the cap." if over else "."
    return [text]
