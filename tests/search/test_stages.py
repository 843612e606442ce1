"""A run knows what it is made of: nothing stale is taken, nothing that is the same is made again.

Each case was brought by somebody: what they did to the folder, the images or the kernel, and what must come of it.
"""

import json
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from references import TINY, StopError, write_folder

from setn_lab import listing
from setn_lab.config import ConfigError
from setn_lab.data.folders import DataError
from setn_lab.runs import checkpoint
from setn_lab.runs.errors import RunError
from setn_lab.runs.run import Run, default_folder
from setn_lab.search import candidates as module
from setn_lab.search import report, steps
from setn_lab.search.candidates import score, search_candidates
from setn_lab.search.config import SearchConfig, read_config
from setn_lab.search.setup import prepare_search
from setn_lab.search.stages import stages
from setn_lab.search.training import SearchError, train
from setn_lab.widgets import comparison

SMALL = {**TINY, "nodes": 1, "baseline_candidates": 3}
IMAGES = {**SMALL, "limit_train": None, "limit_valid": None, "batch_size": 4, "epochs": 2, "flip": False}


@pytest.fixture
def folder_of_images(tmp_path):
    return write_images(tmp_path / "images")


def write_images(folder):
    write_folder(folder, {"a": 12, "b": 12}, size=8)
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def take(folder, config):
    """A copy of a run folder at the config's place, as if it had been made there."""
    target = Path(config.run_dir) if config.run_dir else default_folder(config, "search")
    shutil.copytree(folder, target)
    made = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for path in target.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        for name in ("dataset", "run_dir"):
            text = text.replace(json.dumps(made[name]), json.dumps(getattr(config, name)))
        path.write_text(text, encoding="utf-8")
    return target


def trained(config):
    """Prepare and train as the notebook's cells do; the search and its folder."""
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
    with Run.open(config, "search") as run:
        train(search, run)
    return search, run.folder


def searched(config):
    search, _ = trained(config)
    with Run.open(config, "search") as run:
        search_candidates(search, run)
    return run.folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of a finished search of SMALL; a test takes copies of it."""
    return searched(SearchConfig(**SMALL, run_dir=str(tmp_path_factory.mktemp("small") / "run")))


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """The same of a training of one epoch."""
    config = SearchConfig(**{**SMALL, "epochs": 1}, run_dir=str(tmp_path_factory.mktemp("one_epoch") / "run"))
    return searched(config)


@pytest.fixture(scope="module")
def copied(small):
    """copied(config): the finished search of SMALL at the config's place, opened there once, as if made there."""

    def copied(config):
        folder = take(small, config)
        assert searched(config) == folder
        return folder

    return copied


def stop_after(epoch, steps_an_epoch=2):
    """An observer like the stop button, in the middle of an epoch."""

    def observe(progress):
        if progress.phase == "train" and progress.done > epoch * steps_an_epoch and progress.record is None:
            raise StopError

    return observe


# Which weights score


def test_an_untrained_or_unfinished_template_scores_nothing(tmp_path):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path))
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        for epochs in (0, 1):
            if epochs:
                with pytest.raises(StopError):
                    train(search, run, stop_after(epochs))
            for call in (search_candidates, lambda *both: score(*both, "uniform", 3, "baseline")):
                with pytest.raises(SearchError, match=f"{epochs} of 3 epochs are trained"):
                    call(search, run)
        assert not list(run.folder.glob("candidates*")) + list(run.folder.glob("baseline*"))
        assert not (run.folder / "genotype.json").exists()


def test_a_new_kernel_scores_what_is_trained(tmp_path, small, outcome):
    """The cells parameters, prepare and candidates, without the one between them."""
    shutil.copytree(small, tmp_path / "new")
    for path in ("candidates.jsonl", "baseline.jsonl", "genotype.json"):
        (tmp_path / "new" / path).unlink()
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "new"))
    with Run.open(config, "search") as run:
        search_candidates(prepare_search(config, run), run)
    assert outcome(tmp_path / "new") == outcome(small)
    for path in ("candidates.jsonl", "baseline.jsonl"):
        assert (tmp_path / "new" / path).read_bytes() == (small / path).read_bytes()


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_training_cell_after_the_stop_button_goes_on_as_a_killed_run(tmp_path, small, outcome, epoch):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "stopped"))
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        with pytest.raises(StopError):
            train(search, run, stop_after(epoch))
        train(search, run)
        search_candidates(search, run)
    assert outcome(tmp_path / "stopped") == outcome(small)


def test_a_disk_that_is_full_at_the_first_checkpoint(tmp_path, small, outcome, monkeypatch):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "full"))

    def refuse(*arguments):
        raise checkpoint.CheckpointError("no space left")

    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", refuse)
            with pytest.raises(checkpoint.CheckpointError):
                train(search, run)
        train(search, run)
        search_candidates(search, run)
    assert outcome(tmp_path / "full") == outcome(small)


# Which images


CHANGES = {
    "added": (lambda images: write_folder(images, {"c": 2}, size=8, seed=5), ["c only here"]),
    "removed": (lambda images: (images / "train" / "b" / "003.png").unlink(), ["b 12 there, 11 here"]),
    "renamed class": (lambda images: (images / "train" / "b").rename(images / "train" / "z"), ["b only there", "z"]),
    "replaced": (
        lambda images: shutil.copy(images / "train" / "a" / "000.png", images / "train" / "b" / "001.png"),
        ["other content"],
    ),
}


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    """Run folders on the images of `write_images`: of a finished search, and of one in its second epoch."""
    place = tmp_path_factory.mktemp("of_images")
    config = SearchConfig(
        **{**IMAGES, "dataset": str(write_images(place / "images"))}, run_dir=str(place / "unfinished")
    )
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        with pytest.raises(StopError):
            train(search, run, stop_after(1, search.steps))
    shutil.copytree(run.folder, place / "finished")
    searched(replace(config, run_dir=str(place / "finished")))
    return place


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_images_that_have_changed_are_refused(runs, tmp_path, folder_of_images, of_images, change, named, finished):
    config = SearchConfig(
        **{**IMAGES, "dataset": str(folder_of_images)}, run_dir=str(tmp_path / "x") if named else None
    )
    take(of_images / ("finished" if finished else "unfinished"), config)
    with Run.open(config, "search") as run:
        assert run.resumed
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    alter, words = CHANGES[change]
    alter(folder_of_images)
    with pytest.raises(RunError, match="has changed since") as caught:
        Run.open(config, "search")
    for word in [*words, str(run.folder), "dataset", "run_dir"]:
        assert word in str(caught.value)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    assert not runs.exists() or [path for path in runs.iterdir() if path != run.folder] == []
    fresh = replace(config, run_dir=str(tmp_path / "fresh"))
    Run.open(fresh, "search").close()


def test_images_that_are_put_back_go_on(runs, folder_of_images):
    config = SearchConfig(**{**IMAGES, "dataset": str(folder_of_images)})
    folder = searched(config)
    moved = folder_of_images.with_name("away")
    (folder_of_images / "train" / "b").rename(moved)
    write_folder(folder_of_images, {"b": 3}, size=8, seed=7)
    with pytest.raises(RunError, match="has changed"):
        Run.open(config, "search")
    shutil.rmtree(folder_of_images / "train" / "b")
    moved.rename(folder_of_images / "train" / "b")
    with Run.open(config, "search") as run:
        assert run.folder == folder


def test_two_folders_of_the_same_relative_path_are_two_runs(runs, tmp_path, monkeypatch):
    found = []
    for number, project in enumerate(("one", "two")):
        write_folder(tmp_path / project / "images", {"a": 9, "b": 9}, size=8, seed=number)
        monkeypatch.chdir(tmp_path / project)
        with Run.open(SearchConfig(**{**IMAGES, "dataset": "images"}), "search") as run:
            assert not run.resumed
            found.append(run.folder)
    assert found[0] != found[1]


def test_another_spelling_and_another_place_are_the_same_run(runs, tmp_path, folder_of_images, monkeypatch):
    config = SearchConfig(**{**IMAGES, "dataset": str(folder_of_images)})
    folder = default_folder(config, "search")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(folder_of_images)
    for text in ("images", "./images", "images/", str(tmp_path / "x" / ".." / "images"), "link"):
        if ".." in text:
            (tmp_path / "x").mkdir(exist_ok=True)
        assert default_folder(replace(config, dataset=text), "search") == folder
    Run.open(config, "search").close()
    shutil.copytree(folder_of_images, tmp_path / "other machine" / "pictures")
    shutil.rmtree(folder_of_images)
    with Run.open(replace(config, dataset=str(tmp_path / "other machine" / "pictures")), "search") as run:
        assert run.folder == folder
        assert run.resumed


# What is made again, and what is not


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": 9},
        {"candidates": 3},
        {"candidate_source": "uniform"},
        {"candidate_source": "argmax"},
        {"candidate_source": "evolution"},
        {"candidate_source": "refit"},
        {"select_by": "accuracy"},
        {"scoring_batch_size": 10},
        {"scoring": "racing"},
        {"batch_norm": "recalibrated"},
        {"baseline_candidates": 5},
    ],
)
def test_another_way_to_choose_trains_nothing_and_ends_as_a_clean_run(
    runs, tmp_path, one_epoch, outcome, monkeypatch, changes
):
    values = {**SMALL, "epochs": 1}
    config = SearchConfig(**values)
    folder = take(one_epoch, config)
    clean = searched(SearchConfig(**{**values, **changes}, run_dir=str(tmp_path / "clean")))
    monkeypatch.setattr(steps.Trainer, "weight_step", lambda *_: pytest.fail("trained again"))
    other = SearchConfig(**{**values, **changes})
    assert searched(other) == folder
    assert outcome(folder) == outcome(clean)
    for name in ("candidates.jsonl", "baseline.jsonl", "genotype.json"):
        assert (folder / name).read_bytes() == (clean / name).read_bytes()
    assert searched(config) == folder
    assert default_folder(other, "search") == folder


def test_what_was_scored_is_not_scored_again(runs, copied, monkeypatch):
    copied(SearchConfig(**SMALL))
    asked = []
    real = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda search, some: asked.extend(some) or real(search, some))
    for changes in ({"select_by": "accuracy"}, {"candidates": 2, "baseline_candidates": 0}, {}):
        searched(SearchConfig(**{**SMALL, **changes}))
    known = len(asked)
    searched(SearchConfig(**{**SMALL, "candidates": 30}))
    assert len(asked) - known > 0
    again = len(asked)
    searched(SearchConfig(**{**SMALL, "candidates": 30, "select_by": "accuracy"}))
    searched(SearchConfig(**SMALL))
    assert len(asked) == again


def test_the_winner_of_other_candidates_is_gone_while_these_are_scored(tmp_path, copied, monkeypatch):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"))
    folder = copied(config)
    monkeypatch.setattr(module, "evaluate", lambda *_: (_ for _ in ()).throw(StopError))
    with pytest.raises(StopError):
        searched(replace(config, candidates=200))
    assert not (folder / "genotype.json").exists()
    assert not (folder / "candidates.jsonl").exists()
    assert (folder / "candidates-1.jsonl").exists()


def test_a_stage_depends_on_its_own_parameters_and_those_before(folder_of_images):
    base = SearchConfig(**{**IMAGES, "dataset": str(folder_of_images)})
    first = stages(base)
    cases = {
        "template": {"weight_lr": 0.5, "seed": 3, "epochs": 9, "strategy": "setn-lr", "image_size": 4},
        "evaluator": {"evaluator_lr": 0.5, "evaluator_epochs": 2, "cost_weight": 1.0},
        "candidates": {"candidates": 77, "candidate_source": "uniform", "select_by": "accuracy"},
    }
    for number, (_, changes) in enumerate(cases.items()):
        for name, value in changes.items():
            other = stages(replace(base, **{name: value}))
            assert other[:number] == first[:number], name
            assert all(a != b for a, b in zip(other[number:3], first[number:3], strict=True)), name
    assert stages(replace(base, scoring_batch_size=3)).scores != first.scores
    assert stages(replace(base, candidates=77, evaluator_lr=0.5)).scores == first.scores
    non, changed = (
        stages(replace(base, strategy="setn-non", evaluator_lr=value)) for value in (base.evaluator_lr, 0.5)
    )
    assert non.template != changed.template  # its weights are trained through the evaluator
    write_folder(folder_of_images, {"c": 1}, size=8, seed=3)
    assert all(a != b for a, b in zip(stages(base), first, strict=True))


# The evaluator on a finished template


def test_an_evaluator_goes_on_alone_after_the_template(tmp_path):
    joint = SearchConfig(**SMALL, run_dir=str(tmp_path / "joint"))
    longer = replace(joint, evaluator_epochs=2, run_dir=str(tmp_path / "longer"))
    first, _ = trained(joint)
    search, _ = trained(longer)
    for name, value in first.template.state_dict().items():
        assert value.equal(search.template.state_dict()[name])
    with Run.open(longer, "search") as run:
        lines, epochs = run.read("metrics"), run.read("evaluator")
    assert [line["epoch"] for line in lines] == [line["epoch"] for line in epochs] == [1, 2, 3, 4, 5]
    assert [line["weight_loss"] is None for line in lines] == [False] * 3 + [True] * 2
    assert all(line["evaluator_loss"] > 0 for line in lines)
    assert epochs[2] != {**epochs[4], "epoch": 3}


def test_a_template_is_taken_from_another_run_and_trained_once(tmp_path, monkeypatch, outcome):
    joint = SearchConfig(**SMALL, run_dir=str(tmp_path / "joint"))
    first, folder = trained(joint)
    monkeypatch.setattr(steps.Trainer, "weight_step", lambda *_: pytest.fail("trained again"))
    taken = replace(joint, template_run=str(folder), evaluator_epochs=3, evaluator_lr=0.1)
    whole = replace(taken, run_dir=str(tmp_path / "whole"))
    searched(whole)
    assert stages(whole).template == stages(joint).template
    assert stages(whole).evaluator != stages(joint).evaluator
    _, state = checkpoint.load_latest(tmp_path / "whole" / "checkpoints")
    for name, value in first.template.state_dict().items():
        assert value.equal(state["template"][name])
    stopped = replace(taken, run_dir=str(tmp_path / "stopped"))
    with Run.open(stopped, "search") as run:
        search = prepare_search(stopped, run)
        with pytest.raises(StopError):
            train(search, run, stop_after(4))
        assert [line["epoch"] for line in run.read("metrics")] == [3, 4]  # the taken template's, and the first alone
    searched(stopped)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_a_template_taken_through_a_link_is_the_same_run(runs, tmp_path, small):
    source, link = tmp_path / "source", tmp_path / "link"
    shutil.copytree(small, source)
    link.symlink_to(source)
    values = {**SMALL, "candidate_source": "uniform"}
    direct, linked = (SearchConfig(**values, template_run=str(path)) for path in (source, link))
    folder = searched(direct)
    assert default_folder(linked, "search") == folder
    named = searched(replace(direct, run_dir=str(tmp_path / "named")))
    shutil.rmtree(source)  # what was taken is in the run, by either name
    for config in (direct, linked):
        with Run.open(replace(config, run_dir=str(named)), "search") as run:
            assert run.resumed


def test_a_search_that_took_a_template_needs_its_source_no_more(tmp_path, outcome):
    _, folder = trained(SearchConfig(**SMALL, run_dir=str(tmp_path / "joint")))
    taken = SearchConfig(**SMALL, template_run=str(folder), evaluator_epochs=2, run_dir=str(tmp_path / "whole"))
    searched(taken)
    stopped = replace(taken, run_dir=str(tmp_path / "stopped"))
    with Run.open(stopped, "search") as run, pytest.raises(StopError):
        train(prepare_search(stopped, run), run, stop_after(4))
    shutil.rmtree(folder)
    assert outcome(searched(read_config(tmp_path / "stopped"))) == outcome(tmp_path / "whole")
    assert searched(replace(taken, candidates=4)) == tmp_path / "whole"  # other candidates, of the same template
    with pytest.raises(ConfigError, match=r"template_run: .* does not exist"):
        searched(replace(taken, run_dir=str(tmp_path / "new")))
    shutil.rmtree(tmp_path / "stopped" / "checkpoints")
    with pytest.raises(ConfigError, match=r"template_run: .* does not exist"):
        searched(stopped)


def test_a_template_that_cannot_be_taken_says_why(tmp_path):
    joint = SearchConfig(**SMALL, run_dir=str(tmp_path / "joint"))
    taken = replace(joint, template_run=str(tmp_path / "joint"), evaluator_epochs=1, run_dir=str(tmp_path / "taken"))
    with pytest.raises(ConfigError, match=r"template_run: .* does not exist"):
        Run.open(taken, "search")
    with Run.open(joint, "search") as run:
        search = prepare_search(joint, run)
        with pytest.raises(StopError):
            train(search, run, stop_after(1))
    with pytest.raises(ConfigError, match=r"template_run: .* training is not over"):
        Run.open(taken, "search")
    trained(joint)
    other = replace(taken, weight_lr=0.5)
    with pytest.raises(ConfigError, match=r"template_run: .*\n  weight_lr: 0.025 there, 0.5 here"):
        trained(other)
    with pytest.raises(ConfigError, match="evaluator_epochs: 0 given with template_run"):
        replace(taken, evaluator_epochs=0)
    with pytest.raises(ConfigError, match=r"template_run: .* 'setn-non'"):
        replace(taken, strategy="setn-non")
    uniform = replace(taken, evaluator_epochs=0, candidate_source="uniform", run_dir=str(tmp_path / "uniform"))
    assert (searched(uniform) / "genotype.json").exists()


def test_a_template_whose_checkpoint_is_gone_is_not_taken(tmp_path):
    """Damaged, so that the one before it would be taken; or deleted, and trained again for an epoch."""
    joint = SearchConfig(**SMALL, run_dir=str(tmp_path / "joint"))
    _, folder = trained(joint)
    taken = replace(joint, template_run=str(folder), evaluator_epochs=1, run_dir=str(tmp_path / "taken"))
    newest = sorted((folder / "checkpoints").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="bad checkpoint"), pytest.raises(ConfigError, match="no checkpoint of the"):
        trained(taken)
    shutil.rmtree(folder / "checkpoints")
    with Run.open(joint, "search") as run, pytest.raises(StopError):
        train(prepare_search(joint, run), run, stop_after(1))
    with pytest.raises(ConfigError, match="its training is not over"):
        trained(replace(taken, run_dir=str(tmp_path / "again")))


def test_a_search_without_any_epoch_of_its_own_is_finished_and_reported(tmp_path):
    folder = searched(SearchConfig(**SMALL, run_dir=str(tmp_path / "joint")))
    config = SearchConfig(**{**SMALL, "candidate_source": "uniform"}, template_run=str(folder))
    found = searched(replace(config, run_dir=str(tmp_path / "uniform")))
    states = {row[0]: row[3] for row in listing.listing(tmp_path)}
    assert states["uniform"] == "finished"
    assert report.write(found, tmp_path / "page").exists()
    _, text, problems = comparison._compare([folder, found])
    assert "uniform" in text
    assert problems == []


# One folder, other candidates


@pytest.mark.parametrize("other", [{"candidates": 4}, {"select_by": "accuracy", "baseline_candidates": 5}])
@pytest.mark.parametrize("moment", range(4))
def test_back_after_a_killed_scoring_of_other_candidates(tmp_path, copied, outcome, monkeypatch, other, moment):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"))
    folder = copied(config)
    before = outcome(folder), *files(folder), (folder / "config.json").read_bytes()
    writes = []
    real = Run.write

    def dying(self, name, content):
        writes.append(name)
        if len(writes) > moment:
            raise StopError
        return real(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write", dying)
        with pytest.raises(StopError):
            searched(replace(config, **other))
    state = {row[0]: row[3] for row in listing.listing(tmp_path)}["run"]
    assert state == "finished" or "scored" in state
    searched(config)
    assert (outcome(folder), *files(folder), (folder / "config.json").read_bytes()) == before


def test_a_baseline_of_another_setting_is_put_aside(tmp_path, copied):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"))
    folder = copied(config)
    searched(replace(config, baseline_candidates=0, scoring_batch_size=7))
    assert not (folder / "baseline.jsonl").exists()
    assert (folder / "baseline-1.jsonl").exists()


def test_sizes_and_drawing_of_a_former_winner_do_not_stay(tmp_path, copied):
    config = SearchConfig(**SMALL, run_dir=str(tmp_path / "run"))
    folder = copied(config)
    report.save(report.SearchRun.read(folder))
    assert (folder / "cells.svg").exists()
    searched(replace(config, candidates=2))
    assert not (folder / "sizes.json").exists()
    assert not (folder / "cells.svg").exists()


def test_candidates_under_another_evaluator_of_the_same_template_are_written_again(tmp_path):
    """A study's journal: the scores are the template's, and the log-probabilities the evaluator's."""
    joint = SearchConfig(**SMALL, run_dir=str(tmp_path / "joint"))
    first, folder = trained(joint)
    other = replace(joint, template_run=str(folder), evaluator_epochs=3, evaluator_lr=0.5, run_dir=str(tmp_path / "o"))
    second, _ = trained(other)
    with Run.open(replace(joint, run_dir=str(tmp_path / "study")), "study") as run:
        for search in (first, second, first):
            scored = score(search, run, "uniform", 4, "scored")
            expected = search.evaluator.distributions().log_probability(
                np.stack([search.space.encode(one.genotype) for one in scored])
            )
            assert [line["log_probability"] for line in run.read("scored")] == pytest.approx(list(expected))


# Damage and confusion


@pytest.mark.parametrize("text", ["{", "[]", '{"parameters": "x", "contents": [], "products": {}}', "{}"])
def test_a_damaged_identity_is_named_and_nothing_is_written(runs, tmp_path, folder_of_images, text):
    config = SearchConfig(**{**IMAGES, "dataset": str(folder_of_images)}, run_dir=str(runs / "search-mine"))
    folder = searched(config)
    whole = (folder / "identity.json").read_text(encoding="utf-8")
    (folder / "identity.json").write_text(text, encoding="utf-8")
    (folder_of_images / "train" / "b" / "003.png").unlink()
    with pytest.raises(RunError, match=r"identity\.json is damaged"):
        Run.open(config, "search")
    assert (folder / "identity.json").read_text(encoding="utf-8") == text
    Run.open(replace(config, run_dir=None), "search").close()  # a neighbour holds up nobody
    (folder / "identity.json").write_text(whole, encoding="utf-8")
    with pytest.raises(RunError, match="b 12 there, 11 here"):
        Run.open(config, "search")


def test_a_run_of_another_search_is_refused(tmp_path, folder_of_images):
    one = SearchConfig(**SMALL, run_dir=str(tmp_path / "one"))
    other = replace(one, seed=7, run_dir=str(tmp_path / "other"))
    search, _ = trained(one)
    with Run.open(other, "search") as run:
        for call in (train, search_candidates):
            with pytest.raises(RunError, match="seed: 7 there, 0 here"):
                call(search, run)
        with pytest.raises(RunError, match="seed: 7 there, 0 here"):
            prepare_search(one, run)
        assert not run.checkpoints.exists()
    config = SearchConfig(**{**IMAGES, "dataset": str(folder_of_images)}, run_dir=str(tmp_path / "images run"))
    with Run.open(config, "search") as run:
        (folder_of_images / "train" / "b" / "003.png").unlink()
        with pytest.raises(RunError, match="the images have changed in between"):
            prepare_search(config, run)


def test_links_in_a_circle_end(tmp_path, folder_of_images):
    for name in ("a", "b"):
        (folder_of_images / "train" / name / "link").symlink_to(folder_of_images / "train")
    with pytest.raises(DataError):
        Run.open(SearchConfig(**{**IMAGES, "dataset": str(folder_of_images)}, run_dir=str(tmp_path / "x")), "search")


# Whatever people do


CELLS = ["prepare", *2 * ["train"], *3 * ["candidates"], *2 * ["train and stop"], "restart", "kill"]


SHORT = {**SMALL, "epochs": 2, "evaluator_start": 1}
SETTINGS = [SHORT, {**SHORT, "candidates": 9}, {**SHORT, "seed": 1}]


@pytest.fixture(scope="module")
def clean(tmp_path_factory, outcome):
    """What a clean run of each of the settings comes to."""
    place = tmp_path_factory.mktemp("clean")
    folders = [searched(SearchConfig(**SETTINGS[number], run_dir=str(place / f"{number}"))) for number in range(3)]
    return [(outcome(folder), *files(folder)) for folder in folders]


@pytest.mark.parametrize("first", [0, 25])
def test_cells_in_any_order_with_interrupts_restarts_and_kills(
    tmp_path, clean, outcome, monkeypatch, fork_server, first
):
    """Fifty sequences; whatever ends without an error equals a clean run of its own parameters, bit for bit."""
    ended = 0
    for sequence in range(first, first + 25):
        rng = random.Random(sequence)
        monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / f"runs-{sequence}"))
        kernel: dict[str, object] = {}
        for _ in range(rng.randint(4, 9)):
            cell = rng.choice(CELLS)
            number = kernel.setdefault("settings", rng.randrange(len(SETTINGS)))
            config = SearchConfig(**SETTINGS[number])
            if cell in ("restart", "kill"):
                kernel.clear()
                if cell == "kill":
                    killed(fork_server, SETTINGS[number], rng.randrange(8))
                continue
            try:
                with Run.open(config, "search", lock_wait=0) as run:
                    if cell == "prepare" or "search" not in kernel:
                        kernel["search"] = prepare_search(config, run)
                    if cell.startswith("train"):
                        observe = stop_after(rng.randrange(2)) if "stop" in cell else lambda progress: None
                        train(kernel["search"], run, observe)
                    elif cell == "candidates":
                        search_candidates(kernel["search"], run)
                        ended += 1
                        assert (outcome(run.folder), *files(run.folder)) == clean[number]
            except (SearchError, StopError):
                continue
    assert ended > 12


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("candidates.jsonl", "baseline.jsonl", "genotype.json")]


def killed(fork_server, values: dict, left: int) -> None:
    """Train and score in a process of its own, which is killed as it writes, unless it ends before."""
    process = fork_server.Process(target=dies, args=(values, os.environ["SETN_LAB_RUNS"], left))
    process.start()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)


def dies(values: dict, root: str, left: int) -> None:
    """In that process: after so many lines of journals, half of one more is written."""
    os.environ["SETN_LAB_RUNS"] = root
    torch.set_num_threads(1)
    real = Run.append

    def dying(self: Run, journal: str, record: dict) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            line = json.dumps(record)
            with (self.folder / f"{journal}.jsonl").open("a", encoding="utf-8") as file:
                file.write(line[: len(line) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, journal, record)

    Run.append = dying
    config = SearchConfig(**values)
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        train(search, run)
        search_candidates(search, run)
