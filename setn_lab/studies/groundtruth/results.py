"""What a row and seed of the study with true accuracies come to: arrays in, figures out."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from setn_lab.evaluator.nasbench201 import NASBench201Distributions
from setn_lab.kits import KITS
from setn_lab.network.costs import CostTable, Metric
from setn_lab.runs.run import read_journal
from setn_lab.space import nasbench201
from setn_lab.space.nasbench201 import NASBench201Space, isomorphism_class
from setn_lab.studies import tables
from setn_lab.studies.groundtruth.study import JOURNALS, GroundTruthConfig
from setn_lab.studies.groundtruth.table import BenchmarkTable
from setn_lab.studies.statistics import ranks, samples

FRACTIONS = (1.0, 0.01, 0.1, 0.5)  # all, and the best by true accuracy, within which ranks are compared
DRAWS = (1, 10, 100, 1000)  # T
CEILING = "ceiling: validation against test"  # of the same trained networks, which no prediction can pass by much
QUANTILES = (0.1, 0.5, 0.9)


class StudyError(ValueError):
    """There is nothing to report; the message says why."""


RankAgreement = dict[str, dict[str, float | None]]  # fraction of the best: statistic: value, None where it is undefined


@dataclass(frozen=True, eq=False)
class Sample:
    """Scored architectures: their encodings (n, 6), one-shot losses and accuracies (n,), and draws (n,).

    not_finite: how many draws are left out, as their loss is not finite.
    """

    architectures: NDArray[np.int64]
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    draws: NDArray[np.int64]
    not_finite: int

    @classmethod
    def read(cls, path: Path) -> "Sample":
        """The finished lines of a journal: those with a finite loss."""
        everything = read_journal(path)
        records = [record for record in everything if np.isfinite(record["loss"])]
        left_out = sum(record["draws"] for record in everything) - sum(record["draws"] for record in records)
        space = NASBench201Space()
        arrays = [space.encode(space.read(record["genotype"]))[0] for record in records]
        loss, accuracy, draws = (
            np.array([record[name] for record in records]) for name in ("loss", "accuracy", "draws")
        )
        return cls(np.array(arrays).reshape(-1, len(space.edges)), loss, accuracy, draws, left_out)

    def chosen(self) -> NDArray[np.int64]:
        """The architecture of the lowest loss (6,). Raises StudyError where no loss is finite."""
        if not len(self.loss):
            raise StudyError("no architecture of a row has a finite loss: its template's training has failed")
        return self.architectures[self.loss.argmin()]

    def first(self, count: int) -> "Sample":
        """The first `count` architectures."""
        return replace(
            self,
            architectures=self.architectures[:count],
            loss=self.loss[:count],
            accuracy=self.accuracy[:count],
            draws=self.draws[:count],
        )


@dataclass(frozen=True)
class RowResult:
    """One row and seed. Accuracies in percent.

    chosen, argmax, uniform: the true accuracy of the candidate of the lowest loss, of the evaluator's argmax, and of
    the best of the first T different uniform architectures by loss; ranks among all, 1 is the best. distinct: how many
    networks are among the T candidates, isomorphic ones counted once. candidates, uniforms: mean and standard deviation
    of the true accuracies of what was drawn. spread: of the true accuracy under the evaluator after each of `epochs`,
    exactly, its mean and its QUANTILES. agreement: of one-shot loss and truth over the uniform ones. uses: by
    operation, Spearman's rho between how often a uniform one uses it and how low its one-shot loss is. best_of: the
    expected true accuracy of the best of so many draws, None where they are more than T. free, free_uniform: by free
    predictor, the true accuracy of what it would choose among the same candidates, and among the first T uniform ones,
    the mean over those that it rates alike. seconds: of the search so far, at the end of each epoch of `spread`; empty
    where a study of an earlier version has not kept them. not_finite: how many draws, of the evaluator's and of the
    uniform ones, are left out, as their one-shot loss is not finite.
    """

    seed: int
    chosen: float
    chosen_rank: int
    argmax: float
    argmax_rank: int
    uniform: float
    uniform_rank: int
    distinct: int
    candidates: tuple[float, float]
    uniforms: tuple[float, float]
    epochs: list[int]
    spread: list[tuple[float, ...]]
    agreement: RankAgreement
    uses: dict[str, float | None]
    best_of: dict[str, float | None]
    free: dict[str, float]
    free_uniform: dict[str, float]
    seconds: list[float]
    not_finite: int


def result(folder: Path, row: str, seed: int, truth: BenchmarkTable, draws: int) -> RowResult:
    """What a row and seed come to; `draws` is T."""
    name = f"{row}-{seed}"
    drawn, uniform = (Sample.read(folder / f"{name}.{journal}.jsonl") for journal in ("candidates", "uniform"))
    argmax = Sample.read(folder / f"{name}.argmax.jsonl").chosen()
    first = uniform.first(draws)
    best = first.chosen()
    true = truth.of(uniform.architectures)
    best_of = samples.best_of(
        drawn.loss, {"true": truth.of(drawn.architectures)}, DRAWS, lowest=True, weights=drawn.draws.astype(float)
    )
    every = nasbench201.every()[:, None]
    spread, records = [], read_journal(folder / f"{name}.evaluator.jsonl")
    for record in records:
        now = NASBench201Distributions.from_record(NASBench201Space(), record)
        spread.append(spread_of(truth.accuracy, np.exp(now.log_probability(every))))
    chosen = drawn.chosen()
    seconds = np.cumsum([record["seconds"] for record in read_journal(folder / f"{name}.metrics.jsonl")])
    return RowResult(
        seed=seed,
        chosen=float(truth.of(chosen)),
        chosen_rank=int(truth.rank(chosen)),
        argmax=float(truth.of(argmax)),
        argmax_rank=int(truth.rank(argmax)),
        uniform=float(truth.of(best)),
        uniform_rank=int(truth.rank(best)),
        distinct=len(
            {isomorphism_class(NASBench201Space().genotype(architecture)) for architecture in drawn.architectures}
        ),
        candidates=_moments(truth.of(drawn.architectures), drawn.draws),
        uniforms=_moments(true, uniform.draws),
        epochs=[record["epoch"] for record in records],
        spread=spread,
        agreement=rank_agreement(-uniform.loss, true),
        uses=uses(uniform.architectures, -uniform.loss),
        best_of={str(best.draws): None if best.beyond else best.values["true"].mean for best in best_of},
        free=_choices(drawn.architectures, truth),
        free_uniform=_choices(first.architectures, truth),
        seconds=seconds.tolist(),
        not_finite=drawn.not_finite + uniform.not_finite,
    )


def spread_of(values: NDArray[np.float64], chances: NDArray[np.float64]) -> tuple[float, ...]:
    """The mean and the QUANTILES of values (n,) that are drawn with these chances (n,): the least values that are
    reached with at least that probability.
    """
    order = values.argsort(kind="stable")
    reached = np.cumsum(chances[order] / chances.sum())
    places = np.searchsorted(reached, np.array(QUANTILES) - 1e-12)  # sums of chances are a few units off
    return float(values @ chances / chances.sum()), *values[order][places].tolist()


def _moments(values: NDArray[np.float64], weights: NDArray[np.int64]) -> tuple[float, float]:
    mean = float(np.average(values, weights=weights))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))


def rank_agreement(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> RankAgreement:
    """How a prediction (n,), more is better, ranks what the truth (n,) ranks."""
    found: RankAgreement = {}
    for fraction in FRACTIONS:
        best = ranks.best(true, fraction)
        values, truths = predicted[best], true[best]
        found[f"{fraction:.0%}"] = {
            "kendall_tau": ranks.kendall(values, truths, resamples=1).value,
            "spearman_rho": ranks.spearman(values, truths, resamples=1).value,
            "good_pairs": _good_pairs(values, truths),
        }
    return found


def uses(architectures: NDArray[np.int64], good: NDArray[np.float64]) -> dict[str, float | None]:
    """By operation, Spearman's rho between how often architectures (n, 6) use it and how good they are (n,)."""
    counts = {name: (architectures == index).sum(1) for index, name in enumerate(NASBench201Space.operations)}
    return {name: ranks.spearman(count.astype(float), good, resamples=1).value for name, count in counts.items()}


def _good_pairs(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float | None:
    """The share of all pairs that compare alike; row by row, since 15,625 architectures are 122 million pairs."""
    good = 0
    for place in range(len(true) - 1):
        guess, truth = (np.sign(side[place] - side[place + 1 :]) for side in (predicted, true))
        good += int((guess == truth).sum())
    pairs = len(true) * (len(true) - 1) // 2
    return good / pairs if pairs else None


def baselines(truth: BenchmarkTable) -> dict[str, RankAgreement]:
    """How what costs nothing ranks all architectures, and what is known best of them, CEILING."""
    found = {name: rank_agreement(values, truth.accuracy) for name, values in free_predictors().items()}
    if truth.validation is not None and truth.tested is not None:
        found[CEILING] = rank_agreement(truth.validation, truth.tested)
    return found


def _choices(architectures: NDArray[np.int64], truth: BenchmarkTable) -> dict[str, float]:
    """By free predictor, the mean true accuracy of those architectures (n, 6) that it rates highest."""
    true, places = truth.of(architectures), nasbench201.number(architectures)
    rated = {name: values[places] for name, values in free_predictors().items()}
    return {name: float(true[values == values.max()].mean()) for name, values in rated.items()}


@lru_cache
def free_predictors() -> dict[str, NDArray[np.float64]]:
    """What costs nothing, of all architectures (15625,), more is better: parameters, multiply-adds, and the
    convolutions counted 9 to 1.
    """
    space, every = NASBench201Space(), nasbench201.every()
    conv3, conv1 = (space.operations.index(name) for name in ("nor_conv_3x3", "nor_conv_1x1"))
    metrics: tuple[Metric, ...] = ("parameters", "multiply_adds")
    found: dict[str, NDArray[np.float64]] = {
        metric: np.array([_sizes(metric).of(architecture[None]) for architecture in every]) for metric in metrics
    }
    found["convolutions"] = 9.0 * (every == conv3).sum(1) + (every == conv1).sum(1)
    return found


@lru_cache
def _sizes(metric: Metric) -> CostTable:
    return KITS["nasbench201"].final_costs(NASBench201Space(), metric)


@dataclass(frozen=True, eq=False)
class Study:
    """A study's run folder, read once: the results of each seed by row, and what costs nothing."""

    folder: Path
    config: GroundTruthConfig
    truth: BenchmarkTable
    rows: dict[str, list[RowResult]]
    baselines: dict[str, RankAgreement]


def read(folder: Path, table: str | None = None) -> Study:
    """The rows and seeds that are complete, with the config's table of true accuracies or the one at another place.

    Raises StudyError where there are none, TableError.
    """
    config = tables.read_config(GroundTruthConfig, folder)
    truth = replace(config, table=table or config.table).truth()
    rows: dict[str, list[RowResult]] = {}
    for name, seed, _ in config.searches():
        if (folder / f"{name}-{seed}.{JOURNALS[-1]}.jsonl").exists():
            rows.setdefault(name, []).append(result(folder, name, seed, truth, config.candidates))
    if not rows:
        raise StudyError(f"no row of the study in {folder} is complete yet")
    return Study(folder, config, truth, rows, baselines(truth))
