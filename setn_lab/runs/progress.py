"""How far a run is: what an observer is told, and how it is written in a line."""

import math
import time
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

    @property
    def finished(self) -> bool:
        """Whether the phase is at its end."""
        return self.done == self.total


Observer = Callable[[Progress], None]
FEW = 10  # architectures: an evaluator that draws no more than so many has all but decided
UNITS = {"train": "steps", "score": "candidates", "networks": "networks"}


class Meter:
    """What an observer shows of a run: a line per epoch, and how far the phase is, how fast, and how long it takes."""

    def __init__(self) -> None:
        """Before the first progress."""
        self._progress: Progress | None = None
        self._now = self._began = 0.0
        self._before = 0  # units that were done when the phase began here
        self._last = ""  # the newest losses and accuracies

    def note(self, progress: Progress) -> str | None:
        """Take note of how far the phase is; returns the line of an epoch that has just ended."""
        self._now = time.perf_counter()
        old, self._progress = self._progress, progress
        if old is None or old.phase != progress.phase or old.done > progress.done:
            self._began, self._before = self._now, progress.done
        record = progress.record
        if record is None:
            return None
        if "epoch" in record:
            self._last = epoch_line(record)
            return self._last
        loss = "failed" if "failed" in record else f"loss {record['loss']:.3f}, accuracy {record['accuracy']:.1%}"
        self._last = f"last: {loss}"
        return None

    @property
    def text(self) -> str:
        """The phase in a line: "120 of 4800 steps, 7.50 a second, 10 min 24 s left; last: ..."."""
        if self._progress is None:
            return "starting"
        done, total = self._progress.done, self._progress.total
        text = f"{done} of {total} {UNITS[self._progress.phase]}"
        if self._now > self._began and self._before < done < total:
            rate = (done - self._before) / (self._now - self._began)
            text += f", {rate:.2f} a second, {duration((total - done) / rate)} left"
        return f"{text}; {self._last}" if self._last else text


def epoch_line(record: dict[str, Any]) -> str:
    """The losses and accuracies of one epoch, of a search or of a training, as one line."""
    if "test_error" in record:
        line = f"seed {record['seed']}, epoch {record['epoch']}: loss {record['loss']:.3f}, error {record['error']:.1%}"
        line += f", test loss {record['test_loss']:.3f}, test error {record['test_error']:.2%}"
        return f"{line}, {record['seconds']:.0f} s"
    parts = [
        f"{name} {record[f'{key}_loss']:.3f} {record[f'{key}_accuracy']:.1%}"
        for name, key in (("weights", "weight"), ("evaluator", "evaluator"))
        if record[f"{key}_loss"] is not None
    ]
    collapsed = collapse(record["entropy"])
    entropy = f"entropy {record['entropy']:.2f} nats" + (f" ({collapsed})" if collapsed else "")
    return f"epoch {record['epoch']}: {', '.join([*parts, entropy])}, {record['seconds']:.0f} s"


def collapse(entropy: float) -> str:
    """What the entropy in nats of an architecture says of an evaluator that draws only a few; empty otherwise."""
    return f"collapsed to about {math.exp(entropy):.1f} architectures" if entropy < math.log(FEW) else ""


def duration(seconds: float) -> str:
    """A number of seconds as a reader takes it in: "42 s", "3 min 5 s", "2 h 7 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
