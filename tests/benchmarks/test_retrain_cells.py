"""The benchmark that trains winners of searches and uniform cells: what it trains, on which images, and its numbers."""

import json

import numpy as np
import pytest
import retrain_cells
from references import TINY, run_search

from setn_lab.data.images import load_images
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run
from setn_lab.search.config import SearchConfig
from setn_lab.space.genotype import Genotype


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The benchmark on two searches of seconds on the digits, averaged down to 4 pixels."""
    folder = tmp_path_factory.mktemp("cells")
    recipe = {**retrain_cells.RECIPE, "channels": 2, "epochs": 1, "flip": False, "limit_train": 96}
    values = {**TINY, "nodes": 4, "epochs": 1, "baseline_candidates": 4}
    configs = [SearchConfig(**values, seed=seed, run_dir=str(folder / f"search-{seed}")) for seed in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETN_LAB_RUNS", str(folder / "runs"))
        patch.setattr(retrain_cells, "REPORT", folder / "report")
        patch.setattr(retrain_cells, "RECIPE", recipe)
        searches = [str(run_search(config)) for config in configs]
        options = ["--dataset", "digits", "--uniform", "3", "--side", "4"]
        patch.setattr("sys.argv", ["retrain_cells.py", *searches, *options])
        retrain_cells.main()
        yield folder


def test_winners_and_uniform_cells_are_trained_on_averaged_images(report):
    found = json.loads((report / "report" / "summary.json").read_text(encoding="utf-8"))
    winners = [
        Genotype.from_json((report / f"search-{seed}" / "genotype.json").read_text(encoding="utf-8")).to_darts()
        for seed in (0, 1)
    ]
    uniform = [line["genotype"] for line in read_journal(report / "search-0" / "baseline.jsonl")[:3]]
    assert [cell["genotype"] for cell in found["cells"]] == [*winners, *uniform, "SETN"]
    for cell in found["cells"][:2]:
        lowest = min(
            line["loss"] for line in read_journal(report / cell["name"].removeprefix("winner of ") / "candidates.jsonl")
        )
        assert cell["one_shot_loss"] == lowest
    (folder,) = (report / "runs").glob("images-4-*")
    for split in ("train", "test"):
        whole, small = load_images("digits", split=split), load_images(str(folder), split=split)
        order = np.argsort(whole.labels.numpy(), kind="stable")
        means = whole.images.numpy().astype(float).reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))
        names = [sorted((folder / split / name).iterdir()) for name in small.classes]
        numbers = [int(path.stem) for group in names for path in group]
        assert sorted(numbers) == list(range(len(order)))
        assert np.abs(small.images.numpy() - means[numbers]).max() <= 0.5
        assert small.labels.tolist() == whole.labels[numbers].tolist()


def test_a_second_call_trains_nothing_and_says_the_same(report, monkeypatch):
    before = (report / "report" / "README.md").read_bytes()
    monkeypatch.setattr(Run, "append", lambda *arguments: pytest.fail("trained again"))
    retrain_cells.main()
    assert (report / "report" / "README.md").read_bytes() == before


def test_the_difference_is_that_of_the_means_with_its_standard_error():
    errors = {"winner": [0.30, 0.32], "uniform": [0.31, 0.40, 0.42, 0.35], "published": [0.3]}
    rows = [{"kind": kind, "test_error": error} for kind, own in errors.items() for error in own]
    found = retrain_cells.summary(rows)
    assert found["difference"] == pytest.approx(0.31 - 0.37)
    variances = [
        sum((error - sum(own) / len(own)) ** 2 for error in own) / (len(own) - 1) / len(own)
        for own in (errors["winner"], errors["uniform"])
    ]
    assert found["standard_error"] == pytest.approx(sum(variances) ** 0.5)
    assert found["share_beaten"] == 0.75
