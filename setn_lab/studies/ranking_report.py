"""The figures and tables of a pairwise study, drawn from its run folder alone."""

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from setn_lab.figures import page
from setn_lab.runs.progress import duration
from setn_lab.runs.run import read_journal
from setn_lab.studies import plots, tables
from setn_lab.studies.ranking import Networks, RankingConfig, finalists, networks
from setn_lab.studies.statistics import GapBin, Interval, by_gap, good_pairs, kendall, spearman, within_best

FRACTIONS = (0.1, 0.25, 0.5)
PREDICTORS = {
    "accuracy": "one-shot accuracy",
    "loss": "one-shot loss (negative)",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "log_probability": "evaluator's log-probability",
}


CONTENTS = {
    "config.json": "every parameter; `papermill -f` on it repeats the study",
    "environment.json": "versions, commit, machine, threads",
    "runs.json": "the search's run folder, which holds template, evaluator and candidates",
    "scored.jsonl": "the one-shot scores, a line an architecture",
    "trained.jsonl": "what training from scratch came to, a line per network",
    "pairs.json": "the pairs, as line numbers of scored.jsonl",
    "best.json": "the best one-shot candidates of the search",
    "finalists.jsonl": "what training these for longer came to",
    "genotype.json": "the finalist to choose",
    "scatter.svg": "figure",
    "gaps.svg": "figure",
    "networks.csv": "every network's predictors and accuracy",
    "tables.md": "all tables",
    "summary.json": "all figures by name",
}


def describe(config: RankingConfig) -> str:
    """The search that the study works on, as Markdown. Raises ConfigError as `StudyConfig.search` does."""
    return tables.searches({config.strategy: config.search(config.strategy, config.search_run)})


def contents(folder: Path) -> str:
    """What lies where in the run folder, as Markdown."""
    return page.contents(folder, CONTENTS)


def summary(folder: Path) -> dict[str, Any]:
    """Every figure of the study by name, as it goes into summary.json; None where one is undefined."""
    found = networks(folder)
    rows = {name: asdict(row) for name, row in _statistics(found).items()}
    for row in rows.values():
        row |= {name: row[f"{name}_detail"]["value"] for name in ("good_pairs", "kendall_tau", "spearman_rho")}
    runs = json.loads((folder / "runs.json").read_text(encoding="utf-8")) if (folder / "runs.json").exists() else {}
    return {
        "run": folder.name,
        "searches": runs,
        "networks": len(found.true),
        "pairs": len(found.pairs),
        "pairs_left_out": found.left_out,
        "pairs_with_itself": found.itself,
        "not_finite": found.not_finite,
        "failed": {str(number): reason for number, reason in found.failed.items()},
        **rows.pop("accuracy"),
        "baselines": rows,
        "finalists": finalists(folder),
    }


@dataclass(frozen=True)
class PredictorRow:
    """All statistics of one predictor. pairs_tied: in its predictions, and in the accuracy after training."""

    good_pairs_detail: Interval
    pairs_tied: tuple[int, int]
    kendall_tau_detail: Interval
    spearman_rho_detail: Interval
    kendall_tau_within_best: dict[str, Interval]
    good_pairs_by_gap: list[GapBin]


def _statistics(found: Networks) -> dict[str, PredictorRow]:
    true, pairs = tuple(found.true.tolist()), tuple(map(tuple, found.pairs.tolist()))
    return {name: _row(tuple(values.tolist()), true, pairs) for name, values in found.predictors.items()}


@functools.lru_cache(maxsize=64)  # the bootstrap takes seconds, and every table and figure asks for it
def _row(predicted: tuple[float, ...], true: tuple[float, ...], pairs: tuple[tuple[int, int], ...]) -> PredictorRow:
    x, y, places = np.array(predicted), np.array(true), np.array(pairs, dtype=np.int64).reshape(-1, 2)
    good = good_pairs(x[places], y[places])
    return PredictorRow(
        good.share,
        (good.tied_predicted, good.tied_true),
        kendall(x, y),
        spearman(x, y),
        {f"{fraction:.0%}": interval for fraction, interval in within_best(x, y, FRACTIONS).items()},
        by_gap(x[places], y[places]),
    )


def table(folder: Path) -> str:
    """Every predictor beside the accuracy after training from scratch, as Markdown."""
    found = networks(folder)
    if not len(found.true):
        return "\n".join(["No network is trained yet.", *_left_out(found)])
    statistics = _statistics(found)
    rows = [
        [
            label,
            tables.interval(statistics[name].good_pairs_detail, ".1%"),
            f"{statistics[name].pairs_tied[0]}",
            tables.interval(statistics[name].kendall_tau_detail, "+.3f"),
            tables.interval(statistics[name].spearman_rho_detail, "+.3f"),
            *(tables.interval(interval, "+.2f") for interval in statistics[name].kendall_tau_within_best.values()),
        ]
        for name, label in PREDICTORS.items()
    ]
    head = ["predictor", "good pairs", "tied", "Kendall's tau-b", "Spearman's rho"]
    tied = statistics["accuracy"].pairs_tied[1]
    return "\n".join(
        [
            page.table([*head, *(f"tau-b, best {fraction:.0%}" for fraction in FRACTIONS)], rows),
            "",
            f"{len(found.true)} networks, {len(found.pairs)} pairs; a pair drawn twice counts twice, a network once. "
            "A pair is good when both comparisons come out the same; one that is tied on one side alone is bad. "
            f"{tied} pairs are tied in accuracy after training. In parentheses 95% intervals: Wilson's for shares, "
            "bootstrap over networks for correlations.",
            *_left_out(found),
        ]
    )


def _left_out(found: Networks) -> list[str]:
    lines = []
    if found.itself:
        lines += ["", f"{found.itself} pairs of a network with itself are left out."]
    if found.left_out:
        why = "a network of theirs failed, is not trained yet or has no finite one-shot loss"
        lines += ["", f"{found.left_out} pairs are left out: {why}."]
    if found.not_finite:
        lines += ["", f"{found.not_finite} networks are left out, as their one-shot loss is not finite."]
    return lines + [f"- network {number} failed: {reason}" for number, reason in found.failed.items()]


def gap_table(folder: Path) -> str:
    """Good pairs of the one-shot accuracy by the gap in accuracy after training, as Markdown."""
    found = networks(folder)
    bins = _statistics(found)["accuracy"].good_pairs_by_gap
    if not bins:
        return "No pair is complete yet."
    rows = [
        [f"{gap.least_gap:.2%} to {gap.most_gap:.2%}", f"{gap.share.count}", tables.interval(gap.share, ".0%")]
        for gap in bins
    ]
    return page.table(["gap in accuracy after training", "pairs", "good"], rows)


def scatter(folder: Path) -> Figure:
    """One-shot accuracy against accuracy after training from scratch, with both histograms."""
    found = networks(folder)
    figure, axes = plt.subplots(
        2,
        2,
        figsize=(5.6, 5.2),
        layout="constrained",
        sharex="col",
        sharey="row",
        width_ratios=(5, 1),
        height_ratios=(1, 5),
    )
    axes[0, 1].set_axis_off()
    sides = axes[0, 0], axes[1, 1]
    plots.plot_scatter(100 * found.predictors["accuracy"], 100 * found.true, axes[1, 0], sides)
    return figure


def gaps(folder: Path) -> Figure:
    """Good pairs by the gap in accuracy, for the one-shot accuracy and the baselines that cost nothing."""
    found = networks(folder)
    statistics, shares = _statistics(found), {}
    for name in ("accuracy", "parameters", "log_probability"):
        shares[PREDICTORS[name]] = [
            (100 * gap.mean_gap, 100 * gap.share.value, 100 * (gap.share.low or 0.0), 100 * (gap.share.high or 0.0))
            for gap in statistics[name].good_pairs_by_gap
            if gap.share.value is not None
        ]
    figure, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    plots.plot_by_gap(shares, ax)
    return figure


def finalists_table(folder: Path) -> str:
    """The finalists as Markdown; the one to choose is marked."""
    found = finalists(folder)
    if not found:
        return "No finalist is trained."
    accuracies = [finalist["trained"].get("accuracy", -1.0) for finalist in found]
    chosen = int(np.argmax(accuracies))
    rows = [
        [
            f"{number}" + (" (chosen)" if number - 1 == chosen else ""),
            f"{finalist['one_shot']['loss']:.4f}",
            f"{finalist['one_shot']['accuracy']:.2%}",
            f"{accuracy:.2%}" if accuracy >= 0 else f"failed: {finalist['trained']['failed']}",
        ]
        for number, (finalist, accuracy) in enumerate(zip(found, accuracies, strict=True), 1)
    ]
    return page.table(["rank", "one-shot loss", "one-shot accuracy", "accuracy after training"], rows)


def save(folder: Path, target: Path | None = None) -> list[Path]:
    """Write figures (SVG), tables (CSV, Markdown) and summary.json into `target`, by default the run folder itself."""
    found = networks(folder)
    columns = {**found.predictors, "true": found.true}
    rows = [{name: values[number] for name, values in columns.items()} for number in range(len(found.true))]
    texts = table(folder), gap_table(folder), finalists_table(folder)
    return page.write_files(
        target or folder,
        {"scatter": scatter(folder), "gaps": gaps(folder)},
        {"networks.csv": tables.csv_text(rows, tuple(columns)), "tables.md": "\n\n".join(texts) + "\n"},
        summary(folder),
    )


def write(folder: Path, target: Path) -> Path:
    """`save` and a page with the run's config, machine, durations and numbers; returns the page."""
    save(folder, target)
    config = tables.read_config(RankingConfig, folder)
    seconds = sum(record.get("seconds", 0.0) for record in read_journal(folder / "trained.jsonl"))
    paragraphs = [
        f"{Path(config.dataset).name}, {config.pairs} pairs drawn from: {config.pair_source}; template of "
        f"{tables.folders(folder)}: C = {config.channels}, N = {config.repeats}, {config.epochs} epochs, seed "
        f"{config.seed}. Networks: C = {config.retrain_channels}, N = {config.retrain_repeats}, "
        f"{config.retrain_epochs} epochs on D_train, {duration(seconds)} of training in all. `config.json` holds every "
        "parameter: `papermill -f config.json notebooks/ranking.ipynb out.ipynb` repeats it, a folder of images given "
        "by `-p dataset`.",
        table(folder),
        "![one-shot accuracy against accuracy after training](scatter.svg)",
        "## By the gap",
        gap_table(folder),
        "![good pairs by gap](gaps.svg)",
        "## Finalists",
        finalists_table(folder),
    ]
    return page.write_page(folder, target, "Pairwise study", paragraphs)
