"""A run folder as the version before the folders wrote it: written-before/, its checkpoint as names and shapes."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from setn_lab.config import build, digest
from setn_lab.inspection import pictures, reading
from setn_lab.runs import Run
from setn_lab.runs.checkpoint import load_latest
from setn_lab.search import SearchConfig, prepare_search, report, train
from setn_lab.search.candidates import search_candidates
from setn_lab.search.steps import Trainer

BEFORE = Path(__file__).parent / "written-before"


def config_of(folder):
    return build(
        SearchConfig, {**json.loads((BEFORE / "config.json").read_text(encoding="utf-8")), "run_dir": str(folder)}
    )


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


def test_fields_that_came_later_do_not_change_its_folder(folder):
    """Its digest is that of the fields it was written with, but for those that say where things lie."""
    stored = json.loads((BEFORE / "config.json").read_text(encoding="utf-8"))
    decisive = {name: value for name, value in stored.items() if name not in ("data_dir", "run_dir", "interactive")}
    text = json.dumps(["SearchConfig", decisive], sort_keys=True)
    assert digest(config_of(folder)) == hashlib.sha256(text.encode()).hexdigest()[:10]
