"""Inspectors and the page of a search on NAS-Bench-201's space, against its journals."""

import math

import numpy as np
import pytest
from references import run_search

from setn_lab.inspection import pictures, reading, tables
from setn_lab.inspection.reading import InspectConfig
from setn_lab.kits import KITS
from setn_lab.runs.journal import read_journal
from setn_lab.search import report
from setn_lab.space.names import edge_names, label
from setn_lab.space.nasbench201 import NASBench201Genotype, NASBench201Space
from setn_lab.widgets import CandidatesInspector, ComparisonInspector, EvaluatorInspector, SamplingInspector

pytestmark = pytest.mark.usefixtures("coarse_pictures")

SPACE = NASBench201Space()
KINDS = [EvaluatorInspector, CandidatesInspector, SamplingInspector, ComparisonInspector]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config):
    """A finished search with an evaluator that has learned something."""
    values = {"space": "nasbench201", "nodes": 4, "evaluator_lr": 0.5, "epochs": 2, "baseline_candidates": 4}
    config = tiny_config(tmp_path_factory.mktemp("inspection") / "run", **values)
    return run_search(config)


def alpha(folder, place=-1):
    """The probabilities (6, 5) of the journal."""
    return np.array(read_journal(folder / "evaluator.jsonl")[place]["alpha"])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_inspector_opens_and_has_figures(folder, kind):
    config = InspectConfig(run_dir=str(folder), samples=50)
    widget = kind(config)
    assert widget.message.value == ""
    assert len(kind.figures(config)) >= 1


def test_every_epoch_of_the_evaluator_is_that_of_the_journal(folder):
    history = reading.read_history(folder)
    picture = pictures.evaluator_picture(history, 0)
    (shades,) = (ax for ax in picture.figure.axes if "mixing weights" in ax.get_title())
    (entropies,) = (ax for ax in picture.figure.axes if ax.get_title() == r"entropy of $\alpha$")
    probabilities, mark = shades.images[0], entropies.lines[-1]
    for place in (1, 0):
        picture.show(place)
        assert np.asarray(probabilities.get_array()) == pytest.approx(np.log2(5 * alpha(folder, place)))
        assert list(mark.get_xdata()) == [place + 1, place + 1]
    assert [text.get_text() for text in entropies.get_legend().get_texts()] == edge_names(SPACE)
    lines = entropies.lines[: len(SPACE.edges)]
    for edge, line in enumerate(lines):
        expected = [-sum(p * math.log(p) for p in alpha(folder, place)[edge]) for place in (0, 1)]
        assert list(line.get_ydata()) == pytest.approx(expected)


def test_preferences_name_the_most_probable_operation_of_each_edge(folder):
    (table,) = tables.preferences(reading.read_history(folder).at(-1))
    assert list(table["edge"])[:3] == ["input → node 0", "input → node 1", "node 0 → node 1"]
    for text, row in zip(table["operation"], alpha(folder), strict=True):
        assert text == f"{label(SPACE.operations[row.argmax()])} ({row.max():.0%})"


def test_the_likeliest_is_the_argmax_of_each_edge(folder):
    genotype, text = tables.likeliest(reading.read_history(folder).at(-1))
    best = alpha(folder)
    assert genotype.operations == tuple(SPACE.operations[place] for place in best.argmax(1))
    assert f"log-probability {np.log(best.max(1)).sum():.2f} nats" in text
    assert "it is the argmax" in text


def test_bars_count_the_drawn_operations():
    drawn = SPACE.sample(np.random.default_rng(0), 30)[:, None]
    picture = pictures.sampling_picture(SPACE, KITS["nasbench201"].uniform_weights(SPACE))
    picture.show(drawn)
    (ax,) = picture.figure.axes
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([100 * (drawn == place).mean() for place in range(len(SPACE.operations))])


def hand(genotype):
    """(parameters, multiply-adds) of the benchmark's network: 3 stages of 5 cells, 10 classes of 32 x 32 pixels."""
    kernels = [{"nor_conv_1x1": 1, "nor_conv_3x3": 9}[name] for name in genotype.operations if "conv" in name]
    parameters, multiply_adds = 27 * 16 + 2 * 16, 27 * 16 * 32**2  # the stem
    for channels, side in ((16, 32), (32, 16), (64, 8)):
        parameters += 5 * sum(kernel * channels**2 + 2 * channels for kernel in kernels)
        multiply_adds += 5 * sum(kernel * channels**2 for kernel in kernels) * side**2
        if side > 8:  # two convolutions of 3 x 3 and one of 1 x 1 halve the image and double the channels
            weights = (9 * 2 + 9 * 4 + 2) * channels**2
            parameters += weights + 2 * 2 * 2 * channels
            multiply_adds += weights * (side // 2) ** 2
    return parameters + 2 * 64 + 64 * 10 + 10, multiply_adds + 64 * 10


def test_the_hand_formula_gives_the_published_size():
    parameters, multiply_adds = hand(NASBench201Genotype(("nor_conv_3x3",) * 6))
    assert parameters == 1_531_546
    assert multiply_adds == pytest.approx(220.12e6, rel=1e-4)


def test_candidates_have_the_sizes_of_the_benchmarks_networks_and_their_text(folder):
    scored = reading.read_candidates(folder)
    records = read_journal(folder / "candidates.jsonl")
    for place, record in enumerate(records):
        assert SPACE.write(scored.genotypes[place]) == record["genotype"]
        columns = scored.table["parameters [M]"], scored.table["multiply-adds [M]"]
        assert [column.iloc[place] for column in columns] == pytest.approx(
            [size / 1e6 for size in hand(scored.genotypes[place])]
        )
    widget = CandidatesInspector(InspectConfig(run_dir=str(folder)))
    widget.pick(len(records) - 1)
    assert widget.copy_text.text == records[-1]["genotype"]


def test_the_page_has_the_winner_and_its_figures(folder, tmp_path):
    page = report.write(folder, tmp_path / "page")
    text = page.read_text(encoding="utf-8")
    winner = min(read_journal(folder / "candidates.jsonl"), key=lambda one: one["loss"])
    assert f"`{winner['genotype']}`" in text
    assert "| 16 | 5 |" in text  # the size of the benchmark's networks
    for name in ("curves", "evaluator", "candidates", "cells"):
        assert (page.parent / f"{name}.svg").stat().st_size > 1000
