"""Inspectors of a run that grows, goes, is replaced or is yet to come: read again by hand, or followed."""

import asyncio
import shutil

import pytest
from references import opened
from written_run import write_journal, write_run

from setn_lab.runs.journal import read_journal
from setn_lab.runs.lock import take_lock
from setn_lab.widgets import (
    CandidatesInspector,
    ComparisonInspector,
    EvaluatorInspector,
    QuestionsInspector,
    RunInspector,
    SamplingInspector,
)

KINDS = [EvaluatorInspector, CandidatesInspector, SamplingInspector]


# The run changes


@pytest.mark.parametrize("kind", [EvaluatorInspector, SamplingInspector])
def test_the_slider_follows_a_run_that_grows_only_from_its_end(folder, kind):
    one = opened(kind, folder)
    slider, picture = one.epochs.slider, one.png
    write_run(folder, epochs=5, nodes=1)
    one.refresh_button.click()
    assert (slider.value, slider.max, one.epochs.player.max) == (5, 5, 5)
    assert one.png != picture
    slider.value = 3
    picture = one.png
    records = (folder / "evaluator.jsonl").read_text(encoding="utf-8")
    (folder / "evaluator.jsonl").write_text(
        records + records.splitlines()[0].replace('"epoch": 1', '"epoch": 6') + "\n", encoding="utf-8"
    )
    one.refresh_button.click()
    assert (slider.value, slider.max, one.epochs.player.max) == (3, 6, 6)
    assert kind is EvaluatorInspector or one.png == picture  # the entropies have one epoch more
    write_run(folder, epochs=2, nodes=1)  # another run in its place, which is shorter
    one.refresh_button.click()
    assert (slider.value, slider.max, one.epochs.player.max) == (2, 2, 2)
    assert one.message.value == ""


def test_a_question_without_an_answer_says_so_in_its_tab_and_the_others_are_answered(folder):
    scored = {path.name: path.read_bytes() for path in folder.glob("candidates*.jsonl")}
    for name in scored:
        (folder / name).unlink()
    one = opened(QuestionsInspector, folder)
    (said,) = one.answers[0].children
    assert "No candidate has been scored yet" in said.value
    assert not one.png
    one.tabs.selected_index = 2  # what changed, which asks for no candidates
    assert one.answers[2].children == (one.images[2],)
    assert bytes(one.images[2].value).startswith(b"\x89PNG")
    one.tabs.selected_index = 0
    for name, content in scored.items():
        (folder / name).write_bytes(content)
    one.refresh_button.click()
    assert one.answers[0].children == (one.images[0],)
    assert bytes(one.images[0].value).startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_deleted_leaves_its_picture_and_a_message(folder, kind):
    one = opened(kind, folder)
    picture = one.png
    kept = shutil.copytree(folder, folder.with_name("kept"))
    shutil.rmtree(folder)
    one.refresh_button.click()
    assert str(folder) in one.message.value
    assert "still shown" in one.message.value
    assert one.png == picture
    if kind is not CandidatesInspector:  # the controls go on with what was read
        one.epochs.slider.value = 1
        assert one.png != picture
        one.epochs.slider.value = 4
    shutil.move(kept, folder)
    one.refresh_button.click()
    assert one.message.value == ""
    assert one.png == picture


def test_a_comparison_names_a_run_that_was_deleted(folder):
    other = write_run(folder.with_name("other"), nodes=1, seed=1)
    one = opened(ComparisonInspector, folder, compare=str(other))
    assert "seed" in one.table.value
    shutil.rmtree(other)
    one.refresh_button.click()
    assert str(other) in one.note.value
    write_run(other, nodes=1, seed=1)
    one.refresh_button.click()
    assert one.note.value == one.message.value == ""
    assert "seed" in one.table.value


@pytest.mark.parametrize(("kind", "empty"), [*((kind, True) for kind in KINDS), (SamplingInspector, False)])
def test_an_inspector_may_be_there_before_its_run(tmp_path, kind, empty):
    folder = tmp_path / "run"
    if empty:
        folder.mkdir()
    one = opened(kind, folder)
    assert str(folder) in one.message.value
    assert ("config.json" in one.message.value) == empty
    assert "still shown" not in one.message.value
    assert one.png == b""
    write_run(folder, nodes=1)
    one.refresh_button.click()
    assert one.message.value == ""
    assert one.png == opened(kind, folder).png != b""
    assert one.body.children


def test_a_picked_candidate_stays_picked(folder):
    one = opened(CandidatesInspector, folder)
    place = (one.scored.winner + 1) % 6
    one.table.selected_rows = [place]
    before = one.copy_json.text
    journal = folder / "candidates.jsonl"
    journal.write_text(
        journal.read_text(encoding="utf-8")
        + (write_run(folder.with_name("x"), nodes=1) / journal.name).read_text(encoding="utf-8"),
        encoding="utf-8",
    )
    one.refresh_button.click()
    assert len(one.table.df) == 18
    assert (one.picked, one.table.selected_rows, one.copy_json.text) == (place, [place], before)
    assert one.message.value == ""


def test_candidates_that_became_fewer(folder):
    one = opened(CandidatesInspector, folder)
    one.table.selected_rows = [5]
    write_run(folder, nodes=1, candidates=2, seed=1)  # another run in its place
    one.refresh_button.click()
    assert one.message.value == ""
    assert one.copy_json.text in [genotype.to_json() for genotype in one.scored.genotypes]


def test_the_first_candidate_with_a_finite_loss_is_drawn(folder):
    journal = folder / "candidates.jsonl"
    whole = journal.read_text(encoding="utf-8")
    journal.write_text(whole.replace('"loss": ', '"loss": NaN, "was": '), encoding="utf-8")
    (folder / "genotype.json").unlink()
    one = opened(CandidatesInspector, folder)
    assert one.message.value == one.cells.value == ""
    journal.write_text(whole, encoding="utf-8")
    one.refresh_button.click()
    assert one.scored.winner is not None
    assert "<svg" in one.cells.value


def test_refreshing_with_no_run_chosen(folder):
    one = opened(ComparisonInspector, folder)
    one.chosen.value = ()
    assert "No run is chosen" in one.message.value
    one.refresh_button.click()
    assert "No run is chosen" in one.message.value
    one.chosen.value = [str(folder)]
    assert one.message.value == ""


# Following


def follow(one, act):
    """Run `act` while the inspector follows its run, then stop; nothing that was started is left."""

    async def main():
        one.follow.value = True
        try:
            await act()
        finally:
            one.follow.value = False
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", [EvaluatorInspector, SamplingInspector])
def test_following_shows_the_newest_epoch_and_reads_only_what_has_changed(folder, monkeypatch, kind):
    one = opened(kind, folder)
    one.pause = 0.01
    loads, load = [], one.load
    monkeypatch.setattr(one, "load", lambda: (loads.append(1), load()))
    slider = one.epochs.slider
    slider.value = 1

    async def grow():
        await until(lambda: slider.value == 4)  # at once
        await asyncio.sleep(0.05)
        assert len(loads) == 1
        picture = one.png
        for epoch in (5, 6):
            write_run(folder, epochs=epoch, nodes=1)
            await until(lambda last=epoch: slider.value == last)
            await asyncio.sleep(0.05)
            assert picture != one.png == opened(kind, folder).png
            picture = one.png
            slider.value = 2  # which a browser also does by itself, where it cuts a value to old bounds
        assert len(loads) <= 5  # a look may fall between two files of the run

    follow(one, grow)
    assert one.message.value == ""
    write_run(folder, epochs=7, nodes=1)
    asyncio.run(asyncio.sleep(0.05))
    assert (slider.value, slider.max) == (2, 6)
    follow(one, lambda: until(lambda: slider.value == slider.max == 7))  # and again


def test_a_browser_learns_the_bounds_before_the_value(folder):
    """It hands a value from the player to the slider, which cuts it to the bounds that it knows and sends it back."""
    one = opened(EvaluatorInspector, folder)
    slider, player = one.epochs.slider, one.epochs.player
    seen = []
    player.observe(lambda change: seen.append(("player", change["name"])), ["max", "value"])
    slider.observe(lambda change: seen.append(("slider", change["name"])), ["max", "value"])
    write_run(folder, epochs=5, nodes=1)
    one.refresh()
    assert [name for _, name in seen] == ["max", "max", "value", "value"]  # of both
    write_run(folder, epochs=7, nodes=1)
    records = (folder / "evaluator.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "evaluator.jsonl").write_text("".join(records[5:]), encoding="utf-8")
    one.refresh()
    assert (slider.min, slider.max, slider.value) == (6, 7, 7)
    (folder / "evaluator.jsonl").write_text("".join(records[:3]), encoding="utf-8")
    one.refresh()
    assert (slider.min, slider.max, slider.value, one.message.value) == (1, 3, 3, "")


def test_the_best_candidate_stays_picked_until_there_is_a_better_one(folder):
    one = opened(CandidatesInspector, folder)
    (folder / "genotype.json").unlink()
    records = read_journal(folder / "candidates.jsonl")
    best = min(record["loss"] for record in records)
    write_journal(folder / "candidates.jsonl", [*records, {**records[0], "loss": best - 1}])
    one.refresh()
    assert one.picked == len(records) == one.scored.winner
    one.pick(0)
    write_journal(folder / "candidates.jsonl", [*records, {**records[0], "loss": best - 2}])
    one.refresh()
    assert one.picked == 0


def test_the_run_that_is_shown_is_named_and_its_end_is_noticed(folder):
    config = folder / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"epochs": 4', '"epochs": 9'), encoding="utf-8")
    one = opened(RunInspector, folder)
    one.pause = 0.01
    lock = take_lock(folder, 0)
    one.refresh()
    texts = [folder.name, "running at epoch 4 of 9", "digits", "nodes = 1", "seed = 0", "loss"]
    assert [text for text in texts if text not in one.table.value] == []

    async def end():
        lock.free()
        await until(lambda: "interrupted at epoch 4 of 9" in one.table.value)

    follow(one, end)
    assert one.message.value == ""


def test_what_following_finds_wrong_stays_written(folder):
    one = opened(EvaluatorInspector, folder)
    one.pause = 0.01

    async def delete():
        shutil.rmtree(folder)
        await asyncio.sleep(0.1)
        assert str(folder) in one.message.value
        write_run(folder, epochs=5, nodes=1)
        await until(lambda: one.epochs.slider.max == 5)
        assert one.message.value == ""

    follow(one, delete)


def test_following_before_the_run_is_there(tmp_path):
    one = opened(EvaluatorInspector, tmp_path / "run")
    one.pause = 0.01

    async def begin():
        await asyncio.sleep(0.05)
        write_run(tmp_path / "run", nodes=1)
        await until(lambda: one.loaded)

    follow(one, begin)
    assert one.message.value == ""
