"""How far a run is: what an observer is told, and how it is written in a line."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal


@dataclass(frozen=True)
class Progress:
    """How far a phase is, for an observer: `done` of `total` units, `record` where one was just written.

    stage: what the steps of now work on, such as "template", until `stage_end` units are done: those of another stage
    take another time. work: (done, in all), of units that are computed here, where others were known. part: of a study,
    such as "setn, seed 0"; place: its number and how many there are.
    """

    phase: Literal["train", "score", "networks"]
    done: int
    total: int
    record: dict[str, Any] | None = None
    stage: str = ""
    stage_end: int | None = None
    work: tuple[int, int] | None = None
    part: str = ""
    place: tuple[int, int] | None = None

    @property
    def finished(self) -> bool:
        """Whether the phase is at its end."""
        return self.done == self.total


Observer = Callable[[Progress], None]


def of_part(observe: Observer, part: str, place: tuple[int, int] | None = None) -> Observer:
    """An observer that tells another one of which part of a study it is told."""
    return lambda progress: observe(replace(progress, part=part, place=place))


FEW = 10  # architectures: an evaluator that draws no more than so many has all but decided
UNITS = {"train": "steps", "score": "candidates", "networks": "networks"}
RECENT = 60.0  # seconds of which a rate is the mean: other programs come and go


class Meter:
    """What an observer shows of a run: a line per epoch, and how far the phase is, how fast, and how long it takes."""

    def __init__(self) -> None:
        """Before the first progress."""
        self._progress: Progress | None = None
        self._recent: deque[tuple[float, int]] = deque()  # (time, units computed) of this stage
        self._began: dict[tuple[int, int], float] = {}  # when a part of the study began here
        self._worked: set[tuple[int, int]] = set()  # the parts of which not all was done before
        self._last = ""  # the newest losses and accuracies
        self.was_done = False  # whether the phase was at its end before it was looked at
        self._now = 0.0

    def note(self, progress: Progress) -> str | None:
        """Take note of how far the phase is; returns the line of an epoch that has just ended."""
        now = time.perf_counter()
        old, self._progress = self._progress, progress
        units = progress.done if progress.work is None else progress.work[0]
        if old is None or _kind(old) != _kind(progress) or old.done > progress.done:
            self._recent.clear()
            self.was_done = progress.finished and progress.record is None
            if old is not None and _kind(old)[:2] == _kind(progress)[:2] and old.done <= progress.done:
                self._recent.append((self._now, old.done))  # a stage after another: its first step counts
        self._now = now
        if progress.place is not None:
            self._began.setdefault(progress.place, now)
            if not progress.finished or progress.record is not None:
                self._worked.add(progress.place)
        self._recent.append((now, units))
        while len(self._recent) > 2 and self._recent[1][0] < now - RECENT:
            self._recent.popleft()
        record = progress.record
        if record is None:
            return None
        named = f"{progress.part}: " if progress.part else ""
        if "epoch" in record:
            self._last = named + epoch_line(record)
            return self._last
        loss = "failed" if "failed" in record else f"loss {record['loss']:.3f}, accuracy {record['accuracy']:.1%}"
        self._last = f"last: {loss}"
        return None

    @property
    def text(self) -> str:
        """The phase in a line: "setn (1 of 3): 120 of 4800 steps, 7.50 a second, 10 min 24 s left; last: ..."."""
        progress = self._progress
        if progress is None:
            return "starting"
        if self.was_done and progress.finished:
            return f"{_position(progress)}, all done before"
        last = f"; {self._last}" if self._last else ""
        return f"{_position(progress)}{self._pace(progress)}{self._study(progress)}{last}"

    def stopped(self) -> str:
        """The line for a phase that has ended before its end."""
        where = "before the first step" if self._progress is None else f"at {_position(self._progress)}"
        return f"stopped {where}: the same again goes on from what is kept"

    def _pace(self, progress: Progress) -> str:
        """The rate, and how long the stage takes at it."""
        (first, before), (last, now) = self._recent[0], self._recent[-1]
        end = progress.total if progress.stage_end is None else progress.stage_end
        left = end - progress.done if progress.work is None else progress.work[1] - progress.work[0]
        if progress.finished or last <= first or now <= before or left <= 0:
            return ""
        rate = (now - before) / (last - first)
        text = f", {rate:.2f} a second, {duration(left / rate)} left"
        if progress.stage_end is None or progress.stage_end == progress.total:
            return text
        return f"{text} of {progress.stage}, then {progress.total - progress.stage_end} steps that take another time"

    def _study(self, progress: Progress) -> str:
        """How long the parts of the study after this one take, by those that were done here before it."""
        if progress.place is None or progress.place[0] == progress.place[1]:
            return ""
        number, count = progress.place
        begun = sorted(place for place in self._began if place[0] <= number)
        took = [self._began[after] - self._began[part] for part, after in pairwise(begun) if part in self._worked]
        if not took:
            return ""
        return f", then about {duration(sum(took) / len(took) * (count - number))} for the parts after it"


def _position(progress: Progress) -> str:
    """What is worked on and how far it is: "setn, seed 0 (1 of 3): 120 of 4800 steps"."""
    head = progress.part
    if progress.place is not None:
        head += f" ({progress.place[0]} of {progress.place[1]})"
    named = f"{head}: " if head else ""
    return f"{named}{progress.done} of {progress.total} {UNITS[progress.phase]}"


def _kind(progress: Progress) -> tuple[str, str, str]:
    """What has one rate."""
    return progress.phase, progress.part, progress.stage


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
