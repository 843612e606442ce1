"""The ways to update the evaluator (section 4.2), by the value of the parameter `evaluator_gradient`.

A way is made once for a search and then called with each batch of D_val: (images, labels, step) to (objective,
outcome). Minimizing the objective, a scalar with gradients for the evaluator alone, is the update; it holds the penalty
of footnote 3, `Search.penalty`. The outcome (loss, accuracy) goes into the journal. Both stay on the device. Another
way joins by a line in `GRADIENTS`.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from setn_lab.evaluator.mixture import Mixture

Gradient = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]

GRADIENTS: dict[str, Callable[[Any], Gradient]] = {"mixture": Mixture}  # of a `search.setup.Search`
