"""Two further updates of the evaluator, measured by benchmarks/evaluator_gain.py and not part of the library.

Each draws one architecture with a one-hot tensor for every choice of t, u and r, computes it as Eq. 10's mixture with
the weights 0, 1 or 2 that are its own, and takes the gradient at those weights for that of a relaxation:
straight-through Gumbel-softmax (Jang, Gu and Poole 2017, at temperature 1) and ReinMax (Liu et al. 2023, algorithm 2).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from setn_lab.compute.device import autocast, to_device
from setn_lab.compute.outcome import outcome
from setn_lab.compute.streams import generator
from setn_lab.evaluator.setn import mix

Draw = Callable[[Tensor, Tensor], Tensor]


def gumbel(logits: Tensor, noise: Tensor) -> Tensor:
    """One-hot where logits + noise are largest, with the gradient of their softmax; (..., n), noise of Gumbel's law."""
    soft = (logits + noise).softmax(-1)
    return _one_hot(logits + noise) + (soft - soft.detach())  # the difference is exactly 0


def reinmax(logits: Tensor, noise: Tensor) -> Tensor:
    """The same draw with ReinMax's gradient, exact where the loss is quadratic in a draw."""
    soft, hard = logits.softmax(-1), _one_hot(logits + noise)
    halfway = ((hard + soft) / 2).log().detach() - logits.detach() + logits
    relaxed = 2 * halfway.softmax(-1) - soft / 2
    return hard + (relaxed - relaxed.detach())


def _one_hot(scores: Tensor) -> Tensor:
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)


class Relaxed:
    """An update for `evaluator.gradients.GRADIENTS`, in the paper's space."""

    def __init__(self, search: Any, draw: Draw) -> None:
        self.search, self.draw = search, draw

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The loss of the drawn architecture and the penalty of footnote 3; and (loss, accuracy)."""
        template, evaluator = self.search.scored_template.requires_grad_(False), self.search.evaluator
        rng = generator(self.search.config.seed, "relaxation", step)
        inputs = (
            logits.masked_fill(~evaluator.readable, -1e9) for logits in (evaluator.f, evaluator.g)
        )  # inf - inf: NaN
        f, g, h = (self._drawn(logits, rng) for logits in (*inputs, evaluator.h))
        weights = mix(f, g, h, evaluator.edges, evaluator.first.to(h.dtype), evaluator.second.to(h.dtype))
        with autocast(self.search.device, self.search.config.precision):
            logits = template.mixed(images, weights)
            loss = F.cross_entropy(logits, labels)
        return loss + self.search.penalty(evaluator.mixing_weights()), outcome(loss, logits, labels)

    def _drawn(self, logits: Tensor, rng: np.random.Generator) -> Tensor:
        """One-hot (2, B, n): a draw of each distribution."""
        noise = torch.from_numpy(rng.gumbel(size=logits.shape).astype(np.float32))
        return self.draw(logits, to_device(noise, logits.device))
