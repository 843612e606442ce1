"""A search's run folder as a search writes it, of any length, in no time: its numbers are drawn, not trained."""

import json
from pathlib import Path

import numpy as np

from setn_lab import config as configs
from setn_lab.evaluator.setn import Distributions
from setn_lab.search.config import SearchConfig
from setn_lab.space.setn import OPERATION_SETS, SearchSpace


def distributions(space: SearchSpace, rng: np.random.Generator, sharpness: float) -> Distributions:
    """Softmax of normal logits, as sharp as asked for; a node gives states that it cannot read probability 0."""
    states = space.inputs(space.nodes - 1)
    readable = np.arange(states) < np.array([space.inputs(node) for node in range(space.nodes)])[:, None]

    def softmax(shape: tuple[int, ...], allowed: np.ndarray | bool) -> np.ndarray:
        powers = np.exp(sharpness * rng.normal(size=shape)) * allowed
        return powers / powers.sum(-1, keepdims=True)

    f, g = (softmax((2, space.nodes, states), readable) for _ in range(2))
    return Distributions(space, f, g, softmax((2, space.nodes, space.pairs), True))


def write_run(folder: Path, epochs: int = 4, candidates: int = 12, seed: int = 0, **parameters: object) -> Path:
    """Write the run of so many epochs and candidates; with candidates, the best of them is the winner."""
    config = SearchConfig(**{"dataset": "digits", "epochs": max(epochs, 1), "seed": seed, **parameters})
    space = SearchSpace(OPERATION_SETS[config.space], config.nodes)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(configs.to_json(config), encoding="utf-8")
    metrics, evaluator = [], []
    for epoch in range(1, epochs + 1):
        now = distributions(space, rng, epoch / epochs)
        evaluator.append({"epoch": epoch, **now.to_record()})
        metrics.append(
            {
                "epoch": epoch,
                "weight_loss": 2.3 / epoch**0.2,
                "weight_accuracy": 1 - 0.9 / epoch**0.1,
                "evaluator_loss": 2.4 / epoch**0.2,
                "evaluator_accuracy": 1 - 0.95 / epoch**0.1,
                "entropy": now.entropy(),
                "seconds": 1.0,
            }
        )
    scored = []
    if candidates:
        drawn = now.sample(rng, candidates)
        for one, noise in zip(drawn, rng.normal(size=candidates), strict=True):
            loss = 1.5 + 0.1 * noise
            record = {"loss": loss, "accuracy": 0.9 - 0.3 * loss, "images": 100, "draws": 1}
            record["log_probability"] = float(now.log_probability(one))
            scored.append({"genotype": space.genotype(one).to_darts(), **record})
        best = min(range(candidates), key=lambda place: scored[place]["loss"])
        (folder / "genotype.json").write_text(space.genotype(drawn[best]).to_json() + "\n", encoding="utf-8")
    for name, records in (("metrics", metrics), ("evaluator", evaluator), ("candidates", scored)):
        if records:
            write_journal(folder / f"{name}.jsonl", records)
    return folder


def write_journal(path: Path, records: list[dict]) -> None:
    """Replace a journal by these records."""
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
