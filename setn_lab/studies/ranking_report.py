"""The figures and tables of a pairwise study, drawn from its run folder alone."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from setn_lab.figures import page
from setn_lab.runs.progress import duration
from setn_lab.runs.run import read_journal
from setn_lab.studies import plots, tables
from setn_lab.studies.ranking import RankingConfig
from setn_lab.studies.ranking_results import (
    Networks,
    PredictorRow,
    ceiling,
    finalists,
    networks,
    predictor_rows,
    summary,
    two_seeds,
)
from setn_lab.studies.statistics.ranks import FRACTIONS

PREDICTORS = {
    "accuracy": "one-shot accuracy",
    "loss": "one-shot loss (negative)",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "separable_convolutions": "separable convolutions",
    "log_probability": "evaluator's log-probability",
}
CONTENTS = {
    "config.json": "every parameter; `papermill -f` on it repeats the study",
    "environment.json": "versions, commit, machine, threads",
    "runs.json": "the search's run folder, which holds template, evaluator and candidates",
    "scored.jsonl": "the one-shot scores, a line an architecture",
    "trained.jsonl": "what training from scratch came to, here or as the table says, a line per network",
    "two_seeds.json": "the accuracies of networks that were trained twice",
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


def table(folder: Path) -> str:
    """Every predictor beside the accuracy after training from scratch, as Markdown."""
    found = networks(folder)
    if not len(found.true):
        return "\n".join(["No network is trained yet.", *_left_out(found)])
    statistics, twice = predictor_rows(found), two_seeds(folder)
    rows = [_cells(label, statistics[name]) for name, label in PREDICTORS.items()]
    if len(twice):
        rows.append(_cells("ceiling: another seed", ceiling(twice)))
    head = ["predictor", "good pairs", "tied", "Kendall's tau-b", "weighted tau", "Spearman's rho", "NDCG"]
    return "\n".join(
        [
            page.table([*head, *(f"tau-b, best {fraction:.0%}" for fraction in FRACTIONS)], rows),
            "",
            *_how_compared(found, statistics["accuracy"]),
            *_how_weighed(statistics["accuracy"]),
            *(_about_ceiling(twice) if len(twice) else []),
            *_left_out(found),
        ]
    )


def _cells(label: str, row: PredictorRow) -> list[str]:
    """The line of a predictor in the table."""
    return [
        label,
        tables.interval(row.good_pairs_detail, ".1%"),
        f"{row.pairs_tied[0]}",
        tables.interval(row.kendall_tau_detail, "+.3f"),
        tables.interval(row.weighted_tau_detail, "+.3f"),
        tables.interval(row.spearman_rho_detail, "+.3f"),
        tables.value(row.ndcg, ".3f"),
        *(tables.interval(interval, "+.2f") for interval in row.kendall_tau_within_best.values()),
    ]


def _how_compared(found: Networks, row: PredictorRow) -> list[str]:
    """Which pairs there are, and what the intervals are."""
    drawn = found.pairs is not None
    which = (
        "pairs; a pair drawn twice counts twice, a network once."
        if drawn
        else "pairs: all of two different networks, since the table has them at no cost and pairs that are drawn only "
        "add the chance of the draw."
    )
    intervals = (
        "Wilson's for shares, bootstrap over networks for correlations."
        if drawn
        else "bootstrap over networks, for shares too, as pairs that share a network depend on each other."
    )
    return [
        f"{len(found.true)} networks, {found.compared} {which} A pair is good when both comparisons come out the same; "
        f"one that is tied on one side alone is bad. {row.pairs_tied[1]} pairs are tied in accuracy after training. In "
        f"parentheses 95% intervals: {intervals}"
    ]


def _how_weighed(row: PredictorRow) -> list[str]:
    """What the statistics of the best networks are."""
    if row.ndcg_by_chance is None:
        return []
    return [
        "",
        "Weighted tau (Vigna 2015) counts a pair by the sum of 1 / rank of both. NDCG has gains from 0, for the lowest "
        f"accuracy after training, to 1, for the highest; a random order has {row.ndcg_by_chance:.3f} in the mean. "
        "It depends on the number of networks and the spread of their accuracies.",
    ]


def _about_ceiling(twice: NDArray[np.float64]) -> list[str]:
    """What the ceiling is."""
    row = ceiling(twice)
    fewest = min(interval.count for interval in row.kendall_tau_within_best.values())
    chance = "" if row.ndcg_by_chance is None else f", where a random order has an NDCG of {row.ndcg_by_chance:.3f}"
    return [
        "",
        f"The ceiling: {len(twice)} networks were trained twice, and the first seed's accuracy predicts the second's"
        f"{chance}. Both sides have the noise of a training; a prediction without noise may lie somewhat above it. "
        f"The best {min(FRACTIONS):.0%} of them are {fewest} networks.",
    ]


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
    bins = predictor_rows(found)["accuracy"].good_pairs_by_gap
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
    statistics, shares = predictor_rows(found), {}
    for name in ("accuracy", "parameters", "separable_convolutions", "log_probability"):
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
    paragraphs = [
        _introduction(config, folder),
        table(folder),
        "![one-shot accuracy against accuracy after training](scatter.svg)",
        "## By the gap",
        gap_table(folder),
        "![good pairs by gap](gaps.svg)",
        *(["## Finalists", finalists_table(folder)] if config.table is None else []),
    ]
    return page.write_page(folder, target, "Pairwise study", paragraphs)


def _introduction(config: RankingConfig, folder: Path) -> str:
    """What was compared, of which template, and how to repeat it."""
    size = f"C = {config.retrain_channels}, N = {config.retrain_repeats}"
    if config.table is None:
        seconds = sum(record.get("seconds", 0.0) for record in read_journal(folder / "trained.jsonl"))
        what = f"{config.pairs} pairs drawn from: {config.pair_source}"
        networks = f"{size}, {config.retrain_epochs} epochs on D_train, {duration(seconds)} of training in all"
        given = "a folder of images given by `-p dataset`"
    else:
        what = f"the cells of {Path(config.table).name}, whose column {config.table_column} is the accuracy"
        networks = f"{size} where their parameters and multiply-adds are counted; none is trained here"
        given = "images and tables given by `-p dataset`, `-p table` and `-p two_seeds`"
    return (
        f"{Path(config.dataset).name}, {what}; template of {tables.folders(folder)}: C = {config.channels}, N = "
        f"{config.repeats}, {config.epochs} epochs, seed {config.seed}. Networks: {networks}. `config.json` holds "
        f"every parameter: `papermill -f config.json notebooks/ranking.ipynb out.ipynb` repeats it, {given}."
    )
