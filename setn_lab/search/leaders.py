"""The best of the scored candidates: the selected one, and how far the next ones are behind it."""

import math
from typing import Any, Literal

from setn_lab.search.drawn import Candidate
from setn_lab.search.scoring import image_scores
from setn_lab.search.setup import Search
from setn_lab.search.training import SearchError

COMPARED = 10  # of the best candidates, which are compared image by image


def select(candidates: list[Candidate], by: Literal["loss", "accuracy"]) -> Candidate:
    """The candidate of the lowest loss (Algorithm 1) or highest accuracy (section 5.3); the first among equals.

    Raises SearchError where none has a finite loss; the others are left out.
    """
    return best(candidates, 1, by)[0]


def best(candidates: list[Candidate], count: int, by: Literal["loss", "accuracy"]) -> list[Candidate]:
    """Up to `count` of them, the one that `select` takes first. Raises SearchError where none has a finite loss."""
    candidates = [candidate for candidate in candidates if math.isfinite(candidate.loss)]
    if not candidates:
        raise SearchError("no candidate has a finite loss: the template has diverged; lower weight_lr and search again")
    ordered = sorted(candidates, key=lambda candidate: candidate.loss if by == "loss" else -candidate.accuracy)
    return ordered[:count]


def leaders(search: Search, candidates: list[Candidate]) -> list[dict[str, Any]]:
    """The best `COMPARED` candidates, the selected one first, each scored once more image by image.

    loss, accuracy: how far it is above the winner, the mean over the same images, except for the winner, where they are
    its own; loss_error, accuracy_error: the standard error of that mean. Batch statistics join the images of a batch,
    which the errors leave out of account.
    """
    compared = best(candidates, COMPARED, search.config.select_by)
    scores = image_scores(search, [search.space.encode(candidate.genotype) for candidate in compared])
    gaps = scores - scores[:, :1]
    errors = gaps.std(axis=2, ddof=1) / math.sqrt(gaps.shape[2]) if gaps.shape[2] > 1 else 0 * gaps[:, :, 0]
    means = gaps.mean(axis=2)
    means[:, 0] = scores[:, 0].mean(axis=1)
    return [
        {
            "genotype": search.space.write(candidate.genotype),
            "images": gaps.shape[2],
            **{"loss": loss, "accuracy": accuracy, "loss_error": loss_error, "accuracy_error": accuracy_error},
        }
        for candidate, (loss, accuracy), (loss_error, accuracy_error) in zip(
            compared, means.T.tolist(), errors.T.tolist(), strict=True
        )
    ]
