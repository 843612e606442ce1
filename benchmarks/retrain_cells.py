"""A small Table 2: three cells trained from scratch under one reduced recipe, over several seeds.

The winner of the committed search, the published SETN cell, and a cell drawn uniformly from the same space. These are
ordinary retraining runs that resume; the table goes to reports/retrain-cifar10/README.md.

    python benchmarks/retrain_cells.py [--dataset cifar10] [--seeds 3]
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch

from setn_lab.compute.streams import generator
from setn_lab.network.costs import cost
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import Retraining, prepare_retraining
from setn_lab.retrain.training import results, retrain
from setn_lab.runs.environment import environment
from setn_lab.runs.run import Run
from setn_lab.space.setn import SMALL, SearchSpace

REPORTS = Path(__file__).parent.parent / "reports"
REPORT = REPORTS / "retrain-cifar10" / "README.md"
RECIPE = {
    "channels": 8,
    "repeats": 1,
    "epochs": 6,
    "limit_train": 8000,
    "limit_test": 2000,
    "path_dropout": 0.0,
    "auxiliary_weight": 0.0,
    "cutout": 0,
}


def genotypes() -> dict[str, str]:
    """What to call each cell, and where it is found."""
    uniform = SearchSpace(SMALL).genotype(SearchSpace(SMALL).sample(generator(0, "a uniform cell"), 2))
    return {
        "winner of the committed search": (REPORTS / "search-cifar10" / "genotype.json")
        .read_text(encoding="utf-8")
        .strip(),
        "SETN, as published": "SETN",
        "uniformly drawn": uniform.to_darts(),
    }


def row(name: str, job: Retraining) -> tuple[str, list[float]]:
    found = results(job.folder)
    errors = [100 * one.test_error for one in found]
    size = cost(job.network(0), job.source.image_size)
    seconds = statistics.fmean(one.seconds for one in found)
    text = (
        f"| {name} | {size.parameters:,} | {size.multiply_adds / 1e6:.1f} M | {statistics.fmean(errors):.2f} ± "
        f"{statistics.stdev(errors):.2f} | {', '.join(f'{error:.2f}' for error in errors)} | {seconds / 60:.1f} min |"
    )
    return text, errors


def page(rows: list[str], winner: list[float], uniform: list[float], seeds: int) -> str:
    difference = np.mean(winner) - np.mean(uniform)
    error = np.sqrt(np.var(winner, ddof=1) / seeds + np.var(uniform, ddof=1) / seeds)
    recipe = ", ".join(f"{name} {value}" for name, value in RECIPE.items())
    about = environment()
    return f"""# Three cells trained from scratch

Made by `python benchmarks/retrain_cells.py`: {about["cpu"]}, {torch.get_num_threads()} thread(s), torch
{torch.__version__}; seeds 0 .. {seeds - 1} for each cell. The recipe is section 5.2's for CIFAR-10, cut down to
minutes: {recipe}. The rest are the defaults of `setn_lab.retrain.RetrainConfig`. Errors are those after the last epoch
on 2,000 test images, so one image is 0.05 %; the mean and standard deviation are over seeds. Time is of one seed.

| cell | parameters | multiply-adds | test error in % | each seed | time |
|---|---|---|---|---|---|
{chr(10).join(rows)}

The winner's error minus the uniform cell's is {difference:+.2f} ± {error:.2f} points (standard error over seeds). One
uniform cell says little about uniform cells, and networks this small, trained this shortly, little about the
paper's: the cells differ in size too.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds: {args.seeds} given; at least 2 are needed for a standard deviation")
    rows, errors = [], {}
    for name, text in genotypes().items():
        config = RetrainConfig(genotype=text, dataset=args.dataset, seeds=args.seeds, device="cpu", **RECIPE)
        job = prepare_retraining(config)
        with Run.open(config, "retrain") as run:
            retrain(job, run)
        line, errors[name] = row(name, job)
        rows.append(line)
        print(line, flush=True)
    winner, _, uniform = errors.values()
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(page(rows, winner, uniform, args.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
