"""What holds for every notebook and preset, without a kernel."""

import ast
import dataclasses
import io
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import nbformat
import pytest
import yaml

from setn_lab.config import build, to_json
from setn_lab.figures.genotype import CellsConfig
from setn_lab.inspection.reading import InspectConfig
from setn_lab.retrain.config import RetrainConfig
from setn_lab.search.config import SearchConfig
from setn_lab.studies.ablation import AblationConfig
from setn_lab.studies.groundtruth.study import GroundTruthConfig
from setn_lab.studies.ranking import RankingConfig

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CONFIGS = {
    "search": SearchConfig,
    "retrain": RetrainConfig,
    "ablation": AblationConfig,
    "ranking": RankingConfig,
    "cells": CellsConfig,
    "inspect": InspectConfig,
    "groundtruth": GroundTruthConfig,
}
PRESETS = sorted((NOTEBOOKS / "presets").glob("*.yaml"))


def cells_of(name):
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]


def code_of(name):
    return ["".join(cell["source"]) for cell in cells_of(name) if cell["cell_type"] == "code"]


def test_all_notebooks_are_tested_here():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_parameters_are_the_configs_fields_with_its_defaults(name):
    names: dict[str, object] = {}
    exec(code_of(name)[0], {}, names)
    annotations = names.pop("__annotations__")
    defaults = dataclasses.asdict(CONFIGS[name]())
    assert list(names) == list(annotations) == list(defaults)
    assert {key: (type(value), value) for key, value in names.items()} == {
        key: (type(value), value) for key, value in defaults.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_papermill_can_read_the_parameters(name):
    parameters = code_of(name)[0]
    assert parameters.startswith("# Parameters")
    assert [cell["metadata"].get("tags") for cell in cells_of(name) if cell["metadata"]] == [["parameters"]]
    for statement in ast.parse(parameters).body:
        assert isinstance(statement, ast.AnnAssign)
        assert statement.annotation.id in {"str", "int", "float", "bool"}
        value = ast.literal_eval(statement.value)
        assert value is None or type(value).__name__ == statement.annotation.id
    tokens = tokenize.generate_tokens(io.StringIO(parameters).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    assert len(comments) > 5
    assert not [comment for comment in comments if "=" in comment]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_notebook_is_short_and_clean(name):
    assert len(cells_of(name)) <= 12
    for source in code_of(name):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.TryStar, ast.Lambda, ast.If, ast.For)
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    for cell in cells_of(name):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    nbformat.validate(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))


@pytest.mark.parametrize("name", CONFIGS)
def test_papermill_lists_every_parameter(name):
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(NOTEBOOKS / f"{name}.ipynb")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    fields = [field.name for field in dataclasses.fields(CONFIGS[name])]
    assert re.findall(r"^  (\w+): (?:str|int|float|bool) \(default ", text, re.MULTILINE) == fields


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_builds_a_config(preset):
    values = yaml.safe_load(preset.read_text())
    config = build(CONFIGS.get(preset.stem.split("-")[0], SearchConfig), values)
    assert {name: getattr(config, name) for name in values} == values
    assert config.interactive is False  # a preset is for runs without a browser
    assert yaml.safe_load(to_json(config)) == json.loads(to_json(config)) == dataclasses.asdict(config)


def test_there_are_the_presets_that_the_texts_name():
    assert {path.stem for path in PRESETS} == {
        *("quick", "cifar-small"),
        *("retrain-quick", "retrain-cifar", "retrain-imagenet"),
        *(f"{study}-{size}" for study in ("ablation", "ranking", "groundtruth") for size in ("quick", "cpu", "paper")),
    }


def test_the_defaults_of_a_training_are_the_recipe_for_cifar():
    values = yaml.safe_load((NOTEBOOKS / "presets" / "retrain-cifar.yaml").read_text())
    values |= {"seeds": 1, "interactive": True}
    assert build(RetrainConfig, values) == RetrainConfig()


@pytest.mark.parametrize("study", ["ablation", "ranking"])
def test_the_studies_defaults_are_the_papers_size(study):
    values = yaml.safe_load((NOTEBOOKS / "presets" / f"{study}-paper.yaml").read_text())
    changed = {"interactive": True} | ({"finalists": 0} if study == "ranking" else {})
    assert build(CONFIGS[study], values | changed) == CONFIGS[study]()


@pytest.mark.parametrize("size", ["quick", "cpu", "paper"])
def test_the_ranking_takes_the_search_of_the_ablation(size):
    configs = [
        build(CONFIGS[study], yaml.safe_load((NOTEBOOKS / "presets" / f"{study}-{size}.yaml").read_text()))
        for study in ("ablation", "ranking")
    ]
    assert configs[0].search("setn") == configs[1].search("setn")
