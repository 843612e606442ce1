"""The figures and tables of a training, drawn from its run folder alone."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from setn_lab.figures import page, plots
from setn_lab.retrain.results import results, summary
from setn_lab.retrain.setup import Retraining
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import duration
from setn_lab.space.genotype import Genotype

CONTENTS = {
    "config.json": "every parameter; `papermill -f`, or `python -m setn_lab.retrain`, on it repeats the run",
    "environment.json": "versions, commit, machine, threads",
    "genotype.json": "the genotype",
    "metrics.jsonl": "losses and errors, a line per epoch of each seed",
    "checkpoints": "the newest two checkpoints of each seed",
    "network-*.safetensors": "the trained network of each seed: `setn_lab.network.export.load(path).classify(image)`",
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
    rows = []
    for result in found:
        error, loss = f"{result.test_error:.2%}", f"{result.test_loss:.4f}"
        rows.append([f"{result.seed}", f"{result.epochs}", error, loss, duration(result.seconds)])
    head = ["seed", "epochs", "test error", "test loss", "time"]
    return f"{page.table(head, rows)}\n\n**{summary(found)}**"


def contents(folder: Path) -> str:
    """What lies in the run folder, as Markdown."""
    return page.contents(folder, CONTENTS)


def save(folder: Path, target: Path | None = None) -> Path:
    """Write the curves as training.svg into `target`, by default the run folder itself; returns its path."""
    target = target or folder
    target.mkdir(parents=True, exist_ok=True)
    return page.save_figure(curves(folder), target / "training.svg")


def write(folder: Path, target: Path) -> Path:
    """`save` and a page with the run's config, machine and results; returns the page."""
    save(folder, target)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    paragraphs = [
        f"{Path(config['dataset']).name}, the {config['network']} network, C = {config['channels']}, "
        f"N = {config['repeats']}, {config['epochs']} epochs. `config.json` holds every parameter: `setn-lab retrain "
        "config.json` repeats it, a folder of images given by `--dataset`.",
        table(folder),
        "![training](training.svg)",
        f"`{Genotype.from_json((folder / 'genotype.json').read_text(encoding='utf-8')).to_darts()}`",
    ]
    return page.write_page(folder, target, "Training", paragraphs)


def describe_retraining(setup: Retraining) -> str:
    """The genotype, the network and the images as Markdown."""
    config, source, size = setup.config, setup.source, setup.cost
    seeds = ", ".join(map(str, range(config.seed, config.seed + config.seeds)))
    size_text = (
        f"{config.network}, C = {config.channels}, N = {config.repeats}: {size.parameters:,} parameters, "
        f"{size.multiply_adds / 1e6:.1f} M multiply-adds"
    )
    images = (
        f"{source.image_size} x {source.image_size}, {source.image_channels} channels, {len(source.classes)} classes, "
        f"{source.steps} steps of {config.batch_size} an epoch, tested on `{source.test_split}`"
    )
    return page.facts(
        {
            "genotype": f"{setup.name}: `{setup.genotype.to_darts()}`",
            "network": size_text,
            "images": images,
            "augmentation": source.augmented,
            "seeds": f"{seeds}; {config.epochs} epochs each",
            "device": f"{setup.device}",
            "run folder": f"`{setup.folder}`",
        }
    )
