"""An update of the evaluator by the losses of drawn architectures: REINFORCE with a leave-one-out baseline.

The objective is what the evaluator is for, the expected one-shot loss of an architecture that it draws, and the
gradient is unbiased for it (Kool, van Hoof and Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019). The
mixture of Eq. 10 is not built.
"""

from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from setn_lab.compute.device import autocast
from setn_lab.compute.outcome import outcome
from setn_lab.compute.streams import generator
from setn_lab.template.cell import Cache

DECAY = 0.99  # a step, of the mean variance of the losses
LEAST = 1e-8  # standard deviation, where all losses were the same


class RLOO:
    """K = `evaluator_samples` drawn architectures on a batch, each scored as candidates are: alike in cells of a type.

    loss_k is a constant, and the gradient is the mean over k of (loss_k - mean of the other losses) times that of the
    log-probability of the k-th draw, as it was encoded. Loss and penalty are divided by the same number, the running
    standard deviation of a step's losses, so that the rate means the same for every template and `cost_weight` the same
    as in the mixture. The step's own losses count in it, which bounds what a single step can do.
    """

    def __init__(self, search: Any) -> None:
        self.search = search
        self.variance = torch.zeros(2, device=search.device)  # decayed sums: of the variances, and of 1 for each

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A scalar with that gradient, whose value means nothing; and the mean (loss, accuracy) of the draws.

        Waits for the device once: which operations are computed is decided on the host.
        """
        evaluator, config = self.search.evaluator, self.search.config
        rng = generator(config.seed, "rloo", step)
        drawn = evaluator.distributions().sample(rng, config.evaluator_samples)
        outcomes = self._outcomes(images, labels, drawn)
        losses = outcomes[:, 0]
        count = len(losses)
        advantages = (losses - losses.mean()) * count / (count - 1)  # loss_k - mean of the others
        expected = (advantages * evaluator.draw_log_probability(drawn)).mean()
        objective = expected + self.search.penalty(evaluator.mixing_weights())
        return objective / self._deviation(losses), outcomes.mean(0)

    @torch.no_grad()
    def _outcomes(self, images: Tensor, labels: Tensor, drawn: NDArray[Any]) -> Tensor:
        """(loss, accuracy) of each architecture on the batch: (K, 2)."""
        template, cache = self.search.scored_template, Cache()
        found = []
        for architecture in drawn:
            with autocast(self.search.device, self.search.config.precision):
                logits = template.sampled(images, template.per_cell(architecture), cache=cache).float()
            found.append(outcome(F.cross_entropy(logits, labels), logits, labels))
        return torch.stack(found)

    def _deviation(self, losses: Tensor) -> Tensor:
        """The running standard deviation after these losses (K,): a scalar."""
        self.variance = DECAY * self.variance + torch.stack([losses.var(), losses.new_ones(())])
        return (self.variance[0] / self.variance[1]).sqrt().clamp_min(LEAST)

    def state(self) -> dict[str, Any]:
        """What a resumed search needs of it."""
        return {"variance": self.variance}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self.variance = state["variance"].to(self.search.device)
