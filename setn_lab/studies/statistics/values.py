"""What all statistics take and give: checked arrays, and a figure with its interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval, of `count` items; a value of None is undefined, and `note` says why.

    low and high are None where the value is, and where there is no interval, which `note` explains too.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    note: str = ""


def paired(shape: str, predicted: Values, true: Values) -> tuple[Values, Values]:
    """Predictions and true values, checked, as many of one as of the other."""
    predicted, true = checked("predicted", shape, predicted), checked("true", shape, true)
    if len(predicted) != len(true):
        raise ValueError(f"true: {len(true)} given; as many as there are in predicted, {len(predicted)}, are allowed")
    return predicted, true


def checked(name: str, shape: str, values: Values, fewest: int = 0) -> Values:
    """The values as floats of that shape, (n,) or (P, 2), where an empty list is one of either."""
    array = np.asarray(values, dtype=np.float64)
    tail = (2,) if shape == "(P, 2)" else ()
    if array.shape == (0,):
        array = array.reshape(0, *tail)
    if array.ndim != 1 + len(tail) or array.shape[1:] != tail:
        raise ValueError(f"{name}: an array of shape {array.shape} given; {shape} is allowed")
    if len(array) < fewest:
        raise ValueError(f"{name}: {len(array)} values given; at least {fewest} is allowed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {(~np.isfinite(array)).sum()} values are not finite; only finite ones are allowed")
    return array
