"""A run folder as the version before the folders wrote it: written-before/, its checkpoint as names and shapes."""

import hashlib
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest

from setn_lab.config import ConfigError, build, completed
from setn_lab.inspection import pictures, reading
from setn_lab.runs import Run, RunError
from setn_lab.runs.checkpoint import load_latest
from setn_lab.runs.run import default_folder
from setn_lab.search import SearchConfig, prepare_search, report, train
from setn_lab.search.candidates import score, search_candidates
from setn_lab.search.journals import known_scores
from setn_lab.search.steps import Trainer
from setn_lab.search.template_config import TemplateConfig
from setn_lab.studies.ablation import AblationConfig

BEFORE = Path(__file__).parent / "written-before"


def config_of(folder):
    stored = completed(SearchConfig, json.loads((BEFORE / "config.json").read_text(encoding="utf-8")))
    return build(SearchConfig, {**stored, "run_dir": str(folder)})


def shapes(state):
    """Names, types and shapes of tensors, as the folder's checkpoint.json has them."""
    return {name: [str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in state.items()}


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(BEFORE, copy)
    (copy / "checkpoint.json").unlink()
    (copy / "lock").touch()
    return copy


def test_the_inspectors_show_it(folder):
    history, scored = reading.read_history(folder), reading.read_candidates(folder)
    assert history.epochs.tolist() == [1, 2, 3]
    assert scored.chosen
    losses = [
        json.loads(line)["loss"] for line in (BEFORE / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert scored.table["loss"].tolist() == losses
    assert scored.winner == losses.index(min(losses))
    assert pictures.evaluator_picture(history, 1).png()
    run = report.SearchRun.read(folder)
    assert (
        run.space.write(run.genotype())
        == json.loads((BEFORE / "candidates.jsonl").read_text(encoding="utf-8").splitlines()[scored.winner])["genotype"]
    )


def test_its_state_is_what_a_search_loads(folder):
    search = prepare_search(config_of(folder))
    state = Trainer(search).state()
    before = json.loads((BEFORE / "checkpoint.json").read_text(encoding="utf-8"))
    assert {name: shapes(state[name]) for name in before} == before
    assert list(state["template"]) == list(before["template"])  # the order in which an optimizer numbers its weights
    assert state.keys() == {"template", "evaluator", "weight_optimizer", "evaluator_optimizer"}


def test_it_is_the_same_run_and_goes_on(folder):
    """Without a checkpoint from the first epoch: the journals are cut, and the same lines come again up to rounding."""
    config = config_of(folder)
    with pytest.warns(UserWarning, match="another environment"):
        run = Run.open(config, "search")
    with run:
        assert run.resumed
        (folder / "genotype.json").unlink()
        (folder / "candidates.jsonl").unlink()
        search = prepare_search(config, run)
        metrics = train(search, run)
        chosen = search_candidates(search, run)
    assert load_latest(run.checkpoints)[0] == 3
    for line, before in zip(metrics, (BEFORE / "metrics.jsonl").read_text(encoding="utf-8").splitlines(), strict=True):
        for key, value in json.loads(before).items():
            if key != "seconds":
                assert line[key] == pytest.approx(value, rel=0.05)
    assert chosen.genotype.to_json() + "\n" == (folder / "genotype.json").read_text(encoding="utf-8")


def test_it_is_not_a_run_with_the_template_of_today(folder):
    assert config_of(folder).template_head == report.SearchRun.read(folder).config["template_head"] == "mean"
    with pytest.raises(RunError, match="template_head: 'mean' there, 'norm' here"):
        Run.open(replace(config_of(folder), template_head="norm"), "search")


def test_a_study_takes_it_with_the_parameter_that_it_had_none_of(folder):
    stored = completed(SearchConfig, json.loads((BEFORE / "config.json").read_text(encoding="utf-8")))
    values = {field.name: stored[field.name] for field in fields(TemplateConfig) if field.name in stored}
    study = AblationConfig(**values, candidates=6)
    assert study.search("setn", str(folder)).template_head == "mean"
    with pytest.raises(ConfigError, match="template_head: 'mean' there, 'norm' here"):
        replace(study, template_head="norm").search("setn", str(folder))


def test_fields_that_came_later_do_not_change_its_folder(folder, monkeypatch):
    """Its digest is that of the fields it was written with, but for those that say where things lie."""
    stored = json.loads((BEFORE / "config.json").read_text(encoding="utf-8"))
    decisive = {name: value for name, value in stored.items() if name not in ("data_dir", "run_dir", "interactive")}
    text = json.dumps(["SearchConfig", decisive], sort_keys=True)
    older = folder.parent / f"search-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    monkeypatch.setenv("SETN_LAB_RUNS", str(folder.parent))
    config = replace(config_of(folder), run_dir=None)
    assert default_folder(config, "search") != older
    folder.rename(older)
    assert default_folder(config, "search") == older


@pytest.mark.parametrize("batch", [256, 16])
def test_what_was_scored_before_is_taken_where_it_was_scored_alike(folder, batch):
    """Its candidates carry no digest; its config says how they were scored: in batches of 256."""
    config = replace(config_of(folder), scoring_batch_size=batch)
    with pytest.warns(UserWarning, match="another environment"):
        run = Run.open(config, "search")
    with run:
        search = prepare_search(config, run)
        search.held.epochs = config.epochs
        score(search, run, "uniform", 3)
        (record, *_) = run.read("candidates-1")
        genotype = search.space.read(record["genotype"])
        known = known_scores(search, run, search.stages.scores)
        assert (known.get(genotype) == (record["loss"], record["accuracy"])) == (batch == 256)
