"""A path that was printed anywhere is found from any working folder, by every parameter that takes a run folder."""

import json

import pytest
from written_run import write_run

from setn_lab.config import ConfigError
from setn_lab.figures import genotype
from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.retrain import RetrainConfig
from setn_lab.runs import place
from setn_lab.runs.errors import RunError
from setn_lab.runs.place import found, run_folder, written
from setn_lab.runs.run import Run
from setn_lab.search import SearchConfig
from setn_lab.studies.ablation import AblationConfig


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with a run among the others, worked in from one of its folders."""
    root = tmp_path / "checkout"
    (root / "work").mkdir(parents=True)
    monkeypatch.setattr(place, "checkout", lambda: root)
    monkeypatch.setenv("SETN_LAB_RUNS", str(root / "reports" / "runs"))
    monkeypatch.chdir(root / "work")
    write_run(root / "reports" / "runs" / "search-0", 2, 3)
    return root


SPELT = ["search-0", "reports/runs/search-0", "../reports/runs/search-0", "{root}/reports/runs/search-0"]


@pytest.mark.parametrize("spelt", SPELT)
def test_every_spelling_is_the_run(checkout, spelt):
    text, folder = spelt.format(root=checkout), checkout / "reports" / "runs" / "search-0"
    winner = (folder / "genotype.json").read_text(encoding="utf-8")
    assert found(text, "run_dir").resolve() == folder
    assert run_folder(text, "run_dir").resolve() == folder
    assert InspectConfig(run_dir=text, compare=f"{text}, {text}").folder.resolve() == folder
    assert genotype.figures(genotype.CellsConfig(genotype=text)).genotype.to_json() == winner.strip()
    assert RetrainConfig(genotype=text, dataset="digits").contents()["genotype"]["where"]
    with pytest.raises(ConfigError, match="older version"):
        SearchConfig(template_run=text, dataset="digits", evaluator_epochs=1).contents()
    with pytest.raises(ConfigError, match="search of other parameters"):
        AblationConfig(setn_run=text, dataset="digits", epochs=7).search("setn", text)
    with pytest.raises(RunError, match="another config"):  # it is that folder which would go on
        Run.open(SearchConfig(run_dir=text, dataset="digits", epochs=7), "search")
    assert sorted(path.name for path in (checkout / "work").iterdir()) == []


def test_what_is_printed_is_found(checkout, tmp_path):
    folder = checkout / "reports" / "runs" / "search-0"
    assert found(written(folder), "run_dir") == folder
    assert written(folder) == "search-0"
    other = write_run(tmp_path / "elsewhere", 1, 0)
    assert found(written(other), "run_dir") == other


def test_the_working_folder_comes_first_and_a_new_run_is_made_there(checkout):
    assert run_folder("new", "run_dir") == checkout / "work" / "new"
    write_run(checkout / "work" / "search-0", 1, 0)
    assert found("search-0", "run_dir") == checkout / "work" / "search-0"
    assert run_folder("search-0", "run_dir") == checkout / "work" / "search-0"


def test_an_error_says_where_was_looked(checkout):
    folders = checkout / "work", checkout, checkout / "reports" / "runs"
    with pytest.raises(ConfigError) as caught:
        found("search-1", "run_dir")
    with pytest.raises(InspectionError) as inspected:
        _ = InspectConfig(run_dir="search-1").folder
    for folder in folders:
        assert str(folder / "search-1") in str(caught.value)
        assert str(folder / "search-1") in str(inspected.value)
    with pytest.raises(ValueError, match="Allowed are") as unknown:
        RetrainConfig(genotype="search-1", dataset="digits").contents()
    assert all(str(folder) in str(unknown.value) for folder in folders)
    (checkout / "x.yaml").write_text(json.dumps({"epochs": 3}), encoding="utf-8")
    assert found("x.yaml", "file") == checkout / "x.yaml"
    assert found(checkout / "x.yaml", "file") == checkout / "x.yaml"
