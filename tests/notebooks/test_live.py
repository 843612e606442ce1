"""The curves that the search notebook shows while it trains: what they show, and how often they are drawn."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from references import EPOCH
from written_run import write_journal, write_run

from setn_lab import notebook
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import Progress
from setn_lab.search import live
from setn_lab.space.setn import SMALL, SearchSpace

COST = 0.5  # seconds of a drawing


@pytest.fixture
def screen(monkeypatch):
    """A notebook's screen: the clock, what was drawn when, the end of the cell, and whether nobody is looking."""
    one = SimpleNamespace(time=100.0, drawn=[], end={}, headless=False, recorded=True)
    events = SimpleNamespace(register=one.end.__setitem__, unregister=lambda name, _: one.end.pop(name))
    handle = SimpleNamespace(update=lambda shown: None)
    monkeypatch.setattr(notebook.time, "perf_counter", lambda: one.time)
    monkeypatch.setattr(notebook, "get_ipython", lambda: SimpleNamespace(events=events))
    monkeypatch.setattr(notebook, "display", lambda *_, **__: handle)
    monkeypatch.setattr(notebook, "headless", lambda: one.headless)

    def draw():
        one.drawn.append(one.time)
        one.time += COST
        return b"\x89PNG" if one.recorded else None

    one.draw = draw
    return one


def epochs(live_, screen, count, seconds, total=100):
    for number in range(1, count + 1):
        screen.time += seconds
        live_(Progress("train", number, total))  # a step, which draws nothing
        live_(Progress("train", number, total, {**EPOCH, "epoch": number}))


def test_curves_take_a_small_part_of_the_time_and_the_last_epoch_is_drawn(screen):
    shown = notebook.Live(screen.draw)
    epochs(shown, screen, 100, 1.0)
    assert 3 <= len(screen.drawn) < 100
    gaps = np.diff(screen.drawn)
    assert min(gaps[:-1]) >= max(notebook.PAUSE, COST / notebook.SHARE)
    assert screen.time - screen.drawn[-1] == COST  # at the last epoch
    count = len(screen.drawn)
    screen.end["post_run_cell"](SimpleNamespace(success=True))
    assert len(screen.drawn) == count  # which it shows already


def test_each_of_long_epochs_is_drawn(screen):
    shown = notebook.Live(screen.draw)
    epochs(shown, screen, 5, 60.0)
    assert len(screen.drawn) == 6


@pytest.mark.parametrize("headless", [False, True])
def test_an_interrupt_leaves_the_newest_picture(screen, headless):
    screen.headless = headless
    shown = notebook.Live(screen.draw)
    epochs(shown, screen, 4, 1.0)
    assert len(screen.drawn) == 1
    screen.end["post_run_cell"](SimpleNamespace(success=False))
    assert len(screen.drawn) == 2


def test_nobody_at_the_screen_leaves_the_picture_of_the_end_alone(screen):
    screen.headless = True
    epochs(notebook.Live(screen.draw), screen, 100, 60.0)
    assert len(screen.drawn) == 2  # of what was there, and of all


def test_without_epochs_there_is_no_picture(screen, tmp_path):
    screen.recorded = False
    notebook.Live(screen.draw)
    folder = write_run(tmp_path / "run", nodes=2, candidates=0)
    (folder / "metrics.jsonl").unlink()
    assert live.curves(folder)() is None


def test_the_curves_are_those_of_the_journal_and_entropy_is_in_percent_of_uniform(tmp_path, monkeypatch):
    figures, figure = [], live.Figure
    monkeypatch.setattr(live, "Figure", lambda **size: figures.append(figure(**size)) or figures[-1])
    folder = write_run(tmp_path / "run", epochs=3, nodes=3, candidates=0)
    draw, records = live.curves(folder), read_journal(folder / "metrics.jsonl")
    space = SearchSpace(SMALL, 3)
    uniform = 2 * sum(2 * np.log(space.inputs(node)) + np.log(space.pairs) for node in range(3))
    records.append({**records[0], "epoch": 4, "entropy": uniform, "evaluator_loss": None, "evaluator_accuracy": None})
    for count in (3, 4):  # what has been written since is read
        write_journal(folder / "metrics.jsonl", records[:count])
        assert Image.open(io.BytesIO(draw())).width > 600
        loss, accuracy, entropy = figures[-1].axes
        for ax, key, unit in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
            for line, part in zip(ax.lines, ("weight", "evaluator"), strict=True):
                values = np.array([record[f"{part}_{key}"] for record in records[:count]], dtype=float)
                np.testing.assert_allclose(line.get_ydata(), unit * values)
        (line,) = entropy.lines
        np.testing.assert_allclose(line.get_ydata(), [100 * record["entropy"] / uniform for record in records[:count]])
        assert entropy.get_ylim()[0] == 0
    assert line.get_ydata()[-1] == pytest.approx(100)
