"""One-shot scores: loss and accuracy of architectures on D_val with the template's weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from setn_lab.data.batches import batch_indices, normalize_images, scoring_batches
from setn_lab.search.setup import Search
from setn_lab.search.steps import one_shot
from setn_lab.space.setn import Quadruples
from setn_lab.template.cell import Cache
from setn_lab.template.norm import BatchNorm

RECALIBRATION_BATCHES = 8  # of D_train, over which `batch_norm = "recalibrated"` averages the statistics


@torch.no_grad()
def evaluate(search: Search, architectures: Sequence[Quadruples]) -> list[tuple[float, float]]:
    """The one-shot loss and accuracy of each architecture (2, B, 4) on all of D_val, without augmentation.

    Batches are the same for every candidate and of nearly equal size, since batch statistics depend on both.
    """
    batches = scoring_batches(len(search.valid), search.config.scoring_batch_size)
    totals = []
    for group in _groups(search, architectures):
        with _statistics(search, group):
            totals.append(torch.stack([batch_scores(search, group, indices).sum(2) for indices in batches]).sum(0))
    means = torch.cat(totals, dim=1) / len(search.valid)
    return [(loss, accuracy) for loss, accuracy in means.T.tolist()]  # the only wait for the device


@torch.no_grad()
def image_scores(search: Search, architectures: Sequence[Quadruples]) -> NDArray[np.float64]:
    """What `evaluate` takes the means of: (2, architectures, images of D_val)."""
    batches = scoring_batches(len(search.valid), search.config.scoring_batch_size)
    parts = []
    for group in _groups(search, architectures):
        with _statistics(search, group):
            parts.append(torch.cat([batch_scores(search, group, indices) for indices in batches], dim=2))
    return torch.cat(parts, dim=1).cpu().numpy().astype(np.float64)


@torch.no_grad()
def batch_scores(search: Search, architectures: Sequence[Quadruples], indices: Tensor) -> Tensor:
    """The loss and the correctness (0 or 1) of each image of D_val at `indices`: (2, architectures, images)."""
    chosen = search.valid.take(indices)
    images = normalize_images(chosen.images, search.normalization)
    scores: list[Tensor] = []
    cache: Cache = {}
    for architecture in architectures:
        logits = one_shot(search, images, search.template.per_cell(architecture), cache)
        loss = F.cross_entropy(logits, chosen.labels, reduction="none")
        scores.append(torch.stack([loss, (logits.argmax(1) == chosen.labels).float()]))
    return torch.stack(scores, dim=1)


def _groups(search: Search, architectures: Sequence[Quadruples]) -> list[Sequence[Quadruples]]:
    """Those that are scored side by side: each alone where the statistics are its own."""
    if search.config.batch_norm == "recalibrated":
        return [[architecture] for architecture in architectures]
    return [architectures]


@contextmanager
def _statistics(search: Search, architectures: Sequence[Quadruples]) -> Iterator[None]:
    """Normalize by each batch, or (`recalibrated`) by averages over batches of D_train for a single architecture."""
    if search.config.batch_norm == "batch":
        yield
        return
    (architecture,) = architectures
    norms = [module for module in search.scored_template.modules() if isinstance(module, BatchNorm)]
    try:
        for norm in norms:
            norm.collect(search.device)
        for step in range(RECALIBRATION_BATCHES):
            indices = batch_indices(
                len(search.train),
                min(search.config.scoring_batch_size, len(search.train)),
                search.config.seed,
                "recalibration order",
                step,
            )
            images = normalize_images(search.train.take(indices).images, search.normalization)
            one_shot(search, images, search.template.per_cell(architecture))
        search.scored_template.eval()
        yield
    finally:
        search.scored_template.train()
        for norm in norms:
            norm.forget()
