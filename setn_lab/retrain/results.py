"""What a training has come to, read from its run folder."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setn_lab.runs.journal import read_journal


@dataclass(frozen=True)
class SeedResult:
    """What one seed came to after so many epochs: error (0 .. 1) and loss on the test images, and seconds in all."""

    seed: int
    epochs: int
    test_error: float
    test_loss: float
    seconds: float


def results(folder: Path) -> list[SeedResult]:
    """The results of the run in that folder, of each seed as far as it has come."""
    return results_of(read_journal(folder / "metrics.jsonl"))


def results_of(records: list[dict[str, Any]]) -> list[SeedResult]:
    """The same of the records of a journal."""
    lines: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        lines.setdefault(record["seed"], []).append(record)
    return [
        SeedResult(seed, len(own), own[-1]["test_error"], own[-1]["test_loss"], sum(line["seconds"] for line in own))
        for seed, own in sorted(lines.items())
    ]


def summary(found: list[SeedResult]) -> str:
    """The test error in a line, mean and standard deviation over the seeds that have come as far as the first."""
    epochs = found[0].epochs
    errors = [100 * result.test_error for result in found if result.epochs == epochs]
    spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
    return f"test error {statistics.fmean(errors):.2f}{spread} % (seeds: {len(errors)}, epochs: {epochs})"
