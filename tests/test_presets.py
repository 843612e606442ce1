"""Presets: which file a name means, and that it fills what was not given, in a notebook and in a shell alike."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from parameters import NOTEBOOKS, config_of_notebook
from test_config import shell

from setn_lab import presets
from setn_lab.config import ConfigError, build
from setn_lab.notebook import for_cells, from_notebook
from setn_lab.options import option_parser, parse
from setn_lab.retrain import RetrainConfig
from setn_lab.search import SearchConfig
from setn_lab.studies.ablation import AblationConfig
from setn_lab.studies.groundtruth.study import GroundTruthConfig
from setn_lab.studies.ranking import RankingConfig

CLASSES = {
    "search": SearchConfig,
    "retrain": RetrainConfig,
    "ablation": AblationConfig,
    "ranking": RankingConfig,
    "groundtruth": GroundTruthConfig,
}
FILES = NOTEBOOKS / "presets"


def values(path: Path) -> dict[str, object]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def of_words(cls: type, *words: str):
    config, others = parse(cls, option_parser(cls, "setn-lab x", "Text."), words)
    assert not vars(others)
    return config


def cell(name: str) -> str:
    return "".join(json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"][1]["source"])


def test_every_file_is_the_preset_of_one_notebook():
    found = [path for cls in CLASSES.values() for path in presets.preset_files(cls).values()]
    assert sorted(found) == sorted(FILES.glob("*.yaml"))
    for name, cls in CLASSES.items():
        expected = "quick.yaml" if name == "search" else f"{name}-quick.yaml"
        assert presets.preset_files(cls)["quick"] == FILES / expected


def test_a_name_may_hold_the_mark_that_parts_it_from_the_notebook(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "presets").mkdir(parents=True)
    for name in ("mine.ipynb", "presets/mine-a-b.yaml", "presets/a-b.yaml", "presets/mine.yaml"):
        (tmp_path / "notebooks" / name).touch()
    monkeypatch.setattr(presets, "checkout", lambda: tmp_path)
    assert set(presets.preset_files(SimpleNamespace(presets="mine"))) == {"a-b"}
    assert set(presets.preset_files(SimpleNamespace(presets="search"))) == {"a-b", "mine"}
    assert presets.preset_files(SimpleNamespace()) == {}


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # papermill's
@pytest.mark.parametrize("name", CLASSES)
def test_a_preset_is_its_file_given_by_papermill_in_the_cell_and_in_a_shell(name, capsys):
    cls = CLASSES[name]
    expected = build(cls, values(presets.preset_files(cls)["quick"]))
    assert expected != cls()
    assert config_of_notebook(name, cls, "preset", "quick") == expected
    assert of_words(cls, "--preset", "quick") == expected
    own = cell(name).replace("preset: str = None", 'preset: str = "quick"')
    assert from_notebook(cls, shell(own, "1")) == expected
    assert "preset quick: " in capsys.readouterr().out


def test_what_is_given_stands_above_the_preset(tmp_path):
    quick = values(FILES / "quick.yaml")
    assert {"epochs", "channels", "flip"} <= quick.keys()
    own = cell("search").replace("preset: str = None", 'preset: str = "quick"')
    changed = own.replace("epochs: int = 400", "epochs: int = 70")
    assert from_notebook(SearchConfig, shell(changed, "1")) == build(SearchConfig, {**quick, "epochs": 70})
    # papermill may give a default, which a cell cannot
    injected = "# Parameters\nepochs = 400\nflip = True\n"
    expected = build(SearchConfig, {**quick, "epochs": 400, "flip": True})
    assert from_notebook(SearchConfig, shell(own, injected, "1")) == expected
    assert from_notebook(SearchConfig, shell(cell("search"), f"{injected}preset = 'quick'\n", "1")) == expected

    file = tmp_path / "given.yaml"
    file.write_text("preset: quick\nchannels: 16\nepochs: 90\n", encoding="utf-8")
    expected = build(SearchConfig, {**quick, "channels": 16, "epochs": 400})
    assert of_words(SearchConfig, "-f", str(file), "--epochs", "400") == expected


def test_no_run_knows_by_what_its_values_were_given():
    assert presets.PARAMETER not in {field.name for cls in CLASSES.values() for field in dataclasses.fields(cls)}
    assert presets.filled(SearchConfig, {"epochs": 3, "preset": None}, ()) == {"epochs": 3}


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # papermill's
@pytest.mark.parametrize(("given", "near"), [("quik", "quick"), ("cifar", "cifar-small"), ("paper", None), ("3", None)])
def test_another_name_is_refused_with_those_that_there_are(given, near):
    with pytest.raises(ConfigError) as caught:
        config_of_notebook("search", SearchConfig, "preset", given)
    text = str(caught.value)
    assert text.startswith("preset: ")
    assert "cifar-small, quick, None is allowed" in text
    assert (f"did you mean {near}?" in text) == (near is not None)
    with pytest.raises(ConfigError, match=r"prest.*did you mean preset"):
        of_words(SearchConfig, "--prest", "quick")
    with pytest.raises(ConfigError, match=r"preset.*did you mean"):
        of_words(RetrainConfig, "--preset", "quik")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("as in -p epochs 400", "as in epochs = 400"),
        ("write -p flip True, or not", "write flip = True, or not"),
        ("-p limit None", "limit = None"),
        ("in minutes: -p preset quick\n", "in minutes: preset = 'quick'\n"),
        ("as in -r run_dir 007: so", "as in run_dir = '007': so"),
        ("-p weight_lr 1.0e-3.", "weight_lr = 0.001."),
        ("-p formats svg,pdf", "formats = 'svg,pdf'"),
        ("cp -p", "cp -p"),
        ("a-p b c", "a-p b c"),
    ],
)
def test_advice_is_what_to_write_into_a_cell(given, expected):
    assert for_cells(given) == expected
