"""Do searches find cells that train better than uniform ones? A small Table 2, under one reduced recipe.

The winners of finished searches, uniform cells (the first of the first search's baseline), and the published SETN cell
are trained from scratch on all training images, averaged down to fewer pixels, and tested on the test images. These are
ordinary retraining runs that resume; the page goes to reports/retrain-cifar10.

    python benchmarks/retrain_cells.py RUN [RUN ...] --dataset FOLDER [--uniform 8] [--side 16]

RUN: run folders of searches with a baseline of uniform candidates, at least two.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from setn_lab.config import contents
from setn_lab.data.images import downsample, load_images
from setn_lab.figures import page
from setn_lab.network.costs import cost
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.results import results
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.retrain.training import retrain
from setn_lab.runs.environment import environment
from setn_lab.runs.journal import read_journal
from setn_lab.runs.place import root_folder
from setn_lab.runs.run import Run
from setn_lab.space.genotype import Genotype

REPORT = Path(__file__).parent.parent / "reports" / "retrain-cifar10"
RECIPE = {
    "channels": 8,
    "repeats": 1,
    "epochs": 10,
    "path_dropout": 0.0,
    "auxiliary_weight": 0.0,
    "cutout": 0,
}
KINDS = {"winner": "winners of the searches", "uniform": "uniform cells", "published": "published"}


@dataclass(frozen=True)
class Cell:
    """A cell to train: its kind, its name on the page, and its one-shot loss under the template of its search."""

    kind: str
    name: str
    genotype: str
    loss: float | None = None


def cells(searches: list[Path], uniform: int) -> list[Cell]:
    """The winner of each search, uniform cells of the first, and the published one. Raises SystemExit."""
    chosen = []
    for folder in searches:
        scored = {line["genotype"]: line["loss"] for line in read_journal(folder / "candidates.jsonl")}
        winner = Genotype.from_json((folder / "genotype.json").read_text(encoding="utf-8")).to_darts()
        chosen.append(Cell("winner", f"winner of {folder.name}", winner, scored[winner]))
    drawn = read_journal(searches[0] / "baseline.jsonl")[:uniform]
    if len(drawn) < uniform:
        raise SystemExit(f"--uniform: {uniform} given; {searches[0]} has {len(drawn)} uniform candidates")
    chosen += [
        Cell("uniform", f"uniform {number}", line["genotype"], line["loss"]) for number, line in enumerate(drawn, 1)
    ]
    return [*chosen, Cell("published", "SETN, as published", "SETN")]


def averaged(dataset: str, side: int) -> Path:
    """A folder of the images with so many pixels a side, each the mean of those it stands for; made once."""
    made_from = contents(RetrainConfig(genotype="SETN", dataset=dataset))["dataset"]["digest"]
    folder = root_folder() / f"images-{side}-{made_from[:10]}"
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for split in ("train", "test"):
        images = downsample(load_images(dataset, split=split), side)
        for name in images.classes:
            (partial / split / name).mkdir(parents=True)
        for number, (pixels, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
            Image.fromarray(pixels.numpy().squeeze()).save(partial / split / images.classes[label] / f"{number}.png")
    return partial.rename(folder)


def trained(cell: Cell, images: Path, side: int) -> dict[str, object]:
    """Train a cell, or find it trained: what is said of it on the page."""
    config = RetrainConfig(genotype=cell.genotype, dataset=str(images), crop_padding=side // 8, device="cpu", **RECIPE)
    job = prepare_retraining(config)
    with Run.open(config, "retrain") as run:
        retrain(job, run)
    (found,) = results(job.folder)
    size = cost(job.network(0), job.source.image_size)
    return {
        "kind": cell.kind,
        "name": cell.name,
        "genotype": cell.genotype,
        "one_shot_loss": cell.loss,
        "parameters": size.parameters,
        "multiply_adds": size.multiply_adds,
        "test_error": found.test_error,
        "seconds": found.seconds,
    }


def summary(rows: list[dict[str, object]]) -> dict[str, object]:
    """The winners against the uniform cells: mean errors, their difference and its standard error, all in 0 .. 1."""
    errors = {kind: np.array([row["test_error"] for row in rows if row["kind"] == kind]) for kind in KINDS}
    winners, uniform = errors["winner"], errors["uniform"]
    return {
        "mean_error": {kind: float(own.mean()) for kind, own in errors.items()},
        "std_error": {kind: float(own.std(ddof=1)) for kind, own in errors.items() if len(own) > 1},
        "difference": float(winners.mean() - uniform.mean()),
        "standard_error": float(np.sqrt(winners.var(ddof=1) / len(winners) + uniform.var(ddof=1) / len(uniform))),
        "share_beaten": float(np.mean(winners.mean() < uniform)),
        "cells": rows,
    }


def text(found: dict[str, object], dataset: str, images: int, side: int) -> str:
    """The page, as Markdown."""
    about, mean, spread = environment(), found["mean_error"], found["std_error"]
    rows = [
        [
            row["name"],
            "" if row["one_shot_loss"] is None else f"{row['one_shot_loss']:.4f}",
            f"{row['parameters']:,}",
            f"{row['multiply_adds'] / 1e6:.1f} M",
            f"{row['test_error']:.2%}",
            f"{row['seconds'] / 60:.1f} min",
        ]
        for row in found["cells"]
    ]
    means = [[KINDS[kind], page.plus_minus(mean[kind], spread[kind], ".2%")] for kind in spread]
    better = "lower" if found["difference"] < 0 else "higher"
    return f"""# Cells trained from scratch

What was asked: do the cells that searches choose train better than cells drawn uniformly from the same space?
Made by `python benchmarks/retrain_cells.py RUN RUN RUN --dataset FOLDER`: {about["cpu"]},
{torch.get_num_threads()} thread(s), torch {torch.__version__}, {Path(dataset).name}. Every cell is trained once, with
the same seed, on {images:,} images of {side}x{side} pixels and tested on the test images after the last epoch. The
recipe is section 5.2's for CIFAR-10, cut down:
{", ".join(f"{name} {value}" for name, value in RECIPE.items())}. The rest are the defaults of
`setn_lab.retrain.RetrainConfig`. Losses of different searches are of different templates.

{page.table(["", "test error, mean ± standard deviation over cells"], means)}

The winners' mean error is {better} than the uniform cells' by {abs(found["difference"]):.2%} ±
{found["standard_error"]:.2%} (standard error), and lower than that of {found["share_beaten"]:.0%} of the uniform cells.

{page.table(["cell", "one-shot loss", "parameters", "multiply-adds", "test error", "time"], rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("searches", metavar="RUN", type=Path, nargs="+")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--uniform", type=int, default=8)
    parser.add_argument("--side", type=int, default=16)
    args = parser.parse_args()
    if len(args.searches) < 2 or args.uniform < 2:
        parser.error("at least two searches and two uniform cells are needed for a standard error")
    images, rows = averaged(args.dataset, args.side), []
    for cell in cells(args.searches, args.uniform):
        rows.append(trained(cell, images, args.side))
        print(f"{cell.name}: test error {rows[-1]['test_error']:.2%}", flush=True)
    found = summary(rows)
    count = len(load_images(str(images)))
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "summary.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (REPORT / "README.md").write_text(text(found, args.dataset, count, args.side), encoding="utf-8")


if __name__ == "__main__":
    main()
