"""A way to update the evaluator that is given from outside is chosen by one parameter, in searches and in studies."""

import numpy as np
import pytest
import torch
from parameters import config_of_notebook

from setn_lab.config import ConfigError, digest
from setn_lab.evaluator.gradients import GRADIENTS
from setn_lab.runs import Run
from setn_lab.search import SearchConfig, prepare_search, train
from setn_lab.studies import ablation
from setn_lab.studies.ablation import AblationConfig
from setn_lab.studies.groundtruth.study import GroundTruthConfig
from setn_lab.studies.ranking import RankingConfig


class Favourite:
    """Prefers the first operation, whatever the images say."""

    def __init__(self, search):
        self.search = search

    def __call__(self, images, labels, step):
        objective = -self.search.evaluator.mixing_weights()[..., 0].sum()
        return objective, torch.stack([objective.detach(), torch.tensor(float(step))])


@pytest.fixture(autouse=True)
def favourite(monkeypatch):
    monkeypatch.setitem(GRADIENTS, "favourite", Favourite)


@pytest.mark.parametrize("space", ["small", "nasbench201"])
@pytest.mark.parametrize("strategy", ["setn", "setn-lr", "setn-non"])
def test_the_search_takes_it(tmp_path, tiny, space, strategy):
    values = {**tiny, "space": space, "strategy": strategy, "evaluator_gradient": "favourite", "evaluator_lr": 0.3}
    config = SearchConfig(**{**values, "nodes": 4, "run_dir": str(tmp_path / "run")})
    with Run.open(config, "search") as run:
        search = prepare_search(config, run)
        metrics = train(search, run)
    weights = search.evaluator.distributions().mixing_weights()
    assert (weights[..., 0] > 1.5 * weights[..., 1:].max(-1)).all()
    steps = np.arange(search.steps * config.epochs).reshape(config.epochs, -1)
    assert [line["evaluator_accuracy"] for line in metrics] == steps.mean(1).tolist()  # what the steps gave as outcome


def test_it_is_part_of_what_a_run_is_and_the_paper_s_is_not(tiny):
    paper, other = (SearchConfig(**tiny, evaluator_gradient=name) for name in ("mixture", "favourite"))
    assert digest(paper) != digest(other)
    assert digest(paper) == digest(SearchConfig(**tiny))


def test_every_study_takes_it(tmp_path, tiny):
    values = {**{name: value for name, value in tiny.items() if name != "nodes"}, "evaluator_gradient": "favourite"}
    for cls in (AblationConfig, RankingConfig):
        assert cls(**values).search("setn").evaluator_gradient == "favourite"
    study = GroundTruthConfig(
        **{**values, "evaluator_gradient": "mixture"}, ranked=6, switches="evaluator_gradient=favourite"
    )
    assert {search.evaluator_gradient for _, _, search in study.searches()} == {"mixture", "favourite"}


def test_a_study_runs_with_it(tmp_path, tiny, monkeypatch, forked):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    config = AblationConfig(**tiny, evaluator_gradient="favourite", run_dir=str(tmp_path / "study"))
    with Run.open(config, "ablation") as run:
        ablation.collect(config, run)
        assert len(run.read("setn")) > 0
        ablation.measure_costs(config, run)  # in processes of their own
        assert (run.folder / "costs.json").exists()
    searched = {path.name for path in (tmp_path / "runs").iterdir()}
    assert len(searched) == 4


def test_the_notebook_takes_it_and_an_unknown_one_is_refused():
    assert (
        config_of_notebook("search", SearchConfig, "evaluator_gradient", "favourite").evaluator_gradient == "favourite"
    )
    with pytest.raises(ConfigError, match=r"evaluator_gradient: 'favorite'.*did you mean favourite\?.*'favourite'"):
        config_of_notebook("search", SearchConfig, "evaluator_gradient", "favorite")
