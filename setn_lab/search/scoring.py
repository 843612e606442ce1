"""One-shot scores: loss and accuracy of architectures on D_val with the template's weights."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from setn_lab.data.batches import batch_indices, scoring_batches
from setn_lab.data.files import Images
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
            totals.append(torch.stack([scores.sum(2) for scores in _all_scores(search, group, batches)]).sum(0))
    means = torch.cat(totals, dim=1) / len(search.valid)
    return [(loss, accuracy) for loss, accuracy in means.T.tolist()]  # the only wait for the device


@torch.no_grad()
def image_scores(search: Search, architectures: Sequence[Quadruples]) -> NDArray[np.float64]:
    """What `evaluate` takes the means of: (2, architectures, images of D_val)."""
    batches = scoring_batches(len(search.valid), search.config.scoring_batch_size)
    parts = []
    for group in _groups(search, architectures):
        with _statistics(search, group):
            parts.append(torch.cat(list(_all_scores(search, group, batches)), dim=2))
    return torch.cat(parts, dim=1).cpu().numpy().astype(np.float64)


@torch.no_grad()
def batch_scores(
    search: Search, architectures: Sequence[Quadruples], indices: Tensor, chosen: Images | None = None
) -> Tensor:
    """The loss and the correctness (0 or 1) of each image of D_val at `indices`: (2, architectures, images).

    chosen: these images, where they have been read already.
    """
    chosen = search.valid.take(indices) if chosen is None else chosen
    images = search.seen(chosen)
    scores: list[Tensor] = []
    cache: Cache = {}
    for architecture in architectures:
        logits = one_shot(search, images, search.template.per_cell(architecture), cache)
        loss = F.cross_entropy(logits, chosen.labels, reduction="none")
        scores.append(torch.stack([loss, (logits.argmax(1) == chosen.labels).float()]))
    return torch.stack(scores, dim=1)


def _all_scores(search: Search, architectures: Sequence[Quadruples], batches: list[Tensor]) -> Iterator[Tensor]:
    """`batch_scores` of each batch; images that have to be decoded are read ahead."""
    with closing(search.valid.stream(batches)) as read:
        for indices, chosen in zip(batches, read, strict=True):
            yield batch_scores(search, architectures, indices, chosen)


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
        count = len(search.train)
        size = min(search.config.scoring_batch_size, count)
        steps = range(RECALIBRATION_BATCHES)
        batches = (batch_indices(count, size, search.config.seed, "recalibration order", step) for step in steps)
        with closing(search.train.stream(batches)) as read:
            for chosen in read:
                one_shot(search, search.seen(chosen), search.template.per_cell(architecture))
        search.scored_template.eval()
        yield
    finally:
        search.scored_template.train()
        for norm in norms:
            norm.forget()
