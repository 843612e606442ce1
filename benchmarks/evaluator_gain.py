"""What the evaluator's candidates gain over uniform ones under the same template, over several seeds.

Runs the quick preset with several evaluator settings and three seeds, as ordinary search runs that
resume, and writes the table to reports/search-digits/README.md. "Correlation" is
Spearman's rho between the evaluator's log-probability and the one-shot loss over the uniform candidates, as far as the
evaluator ranks what it was not asked to draw: negative is right.

    python benchmarks/evaluator_gain.py [--preset notebooks/presets/quick.yaml] [--seeds 0 1 2]
"""

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.stats import spearmanr

from setn_lab.config import build
from setn_lab.runs.run import Run
from setn_lab.search.candidates import Candidate, score
from setn_lab.search.config import SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import train

REPORT = Path(__file__).parent.parent / "reports" / "search-digits" / "README.md"
SETTINGS: dict[str, dict[str, Any]] = {
    "preset: joins late, high rate": {},
    "preset without the evaluator's weight decay": {"evaluator_weight_decay": 0.0},
    "joins late, paper's rate": {"evaluator_lr": 0.003},
    "from the first epoch, high rate": {"evaluator_start": 0},
    "from the first epoch, paper's rate": {"evaluator_start": 0, "evaluator_lr": 0.003},
}


def search(values: dict[str, Any]) -> dict[str, float]:
    config = build(SearchConfig, values)
    with Run.open(config, "search") as run:
        prepared = prepare_search(config, run)
        metrics = train(prepared, run)
        uniform = score(prepared, run, "uniform", config.baseline_candidates, "baseline")
        drawn = score(prepared, run, "evaluator", config.candidates)
    rho = spearmanr(column(uniform, "log_probability"), column(uniform, "loss")).statistic
    return {
        "entropy": metrics[-1]["entropy"],
        "drawn": column(drawn, "loss").mean(),
        "uniform": column(uniform, "loss").mean(),
        "best drawn": column(drawn, "loss").min(),
        "best uniform": column(uniform, "loss").min(),
        "rho": float(rho),
    }


def column(candidates: list[Candidate], name: str) -> np.ndarray:
    return np.array([getattr(candidate, name) for candidate in candidates])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", type=Path, default=Path(__file__).parent.parent / "notebooks/presets/quick.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    preset = yaml.safe_load(args.preset.read_text(encoding="utf-8"))
    lines = [
        "| evaluator | seed | entropy | loss: drawn | uniform | gain | best drawn | best uniform | correlation |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    summary = ["| evaluator | gain in mean loss, over seeds | gain in the best | correlation |", "|---|---|---|---|"]
    for name, change in SETTINGS.items():
        rows = [search({**preset, **change, "seed": seed}) for seed in args.seeds]
        for seed, row in zip(args.seeds, rows, strict=True):
            lines.append(
                f"| {name} | {seed} | {row['entropy']:.2f} | {row['drawn']:.4f} | {row['uniform']:.4f} "
                f"| {row['uniform'] - row['drawn']:+.4f} | {row['best drawn']:.4f} | {row['best uniform']:.4f} "
                f"| {row['rho']:+.2f} |"
            )
        gains = np.array([row["uniform"] - row["drawn"] for row in rows])
        best = np.array([row["best uniform"] - row["best drawn"] for row in rows])
        rho = np.array([row["rho"] for row in rows])
        summary.append(
            "| " + " | ".join([name, *(f"{x.mean():+.4f} ± {x.std(ddof=1):.4f}" for x in (gains, best, rho))]) + " |"
        )
    page = [
        "# Does the evaluator pay on the quick preset?",
        "",
        f"Made by `make gain`: {args.preset.name} with seeds {', '.join(map(str, args.seeds))}; {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}. "
        "Entropy is in nats. A gain is the uniform candidates' one-shot loss less that of the evaluator's (above 0: "
        f"the evaluator's are better), {preset['candidates']} of each under the same template; "
        "± is the standard deviation over seeds. The correlation is Spearman's, between the evaluator's "
        "log-probability and the one-shot loss over the uniform candidates: negative is right.",
        "",
        *summary,
        "",
        *lines,
        "",
    ]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
