"""The figures and tables of a training, drawn from its run folder alone."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from setn_lab.figures import plots
from setn_lab.retrain.setup import Retraining
from setn_lab.retrain.training import results, summary
from setn_lab.runs.progress import duration
from setn_lab.runs.run import read_journal

CONTENTS = {
    "config.json": "every parameter; `papermill -f`, or `python -m setn_lab.retrain`, on it repeats the run",
    "environment.json": "versions, commit, machine, threads",
    "genotype.json": "the genotype",
    "metrics.jsonl": "losses and errors, a line an epoch of each seed",
    "checkpoints": "the newest two checkpoints of each seed",
    "network-*.safetensors": "the trained network of each seed: `setn_lab.trained.load(path).classify(image)`",
    "training.svg": "figure",
}


def curves(folder: Path) -> Figure:
    """Loss and error over the epochs, on training and on test images, a line a seed."""
    metrics = read_journal(folder / "metrics.jsonl")
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    plots.plot_training(metrics, "loss", "cross-entropy [nats]", 1, axes[0])
    plots.plot_training(metrics, "error", "error [%]", 100, axes[1])
    return figure


def table(folder: Path) -> str:
    """The result of each seed, and over the seeds, as Markdown."""
    found = results(folder)
    if not found:
        return "No epoch is finished yet."
    lines = ["| seed | epochs | test error | test loss | time |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.seed} | {one.epochs} | {one.test_error:.2%} | {one.test_loss:.4f} | {duration(one.seconds)} |"
        for one in found
    ]
    return "\n".join([*lines, "", f"**{summary(found)}**"])


def contents(folder: Path) -> str:
    """What lies in the run folder, as Markdown."""
    lines = [f"- `{folder / name}`: {what}" for name, what in CONTENTS.items() if any(folder.glob(name))]
    return "\n".join(["Everything of this run lies in its folder:", "", *lines])


def save(folder: Path) -> Path:
    """Write the curves as training.svg into the run folder; returns its path."""
    path = folder / "training.svg"
    with plt.rc_context({"svg.hashsalt": "setn_lab"}):  # the same run gives the same file
        figure = curves(folder)
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def describe_retraining(job: Retraining) -> str:
    """The genotype, the network and the images as Markdown."""
    config, source, size = job.config, job.source, job.cost
    seeds = ", ".join(map(str, range(config.seed, config.seed + config.seeds)))
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            f"| genotype | {job.name}: `{job.genotype.to_darts()}` |",
            f"| network | {config.network}, C = {config.channels}, N = {config.repeats}: {size.parameters:,} "
            f"parameters, {size.multiply_adds / 1e6:.1f} M multiply-adds |",
            f"| images | {source.image_size} x {source.image_size}, {source.image_channels} channels, "
            f"{len(source.classes)} classes, {source.steps} steps of {config.batch_size} an epoch |",
            f"| seeds | {seeds}; {config.epochs} epochs each |",
            f"| device | {job.device} |",
            f"| run folder | `{job.folder}` |",
        ]
    )
