"""The ways to update the evaluator (section 4.2), by the value of the parameter `evaluator_gradient`.

A way is made once for a search and then called with each batch of D_val: (images, labels, step) to (objective,
outcome). Minimizing the objective, a scalar with gradients for the evaluator alone, is the update; it holds the penalty
of footnote 3, `Search.penalty`. The outcome (loss, accuracy) goes into the journal. Both stay on the device. With
`batch_parts` it is called with each part of the batch, and the gradients are averaged.

Another way joins by a line in `GRADIENTS`. One that carries something from step to step is `Stateful` too; it is called
once in a step, with the whole batch, by the first process alone.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from setn_lab.evaluator.mixture import Mixture
from setn_lab.evaluator.rloo import RLOO

Gradient = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@runtime_checkable
class Stateful(Protocol):
    """A way whose next step depends on earlier ones: checkpoints hold its state."""

    def state(self) -> dict[str, Any]:
        """Tensors and numbers, as `runs.checkpoint.save` takes them."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, tensors on the CPU."""


GRADIENTS: dict[str, Callable[[Any], Gradient]] = {"mixture": Mixture, "rloo": RLOO}  # of a `search.setup.Search`
