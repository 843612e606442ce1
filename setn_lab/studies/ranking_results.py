"""What a pairwise study has come to, read from its run folder: its networks, and how well each predictor ranks them."""

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setn_lab.runs.run import read_journal
from setn_lab.space.genotype import Genotype
from setn_lab.studies.ranking import TWICE
from setn_lab.studies.statistics.pairs import GapBin, all_pairs, by_gap, good_pairs
from setn_lab.studies.statistics.ranks import FRACTIONS, kendall, ndcg, spearman, weighted_tau, within_best
from setn_lab.studies.statistics.values import Interval


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks that were scored and trained, n of them.

    predictors: (n,) each, where higher predicts better. true: (n,) accuracy acc_r after training from scratch, on D_val
    or as the table says. pairs: (P, 2) positions among the n, None: all pairs of different ones, n (n - 1) / 2.
    failed: the reason by network, of those whose training stopped. left_out: how many drawn pairs have a network that
    failed, is not trained yet or has no finite one-shot loss. itself: how many pair a network with itself, which says
    nothing. not_finite: how many networks have no finite one-shot loss.
    """

    predictors: dict[str, NDArray[np.float64]]
    true: NDArray[np.float64]
    pairs: NDArray[np.int64] | None
    failed: dict[int, str]
    left_out: int
    itself: int
    not_finite: int

    @property
    def compared(self) -> int:
        """The number of pairs."""
        return len(self.true) * (len(self.true) - 1) // 2 if self.pairs is None else len(self.pairs)


def networks(folder: Path) -> Networks:
    """What the run folder holds so far."""
    scored, lines = read_journal(folder / "scored.jsonl"), read_journal(folder / "trained.jsonl")
    done = {
        record["network"]: record
        for record in lines
        if "accuracy" in record and np.isfinite(scored[record["network"]]["loss"])
    }
    order = sorted(done)
    place = {number: position for position, number in enumerate(order)}
    drawn = json.loads((folder / "pairs.json").read_text(encoding="utf-8")) if (folder / "pairs.json").exists() else []
    different = [(a, b) for a, b in drawn if a != b]
    whole = [[place[a], place[b]] for a, b in different if a in place and b in place]
    columns = {
        "accuracy": [scored[number]["accuracy"] for number in order],
        "loss": [-scored[number]["loss"] for number in order],
        "parameters": [done[number]["parameters"] for number in order],
        "multiply_adds": [done[number]["multiply_adds"] for number in order],
        "separable_convolutions": [_separable_convolutions(done[number]["genotype"]) for number in order],
        "log_probability": [scored[number]["log_probability"] for number in order],
    }
    return Networks(
        {name: np.array(values, dtype=float) for name, values in columns.items()},
        np.array([done[number]["accuracy"] for number in order], dtype=float),
        None if _of_table(folder) else np.array(whole, dtype=np.int64).reshape(-1, 2),
        {record["network"]: record["failed"] for record in lines if "failed" in record},
        len(different) - len(whole),
        len(drawn) - len(different),
        sum(not np.isfinite(record["loss"]) for record in scored),
    )


def _of_table(folder: Path) -> bool:
    """Whether the study's cells are those of a table."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("table") is not None


def _separable_convolutions(genotype: str) -> int:
    """How many separable convolutions the normal cell has."""
    edges = (edge for node in Genotype.from_darts(genotype).normal for edge in node)
    return sum(operation.startswith("sep_conv_") for operation, _ in edges)


def two_seeds(folder: Path) -> NDArray[np.float64]:
    """The accuracies of networks that were trained twice: (m, 2), none where the study has no such table."""
    path = folder / TWICE
    return np.array(json.loads(path.read_text(encoding="utf-8")) if path.exists() else []).reshape(-1, 2)


def finalists(folder: Path) -> list[dict[str, Any]]:
    """The best one-shot candidates and what training them for longer came to, in the order of their one-shot loss."""
    path = folder / "best.json"
    if not path.exists():
        return []
    trained = {record["network"]: record for record in read_journal(folder / "finalists.jsonl")}
    keys = "accuracy", "loss", "parameters", "failed"
    return [
        {"one_shot": record, "trained": {key: trained[number][key] for key in keys if key in trained[number]}}
        for number, record in enumerate(json.loads(path.read_text(encoding="utf-8")))
        if number in trained
    ]


@dataclass(frozen=True)
class PredictorRow:
    """All statistics of one predictor. pairs_tied: in its predictions, and in the accuracy after training.

    ndcg_by_chance: of a random order, the mean over all.
    """

    good_pairs_detail: Interval
    pairs_tied: tuple[int, int]
    kendall_tau_detail: Interval
    weighted_tau_detail: Interval
    spearman_rho_detail: Interval
    ndcg: float | None
    ndcg_by_chance: float | None
    kendall_tau_within_best: dict[str, Interval]
    good_pairs_by_gap: list[GapBin]


def predictor_rows(found: Networks) -> dict[str, PredictorRow]:
    """The statistics of each predictor, by its name."""
    true = tuple(found.true.tolist())
    pairs = None if found.pairs is None else tuple(map(tuple, found.pairs.tolist()))
    return {name: _row(tuple(values.tolist()), true, pairs) for name, values in found.predictors.items()}


def ceiling(twice: NDArray[np.float64]) -> PredictorRow:
    """How one training of networks (m, 2) predicts another one of the same networks."""
    first, second = (tuple(seed.tolist()) for seed in twice.T)
    return _row(first, second, None)


@functools.lru_cache(maxsize=64)  # the bootstrap takes seconds, and every table and figure asks for it
def _row(
    predicted: tuple[float, ...], true: tuple[float, ...], pairs: tuple[tuple[int, int], ...] | None
) -> PredictorRow:
    """pairs: None for all pairs of different networks."""
    x, y = np.array(predicted), np.array(true)
    if pairs is None:
        good, gaps = all_pairs(x, y)
    else:
        places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        good, gaps = good_pairs(x[places], y[places]), by_gap(x[places], y[places])
    return PredictorRow(
        good.share,
        (good.tied_predicted, good.tied_true),
        kendall(x, y),
        weighted_tau(x, y),
        spearman(x, y),
        ndcg(x, y),
        ndcg(np.zeros_like(y), y),
        {f"{fraction:.0%}": interval for fraction, interval in within_best(x, y, FRACTIONS).items()},
        gaps,
    )


def summary(folder: Path) -> dict[str, Any]:
    """Every figure of the study by name, as it goes into summary.json; None where one is undefined."""
    found = networks(folder)
    rows = {name: _as_record(row) for name, row in predictor_rows(found).items()}
    twice = two_seeds(folder)
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8")) if (folder / "runs.json").exists() else {}
    return {
        "run": folder.name,
        "searches": runs,
        "networks": len(found.true),
        "pairs": found.compared,
        "pairs_left_out": found.left_out,
        "pairs_with_itself": found.itself,
        "not_finite": found.not_finite,
        "failed": {str(number): reason for number, reason in found.failed.items()},
        **rows.pop("accuracy"),
        "baselines": rows,
        **({"ceiling": {"networks": len(twice), **_as_record(ceiling(twice))}} if len(twice) else {}),
        "finalists": finalists(folder),
    }


def _as_record(row: PredictorRow) -> dict[str, Any]:
    """A row as summary.json has it, the values of the intervals beside them."""
    record = asdict(row)
    names = "good_pairs", "kendall_tau", "weighted_tau", "spearman_rho"
    return record | {name: record[f"{name}_detail"]["value"] for name in names}
