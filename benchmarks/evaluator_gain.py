"""What the evaluator's candidates gain over uniform ones on the same finished template, by how it is trained.

For each seed the quick preset's template is trained once; every row trains an evaluator from the start on it
(`template_run`), as ordinary search runs that resume. Writes the table to reports/search-digits/README.md. A gain is
counted in standard deviations of the uniform candidates' losses. "Correlation" is Spearman's rho between the
evaluator's log-probability and the one-shot loss over the uniform candidates: negative is right.

    python benchmarks/evaluator_gain.py [--preset notebooks/presets/quick.yaml] [--seeds 0 1 2]
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import relaxations
import torch
import yaml
from scipy.stats import spearmanr

from setn_lab.config import build
from setn_lab.evaluator.gradients import GRADIENTS
from setn_lab.figures.page import table
from setn_lab.runs.environment import environment
from setn_lab.runs.run import Run
from setn_lab.search.candidates import score
from setn_lab.search.config import SearchConfig
from setn_lab.search.drawn import Candidate
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import train

REPORT = Path(__file__).parent.parent / "reports" / "search-digits" / "README.md"
SETTINGS: dict[str, dict[str, Any]] = {  # on one core those of 60 and 37 epochs take about the same time
    "sampled losses, 60 epochs": {"evaluator_gradient": "rloo", "evaluator_epochs": 60},
    "sampled losses, 20 epochs": {"evaluator_gradient": "rloo", "evaluator_epochs": 20},
    "Eq. 10, 37 epochs": {"evaluator_gradient": "mixture", "evaluator_epochs": 37},
    "straight-through Gumbel, 37 epochs": {"evaluator_gradient": "straight-through", "evaluator_epochs": 37},
    "ReinMax, 37 epochs": {"evaluator_gradient": "reinmax", "evaluator_epochs": 37},
}


@dataclasses.dataclass(frozen=True)
class Gain:
    """What one evaluator came to on one template. seconds: of its training; gain: see above."""

    seconds: float
    entropy: float
    uniform: float
    spread: float
    drawn: float
    accuracy: float
    uniform_accuracy: float
    best: float
    best_uniform: float
    rho: float

    @property
    def gain(self) -> float:
        """In standard deviations of uniform candidates' losses."""
        return (self.uniform - self.drawn) / self.spread


def template_of(values: dict[str, Any]) -> Path:
    """The run folder with the finished template of the preset; its evaluator has a single epoch, and is not used."""
    config = build(SearchConfig, {**values, "evaluator_start": values["epochs"] - 1, "evaluator_epochs": 0})
    with Run.open(config, "search") as run:
        train(prepare_search(config, run), run)
    return run.folder


def search(values: dict[str, Any]) -> Gain:
    config = build(SearchConfig, values)
    with Run.open(config, "search") as run:
        prepared = prepare_search(config, run)
        metrics = train(prepared, run)
        uniform = score(prepared, run, "uniform", config.baseline_candidates, "baseline")
        drawn = score(prepared, run, "evaluator", config.candidates)
    losses = over_draws(uniform, "loss")
    rho = spearmanr([one.log_probability for one in uniform], [one.loss for one in uniform]).statistic
    return Gain(
        sum(line["seconds"] for line in metrics),
        metrics[-1]["entropy"],
        losses.mean(),
        losses.std(ddof=1),
        over_draws(drawn, "loss").mean(),
        over_draws(drawn, "accuracy").mean(),
        over_draws(uniform, "accuracy").mean(),
        min(one.loss for one in drawn),
        losses.min(),
        float(rho),
    )


def over_draws(candidates: list[Candidate], name: str) -> np.ndarray:
    return np.repeat([getattr(one, name) for one in candidates], [one.draws for one in candidates])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", type=Path, default=Path(__file__).parent.parent / "notebooks/presets/quick.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    GRADIENTS["straight-through"] = functools.partial(relaxations.Relaxed, draw=relaxations.gumbel)
    GRADIENTS["reinmax"] = functools.partial(relaxations.Relaxed, draw=relaxations.reinmax)
    preset = yaml.safe_load(args.preset.read_text(encoding="utf-8"))
    folders = {seed: template_of({**preset, "seed": seed}) for seed in args.seeds}
    rows, summary = [], []
    for name, change in SETTINGS.items():
        found = [search({**preset, **change, "seed": seed, "template_run": str(folders[seed])}) for seed in args.seeds]
        for seed, one in zip(args.seeds, found, strict=True):
            shares = f"{one.accuracy:.1%}", f"{one.uniform_accuracy:.1%}"
            losses = (f"{value:.3f}" for value in (one.drawn, one.uniform, one.spread, one.best, one.best_uniform))
            rows.append([name, str(seed), f"{one.entropy:.1f}", *losses, *shares, f"{one.gain:.2f}", f"{one.rho:+.2f}"])
        values = [
            (f"{np.mean(column):.{digits}f}", f"{np.std(column, ddof=1):.{digits}f}")
            for column, digits in (
                ([one.gain for one in found], 2),
                ([100 * (one.accuracy - one.uniform_accuracy) for one in found], 1),
                ([one.best_uniform - one.best for one in found], 3),
                ([one.rho for one in found], 2),
            )
        ]
        seconds = f"{np.mean([one.seconds for one in found]):.0f}"
        summary.append([name, seconds, *(f"{mean} ± {deviation}" for mean, deviation in values)])
        print(summary[-1], flush=True)
    gain_head = ["evaluator", "seconds", "gain [sd]", "gain in accuracy [%]", "gain of the best [nats]", "correlation"]
    head = ["evaluator", "seed", "entropy", "drawn", "uniform", "sd", "best drawn", "best uniform", "accuracy drawn"]
    page = [
        "# Does the evaluator pay on the quick preset?",
        f"Made by `make gain`: {args.preset.name} with seeds {', '.join(map(str, args.seeds))}; "
        f"{environment()['cpu']}, {torch.get_num_threads()} threads, torch {torch.__version__}. For each seed one "
        "template, and on it each evaluator from the start, at the preset's rate of "
        f"{preset['evaluator_lr']}. {preset['candidates']} candidates and {preset['baseline_candidates']} uniform ones "
        "are scored by one-shot loss on all of D_val. A gain is how far the evaluator's lie below the uniform ones, in "
        "standard deviations of the uniform ones' losses, then in accuracy, and for the best of each. The correlation "
        "is Spearman's, between the evaluator's log-probability and the one-shot loss over the uniform candidates: "
        "negative is right. ± is the standard deviation over seeds.",
        table(gain_head, summary),
        table([*head, "uniform", "gain [sd]", "correlation"], rows),
    ]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n\n".join(page) + "\n", encoding="utf-8")
    print("\n\n".join(page))


if __name__ == "__main__":
    main()
