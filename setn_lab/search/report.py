"""The figures and tables of a search, drawn from its run folder alone, so that they can be drawn again in seconds."""

import json
from pathlib import Path

import graphviz
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from setn_lab.figures import page, plots, style
from setn_lab.figures.panels import mixing_panel
from setn_lab.runs.files import replace_file
from setn_lab.runs.progress import collapse, duration
from setn_lab.search import agreement, front
from setn_lab.search.caps import OBEYED
from setn_lab.search.front import read_front
from setn_lab.search.results import SOURCES, NetworkSize, SearchRun, relative_entropies, summary
from setn_lab.search.verdict import FINALISTS, LEADERS, difference, drawn, finite, verdict


def curves(run: SearchRun) -> Figure:
    """Losses, accuracies and the evaluator's entropy over the epochs."""
    metrics = run.journal("metrics")
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
    plots.plot_loss(metrics, axes[0])
    plots.plot_accuracy(metrics, axes[1])
    plots.plot_entropy(*relative_entropies(run), axes[2])
    return figure


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


def against_costs(run: SearchRun) -> Figure:
    """One-shot loss against what the final networks cost, with the Pareto front."""
    return front.figure(read_front(run.folder))


def winner(run: SearchRun) -> graphviz.Digraph:
    """The discovered cells, captioned with the sizes of the final network."""
    genotype = run.genotype()
    size = run.size(genotype, *run.kit.final_size)
    caption = (
        f"C = {size.channels}, N = {size.repeats}, 32x32: {size.parameters / 1e6:.2f} M parameters, "
        f"{size.multiply_adds / 1e6:.0f} M multiply-adds"
    )
    return run.kit.draw(genotype, caption)


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


def finalists_table(folder: Path) -> str:
    """The finalists in the order of their one-shot score, as Markdown; empty without any."""
    path = folder / FINALISTS
    if not path.exists():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for rank, network in enumerate(found["networks"], 1):
        failed = network["accuracy"] is None or "failed" in network
        scores = ["failed", ""] if failed else [f"{network['loss']:.4f}", f"{network['accuracy']:.2%}"]
        one_shot = network["one_shot"]
        rows.append(
            [f"{rank}", f"{one_shot['loss']:.4f}", f"{one_shot['accuracy']:.2%}", f"{network['epochs']}", *scores]
        )
    head = ["rank", "one-shot loss", "one-shot accuracy", "epochs", "loss from scratch", "accuracy from scratch"]
    return page.table(head, rows)


def finalists_section(folder: Path) -> list[str]:
    """The paragraphs on finalists: who was trained how long, and what stopping those that are beaten has saved."""
    rows = finalists_table(folder)
    if not rows:
        return []
    found = json.loads((folder / FINALISTS).read_text(encoding="utf-8"))
    return [
        "## Finalists",
        rows,
        "The best candidates, trained from scratch on D_train and tested on D_val. The winner has the highest accuracy "
        f"among those trained for all {found['epochs']} epochs. {found['trained']} epochs were trained, in place of "
        f"{found['each']} for each to the end: {1 - found['trained'] / found['each']:.0%} saved.",
    ]


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
    OBEYED: "the caps, how many draws obeyed, and the winner's costs",
    "latencies.json": "what the parts of a final network took, where it has a cap on latency",
    FINALISTS: "what the finalists came to from scratch",
    "finalists.jsonl": "a line per epoch of each of them",
    "costs.csv": "what every candidate costs as a final network",
    "front.svg": "figure",
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
    found = read_front(run.folder)
    paths.append(page.save_figure(front.figure(found), target / "front.svg"))
    paths.append(target / "costs.csv")
    replace_file(paths[-1], front.as_csv(found).encode())
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
        "## Loss against cost",
        *front.section(folder, read_front(folder)),
        *finalists_section(folder),
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
