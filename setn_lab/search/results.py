"""What a search has come to, read from its run folder."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from setn_lab.config import completed
from setn_lab.kits import KITS, Kit
from setn_lab.network.costs import CostTable, Metric
from setn_lab.runs.journal import read_journal
from setn_lab.search.config import SearchConfig
from setn_lab.search.verdict import drawn, finite
from setn_lab.space.protocol import Space

SOURCES = {"candidates": "candidates", "baseline": "uniform"}  # journal: what the legend calls it
METRICS: tuple[Metric, ...] = ("parameters", "multiply_adds")


class NetworkSize(NamedTuple):
    """C, N, parameters and multiply-adds of a network for 32 x 32 colour images and 10 classes."""

    channels: int
    repeats: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, eq=False)
class SearchRun:
    """The run folder of a search, whose config was read once; journals are read when they are asked for."""

    folder: Path
    config: dict[str, Any]
    kit: Kit
    space: Space

    @classmethod
    def read(cls, folder: Path) -> "SearchRun":
        """Of that folder. Raises OSError, and ValueError or KeyError for a config of another version."""
        config = completed(SearchConfig, json.loads((folder / "config.json").read_text(encoding="utf-8")))
        kit = KITS[config["space"]]
        return cls(folder, config, kit, kit.space(config["nodes"]))

    def journal(self, name: str) -> list[dict[str, Any]]:
        """The records of a journal."""
        return read_journal(self.folder / f"{name}.jsonl")

    def evaluators(self) -> list[Any]:
        """The evaluator's distributions after each epoch."""
        return [self.kit.distributions.from_record(self.space, record) for record in self.journal("evaluator")]

    def genotype(self) -> Any:
        """What the search has chosen, a genotype of its space."""
        return self.kit.genotype.from_json((self.folder / "genotype.json").read_text(encoding="utf-8"))

    def size(self, genotype: Any, channels: int, repeats: int) -> NetworkSize:
        """Of the genotype's network with C = channels and N = repeats, without an auxiliary head."""
        architecture = self.space.encode(genotype)
        tables = _cost_tables(self.kit, self.space, channels, repeats)  # type: ignore[arg-type]  # spaces are hashable
        return NetworkSize(channels, repeats, *(int(table.of(architecture)) for table in tables))

    def sizes(self, genotype: Any) -> list[NetworkSize]:
        """Of the genotype's network at the searched and at the final size."""
        searched = self.config["channels"], self.config["repeats"]
        return [self.size(genotype, *size) for size in (searched, self.kit.final_size)]


@lru_cache(maxsize=16)  # seconds for a large network, and figure, table and file ask for the same
def _cost_tables(kit: Kit, space: Any, channels: int, repeats: int) -> list[CostTable]:
    return [kit.cost_table(space, channels, repeats, 3, 32, 10, metric) for metric in METRICS]


def relative_entropies(run: SearchRun) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """The epochs (E,), and by distribution the entropy as a share of its maximum, the mean over all of that name (E,).

    1 is uniform, 0 decided. A single choice leaves nothing to decide: NaN.
    """
    evaluators = run.evaluators()
    shares: dict[str, NDArray[np.float64]] = {}
    for name, choices in evaluators[0].choices().items() if evaluators else ():
        most = np.log(choices) if min(choices) > 1 else np.full(len(choices), np.nan)
        shares[name] = np.array([(distributions.entropies()[name] / most).mean() for distributions in evaluators])
    return np.array([record["epoch"] for record in run.journal("evaluator")], dtype=np.int64), shares


def summary(run: SearchRun) -> list[dict[str, Any]]:
    """One row per source: candidates, images, and mean, standard deviation and best of the scores on all images.

    Every draw counts. Draws whose loss is not finite are left out of the scores and counted in `not_finite`; without
    any other the scores are None. After a race these are the scores of the ones that were left; `images` says that
    others saw fewer.
    """
    rows = []
    for journal, name in SOURCES.items():
        records = run.journal(journal)
        if not records:
            continue
        kept = finite(records)
        images = np.array([record["images"] for record in kept or records])
        complete = [record for record in kept if record["images"] == images.max()]
        loss, accuracy = drawn(complete, "loss"), drawn(complete, "accuracy")
        rows.append(
            {
                "source": name,
                "draws": sum(record["draws"] for record in records),
                "distinct": len(records),
                "not_finite": sum(record["draws"] for record in records) - sum(record["draws"] for record in kept),
                "images": f"{images.max()}" if images.min() == images.max() else f"{images.min()} to {images.max()}",
                "loss": loss.mean() if len(loss) else None,
                "loss_std": loss.std(ddof=1) if len(loss) > 1 else 0.0,
                "best_loss": loss.min() if len(loss) else None,
                "accuracy": accuracy.mean() if len(loss) else None,
                "accuracy_std": accuracy.std(ddof=1) if len(loss) > 1 else 0.0,
                "best_accuracy": accuracy.max() if len(loss) else None,
            }
        )
    return rows
