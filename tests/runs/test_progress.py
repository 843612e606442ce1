"""What is shown of a run's progress."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from references import EPOCH, run_search

from setn_lab import cli, notebook
from setn_lab.runs import progress
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import Meter, Progress, duration, epoch_line, of_part

JOURNALS = "candidates", "candidates-1"
SCORED = {"loss": 1.25, "accuracy": 0.5}


@pytest.fixture
def clock(monkeypatch):
    """Seconds, to be set by a test."""
    times = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: times[0])
    return times


def note(meter, clock, seconds, *arguments, **more):
    clock[0] += seconds
    return meter.note(Progress(*arguments, **more))


def left(meter):
    """Seconds that are said to be left."""
    (found,) = re.findall(r", (?:(\d+) h )?(?:(\d+) min ?)?(?:(\d+) s )?left", meter.text)
    hours, minutes, seconds = (int(text or 0) for text in found)
    return 3600 * hours + 60 * minutes + seconds


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


STAGES = {"the template": (100, 0.1), "template and evaluator": (150, 2.0), "the evaluator": (400, 0.5)}  # end, seconds


def test_each_stage_has_its_own_rate_and_its_own_end(clock):
    meter, done = Meter(), 0
    for stage, (end, seconds) in STAGES.items():
        while done < end:
            done += 1
            note(meter, clock, seconds, "train", done, 400, None, stage, end)
            if 1 < done < end:
                assert left(meter) == pytest.approx((end - done) * seconds, abs=1)
                assert (f"of {stage}, then {400 - end} steps" in meter.text) == (end < 400)


def test_a_rate_is_that_of_late(clock):
    meter = Meter()
    for step in range(1, 101):
        note(meter, clock, 0.1, "train", step, 1000)
    for step in range(101, 131):  # another program has come
        note(meter, clock, 5.0, "train", step, 1000)
    assert left(meter) == pytest.approx(870 * 5.0, rel=0.1)


def test_what_was_known_already_does_not_make_a_rate(clock):
    meter = Meter()
    for done in range(1, 97):  # scored by an earlier search
        note(meter, clock, 0.0001, "score", done, 100, SCORED, work=(0, 4))
        assert "a second" not in meter.text
    note(meter, clock, 3.0, "score", 97, 100, SCORED, work=(1, 4))
    note(meter, clock, 3.0, "score", 98, 100, SCORED, work=(2, 4))
    assert left(meter) == pytest.approx(2 * 3.0, abs=1)


def test_a_part_has_its_name_and_the_study_its_time(clock):
    meter = Meter()
    of_part(meter.note, "setn, seed 0", (1, 4))(Progress("train", 1, 2))
    assert meter.text.startswith("setn, seed 0 (1 of 4): 1 of 2 steps")
    assert "parts after" not in meter.text  # none was done yet
    for number in (2, 3):
        clock[0] += 90
        of_part(meter.note, f"seed {number}", (number, 4))(Progress("train", 1, 2))
        assert f"about {duration(90 * (4 - number))} for the parts after it" in meter.text
    clock[0] += 90
    of_part(meter.note, "last", (4, 4))(Progress("train", 1, 2, EPOCH))
    assert "parts after" not in meter.text
    assert f"last: {epoch_line(EPOCH)}" in meter.text


def test_parts_that_were_done_before_do_not_shorten_the_studys_time(clock):
    meter = Meter()
    for number in (1, 2):
        of_part(meter.note, f"seed {number}", (number, 6))(Progress("train", 2, 2))
        clock[0] += 0.1
    of_part(meter.note, "seed 3", (3, 6))(Progress("train", 1, 2))
    assert "parts after" not in meter.text
    clock[0] += 90
    of_part(meter.note, "seed 4", (4, 6))(Progress("train", 1, 2))
    assert f"about {duration(180)} for the parts after it" in meter.text


def test_what_was_done_before_and_what_was_stopped_say_so(clock, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(cli.sys, "stdout", out)
    observe = cli.Terminal()
    for phase in ("train", "score"):
        observe(Progress(phase, 5, 5))
    observe(Progress("score", 5, 5, part="uniform candidates"))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.endswith("all done before") for line in lines)
    meter = Meter()
    note(meter, clock, 0, "train", 1, 9)
    note(meter, clock, 1, "train", 2, 9)
    assert "stopped at 2 of 9 steps" in meter.stopped()
    assert "left" not in meter.stopped()
    of_part(meter.note, "setn, seed 0", (2, 3))(Progress("train", 3, 9))
    assert "stopped at setn, seed 0 (2 of 3): 3 of 9 steps" in meter.stopped()
    assert "stopped before the first step" in Meter().stopped()


@pytest.mark.parametrize("success", [True, False])
def test_a_notebooks_line_says_that_its_cell_was_interrupted(monkeypatch, success):
    called, shown = {}, []
    events = SimpleNamespace(register=called.__setitem__, unregister=lambda name, _: called.pop(name))
    monkeypatch.setattr(notebook, "get_ipython", lambda: SimpleNamespace(events=events))
    handle = SimpleNamespace(update=lambda live: shown.append(live._repr_mimebundle_()["text/plain"]))
    monkeypatch.setattr(notebook, "display", lambda *_, **__: handle)
    live = notebook.Live()
    live(Progress("train", 1, 9))
    called["post_run_cell"](SimpleNamespace(success=success))
    assert not called
    assert shown[-1].startswith("stopped at 1 of 9") == (not success)


def test_a_search_tells_its_stages_and_only_what_it_computes(tiny_config, tmp_path):
    told = []
    config = tiny_config(tmp_path / "run", epochs=2, evaluator_start=1, evaluator_epochs=1, candidates=4)
    folder = run_search(config, told.append)
    training = [one for one in told if one.phase == "train"]
    stages = list(dict.fromkeys((one.stage, one.stage_end) for one in training))
    steps = training[-1].total // 3
    assert [end for _, end in stages] == [steps, 2 * steps, 3 * steps]
    assert len({name for name, _ in stages}) == 3
    assert all(one.done <= one.stage_end for one in training)
    scored = [one for one in told if one.phase == "score"]
    assert scored[-1].work == (scored[-1].total,) * 2

    told.clear()
    run_search(config, told.append)
    assert told == [Progress("train", 3 * steps, 3 * steps), Progress("score", *(scored[-1].total,) * 2)]
    told.clear()
    run_search(replace(config, candidates=9), told.append)
    genotypes = [{one["genotype"] for one in read_journal(folder / f"{name}.jsonl")} for name in JOURNALS]
    assert told[-1].work == (len(genotypes[0] - genotypes[1]),) * 2
    run_search(config, told.append)  # those of the first search, which are all known
    assert told[-1].work == (0, 0)
    assert told[-1].done == told[-1].total == len(genotypes[1])
