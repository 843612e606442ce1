"""What is shown of a run's progress."""

import io

import pytest

from setn_lab import cli
from setn_lab.runs import progress
from setn_lab.runs.progress import Meter, Progress, epoch_line

EPOCH = {
    "epoch": 1,
    "weight_loss": 2.0,
    "weight_accuracy": 0.25,
    "evaluator_loss": None,
    "entropy": 4.0,
    "seconds": 2.0,
}
SCORED = {"loss": 1.25, "accuracy": 0.5}


@pytest.fixture
def clock(monkeypatch):
    """Seconds, to be set by a test."""
    times = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: times[0])
    return times


def note(meter, clock, seconds, *arguments):
    clock[0] += seconds
    return meter.note(Progress(*arguments))


def test_the_rate_is_that_of_the_phase_since_it_began_here(clock):
    meter = Meter()
    assert meter.text == "starting"
    note(meter, clock, 0, "train", 40, 100)  # a run that goes on
    assert meter.text == "40 of 100 steps"
    note(meter, clock, 5, "train", 50, 100)
    assert meter.text == "50 of 100 steps, 2.00 a second, 25 s left"
    note(meter, clock, 5, "train", 100, 100)
    assert meter.text == "100 of 100 steps"
    note(meter, clock, 60, "score", 1, 9)
    note(meter, clock, 2, "score", 2, 9)
    assert meter.text == "2 of 9 candidates, 0.50 a second, 14 s left"
    note(meter, clock, 60, "score", 1, 5)  # those of another search
    note(meter, clock, 1, "score", 3, 5)
    assert meter.text == "3 of 5 candidates, 2.00 a second, 1 s left"


def test_an_epoch_has_a_line_and_the_newest_record_is_shown(clock):
    meter = Meter()
    assert note(meter, clock, 0, "train", 1, 2) is None
    assert note(meter, clock, 0, "train", 1, 2, EPOCH) == epoch_line(EPOCH)
    assert meter.text.endswith(f"; {epoch_line(EPOCH)}")
    assert note(meter, clock, 0, "score", 1, 2, SCORED) is None
    assert meter.text == "1 of 2 candidates; last: loss 1.250, accuracy 50.0%"
    note(meter, clock, 0, "networks", 1, 2, {"network": 0, "failed": "its loss is not finite"})
    assert meter.text == "1 of 2 networks; last: failed"


EVENTS = [
    Progress("train", 1, 2),
    Progress("train", 1, 2, EPOCH),
    Progress("train", 2, 2),
    Progress("train", 2, 2, {**EPOCH, "epoch": 2}),
    Progress("score", 1, 2, SCORED),
    Progress("score", 2, 2, SCORED),
    Progress("score", 2, 2, SCORED),  # as a race tells its candidates
]


def shown(text: str) -> list[str]:
    """The lines that a terminal shows after these characters."""
    lines = [""]
    for part in text.replace("\r\x1b[K", "\r").replace("\n", "\n\0").replace("\r", "\0\r").split("\0"):
        if part.startswith("\r"):
            lines[-1] = ""
        lines[-1] += part.lstrip("\r").rstrip("\n")
        if part.endswith("\n"):
            lines.append("")
    return lines


@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_an_epoch_stays_and_nothing_of_what_was_updated_is_left(monkeypatch, terminal):
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr(cli.sys, "stdout", out)
    observe = cli.Terminal()
    for event in EVENTS:
        observe(event)
    lines = [epoch_line(EPOCH), epoch_line({**EPOCH, "epoch": 2})]
    assert shown(out.getvalue()) == [*lines, "2 of 2 candidates; last: loss 1.250, accuracy 50.0%", ""]
    assert ("\r" in out.getvalue()) == terminal


def test_a_terminals_line_is_cut_to_its_width(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr(cli.sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "20")
    observe = cli.Terminal()
    observe(Progress("score", 1, 2, SCORED))
    assert shown(out.getvalue()) == ["1 of 2 candidates; "]
