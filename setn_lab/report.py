"""The figures and tables of a run, drawn from its folder alone, so that they can be drawn again in seconds.

`python -m setn_lab.report RUN_FOLDER TARGET_FOLDER` writes them with a page that says which run made them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import graphviz
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import mannwhitneyu

from setn_lab import agreement, cells, edge_cells, plots
from setn_lab.costs import Metric, cost_table
from setn_lab.data import BUILT_IN
from setn_lab.edge_space import EdgeGenotype, EdgeSpace
from setn_lab.genotype import Genotype
from setn_lab.progress import duration
from setn_lab.runs import read_journal
from setn_lab.space import Space
from setn_lab.spaces import distributions, edge_names, final_size, kind_names, parts

SOURCES = {"candidates": "candidates", "baseline": "uniform"}  # journal: what the legend calls it


def curves(folder: Path) -> Figure:
    """Losses, accuracies and the evaluator's entropy over the epochs."""
    metrics = read_journal(folder / "metrics.jsonl")
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
    plots.plot_loss(metrics, axes[0])
    plots.plot_accuracy(metrics, axes[1])
    plots.plot_entropy(read_journal(folder / "evaluator.jsonl"), axes[2])
    return figure


def evaluator(folder: Path) -> Figure:
    """The mixing weights of Eq. 10 after the last epoch, for each kind of cell."""
    space = _space(folder)
    records = read_journal(folder / "evaluator.jsonl")
    names = kind_names(space)
    figure, axes = plt.subplots(1, len(names), figsize=(6.5 * len(names), 5.2), layout="constrained", squeeze=False)
    if records:
        weights = distributions(space, records[-1]).mixing_weights()
        for axis, own, title in zip(axes[0], weights, names, strict=True):
            plots.plot_mixing(own, edge_names(space), space.operations, axis, title)
    return figure


def histogram(folder: Path) -> Figure:
    """One-shot accuracy and loss of the candidates, beside uniform ones where they were scored."""
    scored = {name: read_journal(folder / f"{journal}.jsonl") for journal, name in SOURCES.items()}
    scored = {name: records for name, records in scored.items() if records}
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    accuracy = {name: [100 * one["accuracy"] for one in records] for name, records in scored.items()}
    plots.plot_candidates(accuracy, axes[0])
    loss = {name: [one["loss"] for one in records] for name, records in scored.items()}
    plots.plot_candidates(loss, axes[1], xlabel="one-shot loss [nats]")
    return figure


def winner(folder: Path) -> graphviz.Digraph:
    """The discovered cells, captioned with the sizes of the final network."""
    channels, repeats, parameters, multiply_adds = sizes(folder)[-1]
    caption = (
        f"C = {channels}, N = {repeats}, 32x32: {parameters / 1e6:.2f} M parameters, "
        f"{multiply_adds / 1e6:.0f} M multiply-adds"
    )
    return edge_cells.draw(genotype(folder), caption)


def genotype(folder: Path) -> Any:
    """What the search has chosen, a genotype of its space."""
    text = (folder / "genotype.json").read_text()
    return EdgeGenotype.from_json(text) if isinstance(_space(folder), EdgeSpace) else Genotype.from_json(text)


def sizes(folder: Path) -> list[tuple[int, int, int, int]]:
    """(C, N, parameters, multiply-adds) of the winner's network at the searched and at the final size.

    Both for 32x32 colour images and 10 classes, without an auxiliary head.
    """
    config, space = _config(folder), _space(folder)
    architecture = space.encode(genotype(folder))
    rows = []
    for channels, repeats in ((config["channels"], config["repeats"]), final_size(space)):
        parameters, multiply_adds = (
            cost_table(space, channels, repeats, 3, 32, 10, metric).of(architecture) for metric in METRICS
        )
        rows.append((channels, repeats, int(parameters), int(multiply_adds)))
    return rows


def summary(folder: Path) -> list[dict[str, Any]]:
    """One row per source: candidates, images, and mean, standard deviation and best of the scores on all images.

    After a race these are the scores of the ones that were left; `images` says that others saw fewer.
    """
    rows = []
    for journal, name in SOURCES.items():
        records = read_journal(folder / f"{journal}.jsonl")
        if not records:
            continue
        images = np.array([one["images"] for one in records])
        complete = images == images.max()
        loss = np.array([one["loss"] for one in records])[complete]
        accuracy = np.array([one["accuracy"] for one in records])[complete]
        rows.append(
            {
                "source": name,
                "draws": sum(one["draws"] for one in records),
                "distinct": len(records),
                "images": f"{images.max()}" if complete.all() else f"{images.min()} to {images.max()}",
                "loss": loss.mean(),
                "loss_std": loss.std(ddof=1) if len(loss) > 1 else 0.0,
                "best_loss": loss.min(),
                "accuracy": accuracy.mean(),
                "accuracy_std": accuracy.std(ddof=1) if len(loss) > 1 else 0.0,
                "best_accuracy": accuracy.max(),
            }
        )
    return rows


def summary_table(folder: Path) -> str:
    """`summary` as Markdown."""
    lines = [
        "| source | draws | distinct | images | loss | lowest loss | accuracy | highest accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in summary(folder):
        lines.append(
            f"| {row['source']} | {row['draws']} | {row['distinct']} | {row['images']} "
            f"| {row['loss']:.4f} ± {row['loss_std']:.4f} | {row['best_loss']:.4f} "
            f"| {row['accuracy']:.2%} ± {row['accuracy_std']:.2%} | {row['best_accuracy']:.2%} |"
        )
    return "\n".join(lines)


def comparison(folder: Path) -> str:
    """How the candidates' losses differ from the uniform ones', in a sentence; empty without uniform ones."""
    records = [read_journal(folder / f"{journal}.jsonl") for journal in SOURCES]
    if min(map(len, records)) < 2:
        return ""
    if len({one["images"] for source in records for one in source}) > 1:
        return "The candidates were raced, so their losses are not compared with the uniform ones'."
    drawn, uniform = (np.array([one["loss"] for one in source]) for source in records)
    difference = drawn.mean() - uniform.mean()
    error = np.sqrt(drawn.var(ddof=1) / len(drawn) + uniform.var(ddof=1) / len(uniform))
    test = mannwhitneyu(drawn, uniform, method="asymptotic")
    better = 1 - test.statistic / (len(drawn) * len(uniform))
    return (
        f"The candidates' mean loss differs from the uniform ones' by {difference:+.4f} ± {error:.4f} (standard error; "
        f"negative is better). A candidate beats a uniform one in {better:.0%} of pairs (Mann-Whitney U, two-sided "
        f"p = {test.pvalue:.2g})."
    )


def sizes_table(folder: Path) -> str:
    """`sizes` as Markdown."""
    lines = ["| C | N | parameters | multiply-adds, 32x32 |", "|---|---|---|---|"]
    lines += [f"| {c} | {n} | {parameters:,} | {adds:,} |" for c, n, parameters, adds in sizes(folder)]
    return "\n".join(lines)


METRICS: tuple[Metric, ...] = ("parameters", "multiply_adds")
CONTENTS = {
    "config.json": "every parameter; `papermill -f` on it repeats the run",
    "environment.json": "versions, commit, machine, threads",
    "metrics.jsonl": "losses and accuracies, a line an epoch",
    "evaluator.jsonl": "the evaluator's probabilities, a line an epoch",
    "candidates.jsonl": "a line a scored candidate",
    "race-000.npz": "with the ones that follow: the scores of a race, a file a batch",
    "baseline.jsonl": "the same for uniform candidates",
    "genotype.json": "the winner",
    "checkpoints": "the newest two checkpoints",
    "curves.svg": "figure",
    "evaluator.svg": "figure",
    "candidates.svg": "figure",
    "cells.svg": "figure",
}


def contents(folder: Path) -> str:
    """What lies where in a run folder, as Markdown."""
    lines = [f"- `{folder / name}`: {what}" for name, what in CONTENTS.items() if (folder / name).exists()]
    return "\n".join(["Everything of this run lies in its folder:", "", *lines])


def save(folder: Path, target: Path | None = None) -> list[Path]:
    """Write the figures as SVG into `target`, by default the run folder itself; returns their paths."""
    target = target or folder
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in (("curves", curves), ("evaluator", evaluator), ("candidates", histogram)):
        figure = draw(folder)
        paths.append(target / f"{name}.svg")
        # a fixed salt and no date: the same run gives the same file
        with plt.rc_context({"svg.hashsalt": "setn_lab", "svg.fonttype": "none"}):
            figure.savefig(paths[-1], metadata={"Date": None})
        plt.close(figure)
    paths.append(target / "cells.svg")
    paths[-1].write_bytes(cells.render(winner(folder), "svg"))
    return paths


def write(folder: Path, target: Path) -> Path:
    """Write the figures and a page with the run's config, machine, duration and numbers; returns the page."""
    save(folder, target)
    config, environment = _config(folder), json.loads((folder / "environment.json").read_text())
    metrics = read_journal(folder / "metrics.jsonl")
    trained = sum(record["seconds"] for record in metrics)
    found = genotype(folder)
    (target / "genotype.json").write_text(found.to_json() + "\n")
    stored = (folder / "config.json").read_text()
    if config["dataset"] not in BUILT_IN:  # a page is read on other machines than the run's
        stored = stored.replace(json.dumps(config["dataset"]), json.dumps(f"path/to/{config['dataset_name']}"))
    (target / "config.json").write_text(stored)
    used = {name: value for name, value in environment.items() if name not in ("resumed_in", "kind")}
    later = [f"started again at commit {start['git_commit']}" for start in environment["resumed_in"]]
    last = metrics[-1]
    uniform_and_evaluator = (read_journal(folder / f"{name}.jsonl") for name in ("baseline", "evaluator"))
    lines = [
        f"# Search run {folder.name}",
        "",
        f"{config['dataset_name']}, {config['epochs']} epochs, C = {config['channels']}, N = {config['repeats']}, "
        f"seed {config['seed']}; training took {duration(trained)}. `config.json` holds every parameter: "
        "`papermill -f config.json` repeats the run, a folder of images given by `-p dataset`.",
        "",
        f"Last epoch: weights' loss {last['weight_loss']:.3f} (accuracy {last['weight_accuracy']:.1%}), evaluator's "
        f"loss {last['evaluator_loss']:.3f} (accuracy {last['evaluator_accuracy']:.1%}), entropy of the "
        f"quadruples {metrics[0]['entropy']:.2f} nats after the first epoch, {last['entropy']:.2f} after the last.",
        "",
        "![curves](curves.svg)",
        "",
        "## Candidates",
        "",
        summary_table(folder),
        "",
        comparison(folder),
        "",
        "![candidates](candidates.svg)",
        "",
        "## Does the evaluator rank what the discrete networks rank?",
        "",
        *agreement.section(_space(folder), *uniform_and_evaluator),
        "## The evaluator",
        "",
        "![mixing weights](evaluator.svg)",
        "",
        "## The winner",
        "",
        "![cells](cells.svg)",
        "",
        sizes_table(folder),
        "",
        f"`{_space(folder).write(found)}`",
        "",
        "## Machine",
        "",
        *(f"- {name}: {value}" for name, value in used.items()),
        *(f"- {line}" for line in later),
        "",
    ]
    page = target / "README.md"
    page.write_text("\n".join(lines))
    return page


def _config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    return {**config, "dataset_name": Path(config["dataset"]).name}


def _space(folder: Path) -> Space:
    config = _config(folder)
    return parts(config["space"], config["nodes"])[0]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m setn_lab.report RUN_FOLDER TARGET_FOLDER")
    print(write(Path(sys.argv[1]), Path(sys.argv[2])))
