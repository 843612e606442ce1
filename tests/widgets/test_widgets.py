"""The inspectors' handlers without a browser: what a control changes in pictures, tables, drawings and texts."""

import html
import xml.etree.ElementTree as ElementTree
from collections import Counter

import matplotlib
import numpy as np
import pytest
from matplotlib.lines import Line2D
from references import read_png
from written_run import write_journal, write_run

from setn_lab.compute.streams import generator
from setn_lab.config import to_json
from setn_lab.inspection import neighbours, reading, tables
from setn_lab.inspection.reading import InspectConfig
from setn_lab.inspection.retrained import COLUMN
from setn_lab.retrain import RetrainConfig
from setn_lab.runs.journal import read_journal
from setn_lab.space.genotype import Genotype
from setn_lab.space.names import label
from setn_lab.widgets import CandidatesInspector, ComparisonInspector, EvaluatorInspector, SamplingInspector

SAMPLES = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("widgets") / "run", nodes=2, candidates=60)


@pytest.fixture
def config(folder):
    return InspectConfig(run_dir=str(folder), samples=SAMPLES, seed=3)


def words(svg):
    """How often each text stands in a drawing."""
    found = (one.text for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("}text") and one.text)
    return Counter(text.replace("\xa0", " ").strip() for text in found)


def check_drawing(svg, genotype, caption):
    """The drawing holds exactly the genotype's operations, and the caption."""
    written = words(svg)
    operations = Counter(label(name) for _, cell, _ in genotype.cells for node in cell for name, _ in node)
    assert Counter({text: written[text] for text in operations}) == operations
    assert sum(operations.values()) == 8
    assert written[caption] == 1


# The evaluator


def seen(image, figure, ax, x, y):
    """The colour of a picture at a point of an axis, in the axis' own units."""
    across, up = ax.transData.transform((x, y))
    return image[int(figure.bbox.height - up), int(across)].tolist()


def check_shades(inspector, records, index, kind):
    """Each choice has the shade of its probability over uniform, on a scale up to the farthest of all epochs."""
    image, figure = read_png(inspector.image.value), inspector.pictures[kind].figure
    titled = {ax.get_title(): ax for ax in figure.axes}
    for name in "fgh":
        every = np.array([record[name][kind] for record in records])
        choices = (every > 0).sum(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            every = np.log2(every * choices)
        farthest = np.abs(every[np.isfinite(every)]).max()
        for node, p in enumerate(every[index]):
            word = f"$h$ of node {node}" if name == "h" else f"${name}$"
            (ax,) = (ax for title, ax in titled.items() if title.startswith(word))
            places = [(r2, r1) for r1 in range(6) for r2 in range(r1 + 1)]  # Eq. 8
            for number in range(len(p) if name == "h" else node + 2):
                x, y = places[number] if name == "h" else (number, node)
                shade = np.multiply(255, matplotlib.colormaps["PuOr"]((p[number] / farthest + 1) / 2)[:3])
                assert seen(image, figure, ax, x, y) == pytest.approx(shade.tolist(), abs=3)  # an image has 256 levels


def check_evaluator(inspector, history, records, index, kind):
    assert inspector.image.value == inspector.png
    check_shades(inspector, records, index, kind)
    marks = [artist for artist in inspector.pictures[kind].moving if isinstance(artist, Line2D)]
    assert [set(mark.get_xdata()) for mark in marks] == [{index + 1}] * 3
    table = tables.preferences(history.at(index))[kind]
    for value in table.to_numpy().ravel().tolist():
        text = f"{value:.4g}" if isinstance(value, float) else html.escape(str(value), quote=False)
        assert f"<td>{text}</td>" in inspector.table.value
    assert inspector.message.value == ""


def test_the_evaluators_epoch_and_cell(config, folder):
    history = reading.read_history(folder)
    records = read_journal(folder / "evaluator.jsonl")
    inspector = EvaluatorInspector(config)
    slider, player = inspector.epochs.slider, inspector.epochs.player
    assert (slider.min, slider.max, slider.value, slider.disabled) == (1, 4, 4, False)
    assert (player.min, player.max, player.disabled) == (1, 4, False)
    check_evaluator(inspector, history, records, 3, 0)
    slider.value = 2
    check_evaluator(inspector, history, records, 1, 0)
    inspector.cell.value = 1
    check_evaluator(inspector, history, records, 1, 1)
    slider.value = 1
    check_evaluator(inspector, history, records, 0, 1)
    inspector.cell.value = 0
    check_evaluator(inspector, history, records, 0, 0)


@pytest.mark.parametrize("kind", [EvaluatorInspector, SamplingInspector])
def test_a_run_of_one_epoch(tmp_path, kind):
    run = write_run(tmp_path / "run", epochs=1, nodes=1)
    inspector = kind(InspectConfig(run_dir=str(run)))
    assert inspector.message.value == ""
    assert inspector.png.startswith(b"\x89PNG")
    slider = inspector.epochs.slider
    assert (slider.value, slider.disabled, inspector.epochs.player.disabled) == (1, True, True)
    assert slider.max > slider.min
    slider.value = slider.max  # which a browser could do all the same
    assert inspector.message.value == ""
    write_run(run, epochs=3, nodes=1)
    inspector.refresh()
    assert (slider.value, slider.max, slider.disabled) == (3, 3, False)


# The candidates


@pytest.fixture
def candidates(config):
    inspector = CandidatesInspector(config)
    assert inspector.message.value == ""
    return inspector


@pytest.fixture
def draws(candidates, monkeypatch):
    """Counts how often the candidates are drawn."""
    count, draw = [], candidates.draw
    monkeypatch.setattr(candidates, "draw", lambda: (count.append(1), draw()))
    return count


def check_picked(inspector, place):
    """Every part of the inspector shows the candidate at that place."""
    scored = inspector.scored
    genotype, winner = scored.genotypes[place], scored.genotypes[scored.winner]
    assert inspector.picked == place
    assert Genotype.from_json(inspector.copy_json.text) == genotype
    assert Genotype.from_darts(inspector.copy_text.text) == genotype
    for line, column in zip(inspector.picture.moving, ("accuracy [%]", "loss"), strict=True):
        assert set(line.get_xdata()) == {scored.table[column][place]}
    assert inspector.image.png == inspector.png
    image = read_png(inspector.png).astype(int)
    for ax, column in zip(inspector.picture.figure.axes, ("accuracy [%]", "loss"), strict=True):
        x0, y0, x1, y1 = (round(edge) for edge in ax.bbox.extents)
        inside = image[len(image) - y1 : len(image) - y0, x0:x1]
        orange = np.flatnonzero((inside[..., 0] - inside[..., 2] > 40).mean(0) > 0.9)
        expected = ax.transData.transform((scored.table[column][place], 0))[0] - x0
        assert orange.size
        assert np.abs(orange + 0.5 - expected).max() < 1.5
    if place == scored.winner:
        check_drawing(inspector.cells.value, genotype, "the winner")
        assert inspector.winner.value == ""
    else:
        rank = sum(loss <= scored.table["loss"][place] for loss in scored.table["loss"])
        check_drawing(inspector.cells.value, genotype, f"candidate of rank {rank}: thick where it differs")
        check_drawing(inspector.winner.value, winner, "the winner")
    assert inspector.message.value == ""


def test_at_first_the_winner_is_drawn(candidates):
    check_picked(candidates, candidates.scored.table["loss"].idxmin())


def test_a_click_on_a_bar_picks_its_best_candidate(candidates, draws):
    width, height = candidates.picture.figure.bbox.size
    for ax, column in zip(candidates.picture.figure.axes, ("accuracy [%]", "loss"), strict=True):
        values = candidates.scored.table[column]
        bounds = np.linspace(values.min(), values.max(), 31)
        counts = np.histogram(values, bounds)[0].tolist()
        for number in (counts.index(1), counts.index(max(counts))):
            low, high = bounds[number : number + 2]
            inside = [one for one, value in enumerate(values) if low <= value < high or high == value == values.max()]
            assert len(inside) == counts[number]
            x, y = ax.transData.transform(((low + high) / 2, 0.3))
            candidates.image.clicked = [float(x / width), float(1 - y / height)]
            best = min(inside, key=lambda one: candidates.scored.table["loss"][one])
            assert candidates.table.selected_rows == [best]
            check_picked(candidates, best)
            assert candidates.note.value.startswith(f"{column} {low:.4g} to {high:.4g}: {len(inside)} ")
            assert len(draws) == 1
            draws.clear()
    before = candidates.note.value, candidates.picked, candidates.png
    candidates.image.clicked = [0.0, 0.0]  # beside all bars
    assert (candidates.note.value, candidates.picked, candidates.png) == before
    assert not draws
    assert candidates.message.value == ""


def test_a_row_of_the_table_picks_its_candidate(candidates, draws):
    winner = candidates.scored.winner
    for place in (0, 11, winner, 5):
        if place == candidates.picked:
            continue
        candidates.table.selected_rows = [place]
        check_picked(candidates, place)
        assert candidates.note.value == ""
        assert len(draws) == 1
        draws.clear()
    candidates.table.selected_rows = []  # a second click on a row takes the choice back; the drawing stays
    check_picked(candidates, 5)
    candidates.table.selected_rows = [winner]
    check_picked(candidates, winner)


def test_the_table_has_a_row_a_candidate_in_the_order_of_their_draw(candidates):
    frame = candidates.table.df
    assert frame["rank"].tolist() == candidates.scored.table["rank"].tolist()
    np.testing.assert_allclose(frame["loss"], candidates.scored.table["loss"], atol=5e-5)


def test_the_neighbours_of_what_is_picked_stand_below_the_table(candidates, folder):
    for place in (candidates.scored.winner, 5):
        candidates.pick(place)
        found = neighbours.neighbours(folder, place)
        name = "the winner" if place == candidates.scored.winner else f"rank {candidates.scored.table['rank'][place]}"
        assert name in candidates.near.value
        assert candidates.near.value.count("<tr") == (len(found) + 1 if len(found) else 0)


def test_a_training_beside_the_search_is_a_column(tmp_path):
    folder = write_run(tmp_path / "run", nodes=1, candidates=4)
    inspector = CandidatesInspector(InspectConfig(run_dir=str(folder)))
    assert COLUMN not in inspector.table.df
    training = tmp_path / "training"
    training.mkdir()
    (training / "environment.json").write_text('{"kind": "retrain"}', encoding="utf-8")
    (training / "config.json").write_text(to_json(RetrainConfig(epochs=1)), encoding="utf-8")
    (training / "genotype.json").write_text(inspector.scored.genotypes[2].to_json(), encoding="utf-8")
    record = {"seed": 0, "epoch": 1, "test_error": 0.25, "test_loss": 1.0, "seconds": 1.0}
    write_journal(training / "metrics.jsonl", [record])
    old = inspector.table.children
    inspector.refresh_button.click()
    assert inspector.message.value == ""
    assert inspector.table.df[COLUMN].dropna().to_dict() == {2: 25.0}
    assert inspector.table.children != old
    inspector.table.children[0].selected_rows = [2]  # as the browser does
    assert inspector.picked == 2
    assert COLUMN in CandidatesInspector.figures(inspector.config)[1].data


def test_a_key_on_a_bar_clicks_on_it(candidates):
    for x, y, words_ in candidates.image.bars:
        candidates.image.clicked = [x, y, 1.0]
        assert candidates.note.value.startswith(words_)


# Sampling


def check_sampling(inspector, history, index, temperature, count, step):
    distributions = history.at(index).tempered(temperature)
    drawn = distributions.sample(generator(3, "inspector", step), count)
    image = read_png(inspector.png)
    for place, ax in enumerate(inspector.picture.figure.axes):
        slots = drawn[:, place // 2, :, 2 * (place % 2) : 2 * (place % 2) + 2].ravel()
        heights = [bar.get_height() for bar in ax.patches]
        np.testing.assert_allclose(heights, 100 * np.bincount(slots, minlength=len(heights)) / len(slots))
        for bar, height in zip(ax.patches, heights, strict=True):
            middle, top = ax.transData.transform((bar.get_x() + bar.get_width() / 2, height))
            column = image[: round(len(image) - ax.bbox.y0), int(middle)][-round(ax.bbox.height) :].astype(int)
            blue = (column[:, 2] - column[:, 0] > 60).sum()
            assert blue == pytest.approx(top - ax.bbox.y0, abs=2.5)  # the mark of uniform sampling may lie before it
    likely, text = tables.likeliest(distributions)
    assert inspector.text.value == text
    check_drawing(inspector.cells.value, likely, "the most likely architecture")
    assert inspector.image.value == inspector.png
    assert inspector.message.value == ""


def test_sampling_follows_its_controls(config, folder):
    history = reading.read_history(folder)
    inspector = SamplingInspector(config)
    check_sampling(inspector, history, 3, 1, SAMPLES, 0)
    pictures = [inspector.image.value]
    for control, value, expected in (
        (inspector.epochs.slider, 2, (1, 1, SAMPLES)),
        (inspector.temperature, 0.1, (1, 0.1, SAMPLES)),
        (inspector.temperature, 10.0, (1, 10, SAMPLES)),
        (inspector.count, 7, (1, 10, 7)),
    ):
        control.value = value
        check_sampling(inspector, history, *expected, 0)
        pictures.append(inspector.image.value)
    assert len(set(pictures)) == len(pictures)


def test_drawing_anew_is_a_function_of_the_step(config, folder):
    history = reading.read_history(folder)
    one, other = SamplingInspector(config), SamplingInspector(config)
    pictures = [one.image.value]
    for step in (1, 2):
        one.again.click()
        check_sampling(one, history, 3, 1, SAMPLES, step)
        pictures.append(one.image.value)
    assert len(set(pictures)) == 3
    assert other.image.value == pictures[0]
    other.again.click()
    assert other.image.value == pictures[1]
    one.temperature.value = 2.0
    one.temperature.value = 1.0
    assert one.image.value == pictures[2]


# Several runs


@pytest.fixture(scope="module")
def siblings(tmp_path_factory):
    """Nine runs beside one another."""
    parent = tmp_path_factory.mktemp("siblings")
    return [write_run(parent / f"run-{i}", epochs=2, candidates=3, seed=i, nodes=1) for i in range(9)]


def test_choosing_runs(siblings):
    inspector = ComparisonInspector(InspectConfig(run_dir=str(siblings[0]), compare=str(siblings[2])))
    assert [name for name, _ in inspector.chosen.options] == [f"run-{i}" for i in (0, 2, 1, 3, 4, 5, 6, 7, 8)]
    assert inspector.chosen.value == (str(siblings[0]), str(siblings[2]))
    assert all(text in inspector.table.value for text in ("seed", "run-0", "run-2"))
    before = inspector.image.value
    inspector.chosen.value = [str(one) for one in siblings[1:4]]
    assert inspector.image.value not in (b"", before)
    assert inspector.image.value == inspector.png
    assert all(text in inspector.table.value for text in ("run-1", "run-2", "run-3"))
    assert "run-0" not in inspector.table.value
    assert "channels" not in inspector.table.value  # in which they do not differ
    kept = inspector.image.value
    inspector.chosen.value = [str(one) for one in siblings[:8]]
    assert "8 runs given; at most 7" in inspector.message.value
    assert inspector.image.value == kept
    inspector.chosen.value = [str(one) for one in siblings[:7]]
    assert inspector.message.value == inspector.note.value == ""
    inspector.refresh()
    assert inspector.chosen.value == tuple(str(one) for one in siblings[:7])
    assert inspector.message.value == ""


def test_runs_that_cannot_be_read_are_named_and_the_others_shown(siblings, tmp_path):
    broken, young = write_run(tmp_path / "broken", nodes=1), write_run(tmp_path / "young", candidates=0, nodes=1)
    (broken / "metrics.jsonl").write_text("{\n{}\n", encoding="utf-8")
    given = [str(siblings[0]), str(broken), str(young), str(tmp_path / "nowhere")]
    inspector = ComparisonInspector(InspectConfig(run_dir=given[0], compare=",".join(given[1:])))
    assert inspector.message.value == ""
    notes = inspector.note.value.split("<br>")
    assert [path in note for path, note in zip(given[1:], notes, strict=True)] == [True] * 3
    assert inspector.png.startswith(b"\x89PNG")


def test_runs_of_one_name_are_told_apart(tmp_path):
    one, other = (write_run(tmp_path / place / "run", nodes=1, seed=seed) for seed, place in enumerate("ab"))
    inspector = ComparisonInspector(InspectConfig(run_dir=str(one), compare=str(other)))
    assert all(str(path) in inspector.table.value for path in (one, other))
    assert inspector.note.value == inspector.message.value == ""
