"""A training knows what it is made of: its genotype and images, not how they are written or where they lie."""

import json
import shutil
from dataclasses import replace

import pytest
from references import write_folder

from setn_lab.config import identity, short_hash
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.retrain.training import retrain
from setn_lab.runs.errors import RunError
from setn_lab.runs.run import Run, default_folder
from setn_lab.space.zoo import ZOO

SMALL = {"genotype": "DARTS_V2", "channels": 2, "repeats": 1, "epochs": 2, "batch_size": 4, "cutout": 0, "flip": False}


@pytest.fixture
def images(tmp_path):
    for number, split in enumerate(("train", "test")):
        write_folder(tmp_path / "images", {"a": 6, "b": 6}, size=8, split=split, seed=number)
    return tmp_path / "images"


@pytest.fixture
def config(tmp_path, images, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    return RetrainConfig(**SMALL, dataset=str(images), auxiliary_weight=0.0, device="cpu")


def trained(config):
    setup = prepare_retraining(config)
    with Run.open(config, "retrain") as run:
        retrain(setup, run)
    return run.folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("named", [True, False])
def test_class_folders_renamed_after_a_training_are_refused_before_anything_is_written(
    config, images, tmp_path, split, named
):
    """Otherwise the network is exported again, with the new names on the old outputs."""
    config = replace(config, run_dir=str(tmp_path / "run")) if named else config
    folder = trained(config)
    before = content(folder)
    for part in ("train", "test"):
        (images / part / "a").rename(images / part / "z")
    with pytest.raises(RunError, match=r"has changed since(.|\n)*classes: a only there"):
        trained(config)
    for part in ("train", "test"):
        (images / part / "z").rename(images / part / "a")
    trained(config)
    shutil.copy(images / split / "a" / "000.png", images / split / "b" / "001.png")
    with pytest.raises(RunError, match=r"has changed since(.|\n)*other content"):
        trained(config)
    assert content(folder) == before


def test_another_spelling_another_place_and_fewer_workers_go_on(config, images, tmp_path, monkeypatch):
    folder = trained(config)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images, tmp_path / "else where" / "pictures")
    for changes in ({"dataset": "images/"}, {"workers": 0}, {"dataset": str(tmp_path / "else where" / "pictures")}):
        assert default_folder(replace(config, **changes), "retrain") == folder
    (tmp_path / "cell.json").write_text(ZOO["DARTS_V2"].genotype.to_json(), encoding="utf-8")
    assert default_folder(replace(config, genotype="cell.json"), "retrain") == folder
    assert default_folder(replace(config, genotype="DARTS_V1"), "retrain") != folder
    with Run.open(replace(config, workers=0), "retrain") as run:
        assert run.resumed


def test_a_search_that_found_another_cell_is_another_training(config, tmp_path):
    """A genotype that changes in its place is a new training, not an error."""
    found = []
    for name in ("DARTS_V1", "DARTS_V2"):
        (tmp_path / "cell.json").write_text(ZOO[name].genotype.to_json(), encoding="utf-8")
        found.append(trained(replace(config, genotype=str(tmp_path / "cell.json"))))
    assert found[0] != found[1]
    named = replace(config, genotype=str(tmp_path / "cell.json"), run_dir=str(found[0]))
    with pytest.raises(RunError, match="genotype"):
        Run.open(named, "retrain")


def test_a_folder_of_an_earlier_version_is_found_by_its_name(config, tmp_path):
    """Its name had the number of workers in it, and the paths as they were written."""
    older = {**identity(config), "workers": config.workers}
    folder = tmp_path / "runs" / f"retrain-{short_hash(['RetrainConfig', older])}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(vars(config)), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"kind": "retrain"}), encoding="utf-8")
    assert default_folder(config, "retrain") == folder
