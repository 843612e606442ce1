"""The figures and tables of a search, drawn from its run folder alone, so that they can be drawn again in seconds."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import graphviz
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from setn_lab.config import completed
from setn_lab.figures import page, plots, style
from setn_lab.figures.panels import mixing_panel
from setn_lab.kits import KITS, Kit
from setn_lab.network.costs import CostTable, Metric
from setn_lab.runs.files import replace_file
from setn_lab.runs.progress import collapse, duration
from setn_lab.runs.run import read_journal
from setn_lab.search import agreement
from setn_lab.search.config import SearchConfig
from setn_lab.search.estimate import Estimate
from setn_lab.search.setup import Search
from setn_lab.search.verdict import LEADERS, difference, drawn, finite, verdict
from setn_lab.space.protocol import Space

SOURCES = {"candidates": "candidates", "baseline": "uniform"}  # journal: what the legend calls it


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


METRICS: tuple[Metric, ...] = ("parameters", "multiply_adds")


@lru_cache(maxsize=16)  # seconds for a large network, and figure, table and file ask for the same
def _cost_tables(kit: Kit, space: Any, channels: int, repeats: int) -> list[CostTable]:
    return [kit.cost_table(space, channels, repeats, 3, 32, 10, metric) for metric in METRICS]


def curves(run: SearchRun) -> Figure:
    """Losses, accuracies and the evaluator's entropy over the epochs."""
    metrics = run.journal("metrics")
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
    plots.plot_loss(metrics, axes[0])
    plots.plot_accuracy(metrics, axes[1])
    plots.plot_entropy(*relative_entropies(run), axes[2])
    return figure


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


def evaluator(run: SearchRun) -> Figure:
    """The mixing weights of Eq. 10 after the last epoch, for each type of cell."""
    names, evaluators = run.space.cell_names, run.evaluators()
    figure, axes = plt.subplots(1, len(names), figsize=(6.5 * len(names), 5.2), layout="constrained", squeeze=False)
    if evaluators:
        for axis, own, title in zip(axes[0], evaluators[-1].mixing_weights(), names, strict=True):
            plots.plot_panel(mixing_panel(run.space, own, title), axis).set_ylabel("edge")
    return figure


def histogram(run: SearchRun) -> Figure:
    """One-shot accuracy and loss of every draw, beside uniform ones where they were scored."""
    scored = {name: run.journal(journal) for journal, name in SOURCES.items()}
    scored = {name: records for name, records in scored.items() if records}
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    accuracy = {name: (100 * drawn(records, "accuracy")).tolist() for name, records in scored.items()}
    plots.plot_candidates(accuracy, axes[0])
    loss = {name: drawn(records, "loss").tolist() for name, records in scored.items()}
    plots.plot_candidates(loss, axes[1], xlabel="one-shot loss [nats]")
    return figure


def winner(run: SearchRun) -> graphviz.Digraph:
    """The discovered cells, captioned with the sizes of the final network."""
    genotype = run.genotype()
    size = run.size(genotype, *run.kit.final_size)
    caption = (
        f"C = {size.channels}, N = {size.repeats}, 32x32: {size.parameters / 1e6:.2f} M parameters, "
        f"{size.multiply_adds / 1e6:.0f} M multiply-adds"
    )
    return run.kit.draw(genotype, caption)


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


def summary_table(run: SearchRun) -> str:
    """`summary` as Markdown."""
    found = summary(run)
    rows = []
    for row in found:
        scores = ["none is finite"] * 4
        if row["loss"] is not None:
            scores = [
                page.plus_minus(row["loss"], row["loss_std"], ".4f"),
                f"{row['best_loss']:.4f}",
                page.plus_minus(row["accuracy"], row["accuracy_std"], ".2%"),
                f"{row['best_accuracy']:.2%}",
            ]
        rows.append([row["source"], f"{row['draws']}", f"{row['distinct']}", row["images"], *scores])
    head = ["source", "draws", "distinct", "images", "loss", "lowest loss", "accuracy", "highest accuracy"]
    text = page.table(head, rows) + "\n\nMean ± standard deviation over the draws: one drawn twice counts twice."
    for row in found:
        if row["not_finite"]:
            text += f" {row['not_finite']} draws of {row['source']} are left out, as their loss is not finite."
    return text


def comparison(run: SearchRun) -> str:
    """How the draws' losses differ from the uniform ones', in a sentence; empty without uniform ones."""
    records = [run.journal(journal) for journal in SOURCES]
    losses, uniform = (drawn(finite(source), "loss") for source in records)
    found = difference(losses, uniform)
    if found is None:
        return ""
    if len({record["images"] for source in records for record in source}) > 1:
        return "The candidates were raced, so their losses are not compared with the uniform ones'."
    return (
        f"The candidates' mean loss differs from the uniform ones' by {found.mean:+.4f} ± {found.error:.4f} (standard "
        f"error; negative is better). A candidate beats a uniform one in {found.better:.0%} of pairs (Mann-Whitney U, "
        f"two-sided p = {found.p:.2g})."
    )


def sizes_table(sizes: list[NetworkSize]) -> str:
    """Sizes as Markdown."""
    rows = [
        [f"{size.channels}", f"{size.repeats}", f"{size.parameters:,}", f"{size.multiply_adds:,}"] for size in sizes
    ]
    return page.table(["C", "N", "parameters", "multiply-adds, 32x32"], rows)


CONTENTS = {
    "config.json": "every parameter; `papermill -f` on it repeats the run",
    "environment.json": "versions, commit, machine, threads",
    "metrics.jsonl": "losses and accuracies, a line per epoch",
    "evaluator.jsonl": "the evaluator's probabilities, a line per epoch",
    "candidates.jsonl": "a line per scored candidate",
    "race-000.npz": "with the ones that follow: the scores of a race, a file a batch",
    "baseline.jsonl": "the same for uniform candidates",
    "genotype.json": "the winner",
    LEADERS: "the best ten, and how far each is behind the winner",
    "sizes.json": "its parameters and multiply-adds, as searched and as trained",
    "checkpoints": "the newest two checkpoints",
    "curves.svg": "figure",
    "evaluator.svg": "figure",
    "candidates.svg": "figure",
    "cells.svg": "figure",
}


def contents(run: SearchRun) -> str:
    """What lies where in a run folder, as Markdown."""
    return page.contents(run.folder, CONTENTS)


def save(run: SearchRun, target: Path | None = None) -> list[Path]:
    """Write figures (SVG) and sizes.json into `target`, by default the run folder itself; returns their paths."""
    target = target or run.folder
    target.mkdir(parents=True, exist_ok=True)
    drawings = {"curves": curves, "evaluator": evaluator, "candidates": histogram}
    paths = [page.save_figure(draw(run), target / f"{name}.svg") for name, draw in drawings.items()]
    paths.append(target / "cells.svg")
    replace_file(paths[-1], style.render(winner(run), "svg"))
    paths.append(target / "sizes.json")
    sizes = [size._asdict() for size in run.sizes(run.genotype())]
    replace_file(paths[-1], (json.dumps(sizes, indent=1) + "\n").encode())
    return paths


def write(folder: Path, target: Path) -> Path:
    """Write the figures and a page with the run's config, machine, duration and numbers; returns the page."""
    run = SearchRun.read(folder)
    save(run, target)
    config, metrics, found = run.config, run.journal("metrics"), run.genotype()
    replace_file(target / "genotype.json", (found.to_json() + "\n").encode())
    first, last = metrics[0], metrics[-1]
    losses = [
        f"{name} loss {last[f'{key}_loss']:.3f} (accuracy {last[f'{key}_accuracy']:.1%})"
        for name, key in (("weights'", "weight"), ("evaluator's", "evaluator"))
        if last[f"{key}_loss"] is not None
    ]
    collapsed = collapse(last["entropy"])
    size = f"{config['epochs']} epochs, C = {config['channels']}, N = {config['repeats']}, seed {config['seed']}"
    paragraphs = [
        verdict(folder).markdown(),
        f"{Path(config['dataset']).name}, {size}; training took {duration(sum(line['seconds'] for line in metrics))}. "
        "`config.json` holds every parameter: `papermill -f config.json` repeats the run, a folder of images given by "
        "`-p dataset`.",
        f"Last epoch: {', '.join([*losses, 'entropy of the architecture'])} {last['entropy']:.2f} nats, after epoch "
        f"{first['epoch']} {first['entropy']:.2f}.",
        f"The evaluator has {collapsed}: most candidates are the same." if collapsed else "",
        "![curves](curves.svg)",
        "## Candidates",
        summary_table(run),
        comparison(run),
        "![candidates](candidates.svg)",
        "## Does the evaluator rank what the discrete networks rank?",
        *agreement.section(run.evaluators()[-1], finite(run.journal("baseline"))),
        "## The evaluator",
        "![mixing weights](evaluator.svg)",
        "## The winner",
        "![cells](cells.svg)",
        sizes_table(run.sizes(found)),
        f"`{run.space.write(found)}`",
    ]
    return page.write_page(folder, target, "Search run", paragraphs)


def describe_search(search: Search) -> str:
    """The split, the space and the template as Markdown."""
    config, train, valid = search.config, search.train, search.valid
    template = sum(parameter.numel() for parameter in search.template.parameters())
    space = search.space
    return page.facts(
        {
            "images": f"{train.image_size} x {train.image_size}, {train.channels} channels, "
            f"{len(train.classes)} classes",
            "D_train": f"{len(train):,} images, {search.steps} steps of {config.batch_size} an epoch"
            + (f", in {config.batch_parts} parts" if config.batch_parts > 1 else ""),
            "D_val": f"{len(valid):,} images",
            "search space": f"{len(space.operations)} operations, {space.nodes} nodes, "
            f"{space.count_architectures():.3g} distinct architectures",
            "template": f"C = {config.channels}, N = {config.repeats}, {len(search.template.cells)} cells, "
            f"{template:,} parameters",
            "strategy": f"{config.strategy}, candidates from {config.candidate_source}",
            "device": f"{search.device}",
            **(
                {"without effect": "path_dropout and sampling, since SETN-NON's weight step takes every operation"}
                if config.strategy == "setn-non"
                else {}
            ),
        }
    )


def describe_estimate(search: Search, estimate: Estimate) -> str:
    """How long the whole run takes and what memory it needs, as Markdown."""
    config = search.config
    total = duration(estimate.training + estimate.scoring)
    memory = "" if estimate.memory is None else f" It needs about **{estimate.memory / 2**30:.1f} GiB** of memory."
    epochs = [] if config.template_run is not None else [f"{config.epochs} epochs"]
    epochs += [f"{config.evaluator_epochs} of the evaluator alone"] if config.evaluator_epochs else []
    return (
        f"A run from the start takes about **{total}**: {duration(estimate.training)} to train "
        f"{' and '.join(epochs) or 'nothing'} ({1000 * estimate.weight_step:.0f} ms a weight step, "
        f"{1000 * estimate.evaluator_step:.0f} ms an evaluator step) and {duration(estimate.scoring)} to score "
        f"{config.candidates + config.baseline_candidates} candidates ({estimate.candidate:.2f} s each).{memory}"
    )
