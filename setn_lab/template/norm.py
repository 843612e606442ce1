"""The template's batch norm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5  # torch's own


class BatchNorm(nn.BatchNorm2d):
    """The template's batch norm, which takes a factor.

    It reads the statistics of the batch in training and in evaluation. One operation serves many candidates, so running
    averages would belong to none: there are none, unless `collect` is called to score one candidate. It is not affine:
    a learned scale could undo the mixing weights of Eq. 10.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, EPSILON, affine=False, track_running_stats=False, momentum=None)

    def collect(self, device: torch.device) -> None:
        """Average the statistics of the batches that follow in training mode, for use in evaluation mode."""
        self.track_running_stats = True
        self.running_mean = torch.zeros(self.num_features, device=device)
        self.running_var = torch.ones(self.num_features, device=device)
        self.collected = 0  # batches; torch's own count lies on the device, and it waits there for each batch

    def forget(self) -> None:
        """Back to the statistics of the batch."""
        self.track_running_stats = False
        self.running_mean = self.running_var = self.momentum = None

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """(b, C, h, w), normalised per channel, times the scalar `factor`."""
        if factor is None:
            if self.training and self.track_running_stats:
                self.collected += 1
                self.momentum = 1 / self.collected  # the share of this batch in the average of all
            return super().forward(x)
        # contiguous: the backward pass of torch's CPU kernel is wrong, and not reproducible, on an expanded scale
        scale = factor.expand(x.shape[1]).contiguous()
        return F.batch_norm(x, None, None, scale, None, training=True, eps=self.eps)
