"""How far a run is: what an observer is told, and how it is written in a line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Progress:
    """How far a phase is, for an observer: `done` of `total` units, `record` where one was just written."""

    phase: Literal["train", "score", "networks"]
    done: int
    total: int
    record: dict[str, Any] | None = None


Observer = Callable[[Progress], None]


def epoch_line(record: dict[str, Any]) -> str:
    """The losses and accuracies of one epoch, of a search or of a training, as one line."""
    if "test_error" in record:
        line = f"seed {record['seed']}, epoch {record['epoch']}: loss {record['loss']:.3f}, error {record['error']:.1%}"
        line += f", test loss {record['test_loss']:.3f}, test error {record['test_error']:.2%}"
        return f"{line}, {record['seconds']:.0f} s"
    line = f"epoch {record['epoch']}: weights {record['weight_loss']:.3f} {record['weight_accuracy']:.1%}"
    if record["evaluator_loss"] is not None:
        line += f", evaluator {record['evaluator_loss']:.3f} {record['evaluator_accuracy']:.1%}"
    return f"{line}, entropy {record['entropy']:.2f} nats, {record['seconds']:.0f} s"


def duration(seconds: float) -> str:
    """A number of seconds as a reader takes it in: "42 s", "3 min 5 s", "2 h 7 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
