"""The tables and the page of the study with true accuracies, drawn from its run folder and the table."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from setn_lab.figures import page
from setn_lab.runs.progress import duration
from setn_lab.space import nasbench201
from setn_lab.space.names import label
from setn_lab.studies import tables
from setn_lab.studies.groundtruth.figures import epochs_figure, scatter_figure
from setn_lab.studies.groundtruth.results import BLEND, DRAWS, RankAgreement, RowResult, Study, uses
from setn_lab.studies.groundtruth.study import GroundTruthConfig
from setn_lab.studies.groundtruth.table import DEFAULT_COLUMN

CONTENTS = {
    "config.json": "every parameter; `papermill -f` on it repeats the study",
    "environment.json": "versions, commit, machine, threads",
    "runs.json": "the searches' run folders",
    "zero-cost.jsonl": "scores of uniform architectures before any training",
    "*.candidates.jsonl": "a line per candidate of the evaluator, a file a row and seed",
    "*.uniform.jsonl": "the same for uniform architectures",
    "*.evaluator.jsonl": "the evaluator's probabilities after each epoch",
    "*.metrics.jsonl": "losses, accuracies and seconds of each epoch",
    "epochs.svg": "figure",
    "scatter.svg": "figure",
    "tables.md": "all tables",
    "summary.json": "all figures by name",
}


ALL = "100%"
SHOWN = 8  # epochs of each row in the table of its progress
STATISTICS = {"kendall_tau": "tau-b", "spearman_rho": "rho", "good_pairs": "good pairs"}


# Test accuracies on CIFAR-10 [%] of what others' searches choose in this space, as their authors or the benchmark print
# them, and how a trained one-shot network ranks all its architectures.
PUBLISHED_FOR = DEFAULT_COLUMN  # what they are about
PUBLISHED_ACCURACY = {"SETN": "87.64", "random search, shared weights": "84.07", "GDAS": "93.61", "FairNAS": "93.23"}
PUBLISHED_RANKING = {
    "one-shot": ["+0.485", "", "", "", "+0.677", "", "", "", "73.8%", "", "", ""],
    "few-shot": ["+0.551"] + [""] * 11,
}


def describe(config: GroundTruthConfig) -> str:
    """The searches that the study works on, as Markdown."""
    return tables.searches({f"{name}, seed {seed}": search for name, seed, search in config.searches()})


def contents(folder: Path) -> str:
    """What lies where in the run folder, as Markdown."""
    return page.contents(folder, CONTENTS)


def summary(study: Study) -> dict[str, Any]:
    """Every figure of the study by name, as it goes into summary.json; None where one is undefined."""
    rows: dict[str, Any] = {}
    for name, seeds in study.rows.items():
        rows[name] = {"seeds": [asdict(result) for result in seeds]}
        for key, values in _columns(seeds).items():
            rows[name] |= {f"{key}_mean": _mean(values), f"{key}_std": _std(values)}
        if name == "setn":  # its template also scores SETN-RAND's candidates
            values = [result.uniform for result in seeds]
            random = {"chosen_true_accuracy_mean": _mean(values), "chosen_true_accuracy_std": _std(values)}
            rows["setn-rand"] = random | {"kendall_tau_mean": rows[name]["kendall_tau_mean"]}
    truth = study.truth
    about = {"run": study.folder.name, "table_column": truth.column, "optimum": float(truth.accuracy.max())}
    return {**about, **rows, "baselines": study.baselines, "zero_cost": study.zero_cost}


def _columns(seeds: list[RowResult]) -> dict[str, list[float | None]]:
    columns: dict[str, list[float | None]] = {
        "chosen_true_accuracy": [result.chosen for result in seeds],
        "argmax_true_accuracy": [result.argmax for result in seeds],
        "uniform_true_accuracy": [result.uniform for result in seeds],
        "candidates_true_accuracy": [result.candidates[0] for result in seeds],
        "uniforms_true_accuracy": [result.uniforms[0] for result in seeds],
    }
    for fraction, found in seeds[0].agreement.items():
        within = "" if fraction == ALL else f"_within_best_{fraction}"
        for name in found:
            columns[f"{name}{within}"] = [result.agreement[fraction][name] for result in seeds]
    return columns


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _std(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) > 1 else None


def quality_table(study: Study) -> str:
    """True accuracies of what each row draws and chooses, as Markdown."""
    truth, rows = study.truth, []
    for name, seeds in study.rows.items():
        columns = _columns(seeds)
        keys = ("chosen", "argmax", "uniform", "candidates", "uniforms")
        cells = [_cell(columns[f"{key}_true_accuracy"], ".2f") for key in keys]
        ranks = ", ".join(f"{result.chosen_rank:,}" for result in seeds)
        distinct = ", ".join(f"{result.distinct}" for result in seeds)
        rows.append([name, f"{len(seeds)}", cells[0], ranks, *cells[1:4], distinct, cells[4]])
    if truth.column == PUBLISHED_FOR:
        rows += [[f"published: {name}", "", accuracy, *[""] * 6] for name, accuracy in PUBLISHED_ACCURACY.items()]
    head = ["row", "seeds", "chosen [%]", "its ranks", "argmax [%]", "best of T uniform [%]", "candidates [%]"]
    text = page.table([*head, "different ones", "uniform [%]"], rows)
    text += "\n\nThe means of candidates and of uniform architectures count every draw: one drawn twice counts twice."
    lost = {name: sum(result.not_finite for result in seeds) for name, seeds in study.rows.items()}
    if any(lost.values()):
        counts = ", ".join(f"{count} of {name}" for name, count in lost.items() if count)
        text += f" Draws that are left out, as their one-shot loss is not finite: {counts}."
    return text


def ranking_table(study: Study) -> str:
    """How the one-shot loss ranks uniform architectures, beside what costs nothing and what is published, as Markdown.

    In a cell: among all, then among the best 50%, 10% and 1% by true accuracy.
    The blend has the ranks among the uniform ones.
    """
    rows = []
    for name, seeds in study.rows.items():
        rows.append([name, *_ranking_cells([result.agreement for result in seeds])])
    for name, seeds in study.rows.items():
        rows.append([f"{name}: {BLEND}", *_ranking_cells([result.blend for result in seeds])])
    for name, found in study.zero_cost.items():
        rows.append([f"{name}, of {study.untrained}", *_ranking_cells([found])])
    for name, found in study.baselines.items():
        rows.append([name.replace("_", "-"), *_ranking_cells([found])])
    if study.truth.column == PUBLISHED_FOR:
        rows += [[f"published: {name}", *cells] for name, cells in PUBLISHED_RANKING.items()]
    head = ["row"] + [f"{name}, {part}" for name in STATISTICS.values() for part in ("all", "best 50%", "10%", "1%")]
    text = page.table(head, rows)
    if tables.UNDEFINED in text:
        text += f"\n\n{tables.UNDEFINED.capitalize()}: fewer than three architectures among the best, or equal values."
    return text


def _ranking_cells(found: list[RankAgreement]) -> list[str]:
    cells = []
    for statistic in STATISTICS:
        for fraction in (ALL, "50%", "10%", "1%"):
            cells.append(
                _cell(
                    [agreement[fraction][statistic] for agreement in found], ".1%" if "pairs" in statistic else "+.3f"
                )
            )
    return cells


def _cell(values: list[float | None], form: str) -> str:
    mean = _mean(values)
    return tables.UNDEFINED if mean is None else page.plus_minus(mean, _std(values), form)


def choices_table(study: Study) -> str:
    """What the one-shot loss and what costs nothing choose among the same candidates, as Markdown."""
    rows = []
    for name, seeds in study.rows.items():
        for source, chosen, free in (
            ("candidates", [result.chosen for result in seeds], [result.free for result in seeds]),
            ("uniform", [result.uniform for result in seeds], [result.free_uniform for result in seeds]),
        ):
            own = [_cell([choice[key] for choice in free], ".2f") for key in free[0]]
            rows.append([name, source, _cell([*chosen], ".2f"), *own])
    names = [name.replace("_", "-") for name in study.rows[next(iter(study.rows))][0].free]
    return page.table(["row", "among T of", "one-shot loss [%]", *(f"{name} [%]" for name in names)], rows)


def progress_table(study: Study) -> str:
    """The mean true accuracy of what the evaluator would draw, by epoch and by seconds of the search, as Markdown."""
    rows = []
    for name, seeds in study.rows.items():
        count = len(seeds[0].spread)
        for place in sorted({*range(0, count, max(1, count // SHOWN)), count - 1}):
            seconds = [result.seconds[place] for result in seeds if len(result.seconds) > place]
            time = duration(float(np.mean(seconds))) if len(seconds) == len(seeds) else ""
            accuracy = _cell([result.spread[place][0] for result in seeds], ".2f")
            rows.append([name, str(seeds[0].epochs[place]), time, accuracy])
    return page.table(["row", "epoch", "time of the search", "evaluator's candidates [%]"], rows)


def operations_table(study: Study) -> str:
    """What the one-shot loss thinks of each operation, beside what is true of all architectures, as Markdown."""
    true = uses(nasbench201.every(), study.truth.accuracy)
    rows = [["true accuracy", *(tables.value(rho, "+.2f") for rho in true.values())]]
    for name, seeds in study.rows.items():
        rows.append([name, *(_cell([result.uses[operation] for result in seeds], "+.2f") for operation in true)])
    return page.table(["row", *(label(operation) for operation in true)], rows)


def draws_table(study: Study) -> str:
    """The expected true accuracy of the best of so many candidates by one-shot loss, as Markdown."""
    most = study.config.candidates
    draws = [count for count in DRAWS if count <= most]
    rows = []
    for name, seeds in study.rows.items():
        rows.append([name, *(_cell([result.best_of[str(count)] for result in seeds], ".2f") for count in draws)])
    return page.table(["row", *(f"best of {count} [%]" for count in draws)], rows)


def save(study: Study, target: Path | None = None) -> list[Path]:
    """Write figures (SVG), tables (Markdown) and summary.json into `target`, by default the run folder itself."""
    tables = (
        quality_table(study),
        choices_table(study),
        progress_table(study),
        ranking_table(study),
        operations_table(study),
        draws_table(study),
    )
    return page.write_files(
        target or study.folder,
        {"epochs": epochs_figure(study), "scatter": scatter_figure(study)},
        {"tables.md": "\n\n".join(tables) + "\n"},
        summary(study),
    )


def write(study: Study, target: Path) -> Path:
    """`save` and a page with the run's config, machine and numbers; returns the page."""
    save(study, target)
    config, truth = study.config, study.truth
    paragraphs = [
        f"{Path(config.dataset).name}, C = {config.channels}, N = {config.repeats}, {config.epochs} epochs, the "
        f"evaluator from epoch {config.evaluator_start + 1}, T = {config.candidates}, {config.ranked} uniform "
        f"architectures. True accuracies: {truth.column}; the best of all is {truth.accuracy.max():.2f}%, the mean "
        f"{truth.accuracy.mean():.2f}%. `config.json` holds every parameter: `papermill -f config.json "
        "notebooks/groundtruth.ipynb out.ipynb -p table PATH` repeats it, a folder of images given by `-p dataset`.",
        "## Are the candidates good?",
        quality_table(study),
        "![true accuracy under the evaluator](epochs.svg)",
        "What the one-shot loss chooses among the T candidates, and among the first T uniform architectures, beside "
        "what costs nothing would choose there (the mean where it rates several alike):",
        choices_table(study),
        "The mean true accuracy of what the evaluator would draw, exactly. The time is of the row's own search; a row "
        "with `evaluator_epochs` took the finished template of a row before it.",
        progress_table(study),
        "## Is the one-shot score right?",
        ranking_table(study),
        "![one-shot loss and true accuracy](scatter.svg)",
        "Spearman's rho between how often an architecture uses an operation and how good it is, in truth and by its "
        "one-shot loss:",
        operations_table(study),
        "## Few candidates or many",
        draws_table(study),
    ]
    return page.write_page(study.folder, target, "Study with true accuracies", paragraphs)
