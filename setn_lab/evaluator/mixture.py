"""The paper's update of the evaluator: the gradient of the loss of Eq. 10's mixture."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from setn_lab.compute.device import autocast
from setn_lab.compute.outcome import outcome


class Mixture:
    """Eq. 10 on a batch. First order: the template's weights are constants, and no gradient of theirs is computed."""

    def __init__(self, search: Any) -> None:
        self.search = search

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The loss of the mixture and the penalty of footnote 3; and (loss, accuracy)."""
        template = self.search.scored_template.requires_grad_(False)
        weights = self.search.evaluator.mixing_weights()
        with autocast(self.search.device, self.search.config.precision):
            logits = template.mixed(images, weights)
            loss = F.cross_entropy(logits, labels)
        return loss + self.search.penalty(weights), outcome(loss, logits, labels)
