"""How inspectors are shown with and without a reader, errors of their handlers, and what they never do."""

import base64
import gc
import html
import tracemalloc
from types import SimpleNamespace

import matplotlib
import pytest
from IPython.display import HTML, SVG, Image
from ipywidgets import Widget
from ipywidgets.widgets.widget import _instances
from written_run import write_run

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from references import opened

from setn_lab import notebook
from setn_lab.inspection import pictures
from setn_lab.inspection.reading import InspectConfig
from setn_lab.runs.run import Run
from setn_lab.search.config import SearchConfig
from setn_lab.widgets import (
    CandidatesInspector,
    ComparisonInspector,
    EvaluatorInspector,
    RunInspector,
    SamplingInspector,
    inspector,
    show,
)

KINDS = [EvaluatorInspector, CandidatesInspector, SamplingInspector, ComparisonInspector]
VIEW = "application/vnd.jupyter.widget-view+json"
MOVES = 100  # tracing makes each several times slower
PNG = b"\x89PNG"


# With and without a reader


@pytest.fixture
def displayed(monkeypatch):
    """What `show` displays: (object, raw) of each call."""
    calls = []
    monkeypatch.setattr(inspector, "display", lambda one, raw=False: calls.append((one, raw)))
    monkeypatch.setattr(inspector, "headless", lambda: False)
    return calls


@pytest.fixture
def no_widgets(monkeypatch):
    monkeypatch.setattr(Widget, "__init__", lambda *_, **__: pytest.fail("a widget was made"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_is_shown_the_widget_and_its_picture(folder, displayed, kind):
    show(kind, InspectConfig(run_dir=str(folder), samples=50))
    ((bundle, raw),) = displayed
    assert raw
    assert bundle[VIEW]["model_id"] in _instances
    assert base64.b64decode(bundle["image/png"]).startswith(PNG)


def test_without_a_run_a_reader_is_shown_the_widget_alone(tmp_path, displayed):
    show(EvaluatorInspector, InspectConfig(run_dir=str(tmp_path / "run")))
    ((bundle, raw),) = displayed
    assert raw
    assert VIEW in bundle
    assert "image/png" not in bundle


KINDS_OF_OUTPUT = {
    EvaluatorInspector: [HTML, Image, HTML] * 2,
    CandidatesInspector: [Image, HTML, HTML, SVG],  # histograms, the best, the neighbours, the winner
    SamplingInspector: [Image, HTML, SVG],
    ComparisonInspector: [Image, HTML],
    RunInspector: [HTML],
}


@pytest.mark.usefixtures("no_widgets")
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_reader_only_figures_are_shown(folder, displayed, kind):
    show(kind, InspectConfig(run_dir=str(folder), samples=50, interactive=False))
    assert not any(raw for _, raw in displayed)
    assert [type(one) for one, _ in displayed] == KINDS_OF_OUTPUT[kind]
    assert all(one.data.startswith(PNG) for one, _ in displayed if type(one) is Image)


@pytest.mark.usefixtures("no_widgets")
def test_papermill_is_shown_figures_and_a_missing_run_is_a_sentence(tmp_path, displayed, monkeypatch):
    monkeypatch.setattr(inspector, "headless", lambda: True)
    for kind in KINDS[:3]:
        show(kind, InspectConfig(run_dir=str(tmp_path / "run")))
        ((message, _),) = displayed
        assert str(tmp_path / "run") in message.data
        displayed.clear()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([["/usr/bin/python", "/usr/bin/papermill", "in.ipynb"]], True),
        ([["/usr/bin/python", "-m", "papermill", "in.ipynb"]], True),
        ([["jupyter-lab"], ["papermill", "x"]], True),
        ([["/usr/bin/python", "-m", "jupyterlab"], ["bash"]], False),
        ([["jupyter-lab"], ["bash"], ["papermill"]], False),
        ([["vim", "-R", "a", "papermill.txt"]], False),
        ([], False),
    ],
)
def test_papermill_is_known_by_its_process(lines, expected, monkeypatch):
    parents = [SimpleNamespace(cmdline=lambda line=line: line) for line in lines]
    monkeypatch.setattr(notebook.psutil, "Process", lambda: SimpleNamespace(parents=lambda: parents))
    assert notebook.headless() == expected


def test_a_parent_that_may_not_be_asked_is_not_papermill(monkeypatch):
    def refuse():
        raise notebook.psutil.AccessDenied(1)

    parents = [SimpleNamespace(cmdline=lambda: ["jupyter-lab"]), SimpleNamespace(cmdline=refuse)]
    monkeypatch.setattr(notebook.psutil, "Process", lambda: SimpleNamespace(parents=lambda: parents))
    assert not notebook.headless()


# Errors of our own


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        (EvaluatorInspector, lambda one: setattr(one.epochs.slider, "value", 5 - one.epochs.slider.value)),
        (EvaluatorInspector, lambda one: one.refresh_button.click()),
        (CandidatesInspector, lambda one: setattr(one.table, "selected_rows", [(one.picked + 1) % 6])),
        (SamplingInspector, lambda one: one.again.click()),
        (SamplingInspector, lambda one: setattr(one.temperature, "value", 5 - one.temperature.value)),
    ],
)
def test_an_error_in_a_handler_is_seen(folder, kind, act, monkeypatch):
    one = opened(kind, folder)
    if hasattr(one, "epochs"):
        one.epochs.slider.value = 1

    def broken_on_purpose(*arguments, **options):
        raise RuntimeError("<odd> & wrong")

    with monkeypatch.context() as patch:
        patch.setattr(pictures.Picture, "png", broken_on_purpose)
        act(one)
        assert html.escape("RuntimeError: <odd> & wrong") in one.message.value
        assert "Traceback" in one.message.value
        assert "broken_on_purpose" in one.message.value
        assert "<odd>" not in one.message.value
    act(one)
    assert one.message.value == ""


# What never happens


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_and_the_lock_is_left_to_the_search(tmp_path):
    folder = write_run(tmp_path / "run", nodes=1, candidates=6)
    config = SearchConfig(dataset="digits", epochs=4, seed=0, nodes=1, run_dir=str(folder))
    with Run.open(config, "search") as run:  # none of them has to wait for it
        before = contents(folder)
        for kind in (*KINDS, RunInspector):
            one = opened(kind, folder)
            assert one.message.value == ""
        assert CandidatesInspector.figures(one.config)
        assert contents(folder) == before
        run.append("metrics", {"epoch": 5})
    one = opened(SamplingInspector, folder)
    with Run.open(config, "search", lock_wait=0):  # which an inspector does not hinder
        one.refresh_button.click()
        assert one.message.value == ""


def test_moves_of_the_slider_take_no_memory_and_no_figure(tmp_path):
    one = opened(EvaluatorInspector, write_run(tmp_path / "run", epochs=20, nodes=1))
    slider, figures = one.epochs.slider, plt.get_fignums()

    def alive():
        gc.collect()
        found = [thing for thing in gc.get_objects() if type(thing) is Figure]
        artists = [len(picture.figure.findobj()) for picture in one.pictures.values()]
        return len(found), artists, len(_instances)

    def move(times):
        for step in range(times):
            slider.value = 1 + step % 19

    move(20)
    before = alive()
    tracemalloc.start()
    try:
        move(20)
        started = tracemalloc.get_traced_memory()[0]
        move(MOVES)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - started
    finally:
        tracemalloc.stop()
    assert grown < 2**20 * MOVES / 500
    assert alive() == before
    assert plt.get_fignums() == figures
    assert one.message.value == ""
