"""Racing against full scoring on a real table: a short CIFAR-10 search, whose T candidates are scored on every image.

The images are brought to 16x16, which makes the table affordable on two cores. It is made once, in a run folder that
resumes, and then resampled: each resampling draws the candidates with replacement and takes the batches of images in
another order. Full scoring and the race choose from the same table. Part of `make benchmark`; alone it makes the table
and prints what it finds.

    python benchmarks/racing.py [--dataset cifar10] [--resamplings 200]
"""

import argparse
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from setn_lab.data.batches import scoring_batches
from setn_lab.runs.run import Run, default_folder
from setn_lab.search.candidates import TOGETHER
from setn_lab.search.config import SearchConfig
from setn_lab.search.racing import race
from setn_lab.search.scoring import batch_scores
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw
from setn_lab.search.training import train

SETTINGS = {
    "channels": 4,
    "repeats": 1,
    "epochs": 6,
    "evaluator_start": 5,
    "evaluator_lr": 0.03,
    "limit_train": 10_000,
    "limit_valid": 5_000,
    "image_size": 16,
    "candidates": 1000,
}


@dataclass(frozen=True)
class Outcome:
    """What racing saved and lost over all resamplings."""

    ratio: float  # image evaluations, full over raced
    range: tuple[float, float]  # of the ratio over the resamplings
    found: float  # share of resamplings in which the race chose what full scoring chooses
    given_up: float  # the largest relative loss of the race's choice above the full winner's
    text: str


def loss_table(dataset: str) -> tuple[NDArray[np.float32], list[int]]:
    """The loss of each candidate on each image of D_val (T, images), and the sizes of the batches."""
    config = SearchConfig(dataset=dataset, **SETTINGS)
    with Run.open(replace(config, run_dir=str(default_folder(config, "benchmark-racing"))), "search") as run:
        search = prepare_search(config, run)
        train(search, run)
        architectures = draw(search, config.candidate_source, config.candidates)
        batches = scoring_batches(len(search.valid), config.scoring_batch_size)
        path = run.folder / "losses.npy"
        if not path.exists():
            run.keep("rows", 0)
        table = np.lib.format.open_memmap(
            path, "r+" if path.exists() else "w+", np.float32, (len(architectures), len(search.valid))
        )
        for first in range(len(run.read("rows")), len(architectures), TOGETHER):
            group = architectures[first : first + TOGETHER]
            losses = [batch_scores(search, group, indices)[0] for indices in batches]
            table[first : first + len(group)] = torch.cat(losses, dim=1).cpu().numpy()
            table.flush()
            for row in range(first, first + len(group)):
                run.append("rows", {"row": row})
    return np.array(table), [len(indices) for indices in batches]


def resample(table: NDArray[np.float32], sizes: list[int], resamplings: int, seed: int = 0) -> Outcome:
    """Race and full scoring over resampled candidates and reordered batches."""
    rng = np.random.default_rng(seed)
    columns = np.split(np.arange(table.shape[1]), np.cumsum(sizes)[:-1])
    evaluations, found, given_up = [], [], []
    for _ in range(resamplings):
        rows = rng.integers(len(table), size=len(table))
        order = rng.permutation(len(sizes))
        means = table[rows].mean(axis=1)
        result = race(
            len(rows),
            [sizes[batch] for batch in order],
            lambda running, batch, rows=rows, order=order: table[np.ix_(rows[running], columns[order[batch]])],
        )
        evaluations.append(result.images.mean() / table.shape[1])
        found.append(means[result.winner] == means.min())
        given_up.append(float(means[result.winner] / means.min()) - 1)
    ratio = 1 / float(np.mean(evaluations))
    text = (
        f"T = {len(table)}, {table.shape[1]:,} images in {len(sizes)} batches, {resamplings} resamplings, seed {seed}: "
        f"{ratio:.1f} times fewer image evaluations ({1 / max(evaluations):.1f} to {1 / min(evaluations):.1f}); the "
        f"full winner in {np.mean(found):.1%}; the largest loss given up {max(given_up):.3%}. Candidates' losses "
        f"{table.mean():.4f} +- {table.mean(axis=1).std():.4f}, best {table.mean(axis=1).min():.4f}."
    )
    return Outcome(ratio, (1 / max(evaluations), 1 / min(evaluations)), float(np.mean(found)), max(given_up), text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--resamplings", type=int, default=200)
    args = parser.parse_args()
    print(resample(*loss_table(args.dataset), args.resamplings).text)


if __name__ == "__main__":
    main()
