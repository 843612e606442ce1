"""Words of a command line as a config: the same values as a notebook's parameters come to the same config."""

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from setn_lab.config import ConfigError, bounded, build, unhashed, validate
from setn_lab.options import option_parser, parse, typed
from setn_lab.parameters import describe


@dataclass(frozen=True, kw_only=True)
class Small:
    # training
    epochs: int = bounded(400, at_least=1)
    weight_lr: float = bounded(0.5, above=0)
    limit: int | None = bounded(None, at_least=2)  # 100% of it with None
    flip: bool = True

    # run
    mode: Literal["safe", "fast"] = "safe"
    run_dir: str | None = unhashed(None)

    def __post_init__(self) -> None:
        validate(self)


def read(*words: str, positional: str | None = None) -> Small:
    config, others = parse(Small, option_parser(Small, "setn-lab small", "Text.", positional), words)
    assert not vars(others)
    return config


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("epochs", "-3", -3),
        ("epochs", "4e2", 400.0),  # which the config refuses, and says how to write it
        ("epochs", "x", "x"),
        ("epochs", "None", None),
        ("weight_lr", "4e2", 400.0),
        ("weight_lr", "1e-3", 0.001),
        ("weight_lr", "2", 2),
        ("limit", "None", None),
        ("flip", "True", True),
        ("flip", "true", True),
        ("flip", "False", False),
        ("flip", "false", False),
        ("flip", "1", "1"),
        ("run_dir", "3", "3"),
        ("run_dir", "none", "none"),
        ("run_dir", "None", None),
        ("mode", "fast", "fast"),
    ],
)
def test_a_text_is_read_by_the_type_of_its_parameter(name, text, value):
    (parameter,) = (parameter for parameter in describe(Small) if parameter.name == name)
    found = typed(parameter, text)
    assert (type(found), found) == (type(value), value)


def test_without_words_it_is_the_default():
    assert read() == Small()


@pytest.mark.parametrize("words", [("--run-dir", "a-b"), ("--run_dir", "a-b"), ("--run-dir=a-b",), ("--run_dir=a-b",)])
def test_dashes_and_underscores_are_alike_in_names_alone(words):
    assert read("--epochs", "3", *words) == Small(epochs=3, run_dir="a-b")


def test_options_go_over_files_and_a_file_over_those_before_it(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.json"
    first.write_text("# a preset\nepochs: 3\nweight_lr: 0.25\nflip: false\n", encoding="utf-8")
    second.write_text(json.dumps({"epochs": 4, "weight_lr": 0.125}), encoding="utf-8")
    expected = Small(epochs=5, weight_lr=0.125, flip=False)
    assert read("-f", str(first), "--epochs", "5", "--file", str(second)) == expected
    assert read("-f", str(first), str(second), "--epochs", "5", positional="file") == expected


def test_a_parameter_may_be_given_without_its_name():
    assert read("a", "--epochs", "3", positional="run_dir") == Small(epochs=3, run_dir="a")
    assert read("--epochs", "3", "a", positional="run_dir") == Small(epochs=3, run_dir="a")
    assert read("--run-dir", "a", positional="run_dir") == Small(run_dir="a")


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("--epcohs", "3"), {"epcohs": "3"}),
        (("--epcohs=3", "--flip", "maybe"), {"epcohs": "3", "flip": "maybe"}),
        (("--weight-lrr", "1", "--epochs", "0"), {"weight_lrr": "1", "epochs": 0}),
        (("--epochs", "4e2"), {"epochs": 400.0}),
        (("--weight-lr", "-1"), {"weight_lr": -1}),
        (("--limit", "none"), {"limit": "none"}),
        (("--mode", "fats"), {"mode": "fats"}),
    ],
)
def test_errors_are_the_configs_own_and_all_are_told(words, values):
    with pytest.raises(ConfigError) as expected:
        build(Small, values)
    with pytest.raises(ConfigError) as caught:
        read(*words)
    assert sorted(str(caught.value).splitlines()) == sorted(str(expected.value).splitlines())


@pytest.mark.parametrize("content", [None, "- 1\n", "epochs\n", "1: 2\n", "a: [\n", "\udcff"])
def test_a_file_without_parameters_is_named(tmp_path, content):
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=str(path)):
        read("-f", str(path))


def test_a_wrong_value_in_a_file_is_told_as_any_other(tmp_path):
    (tmp_path / "file.yaml").write_text("flip: 'false'\nepocs: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)did you mean epochs.*flip: 'false'"):
        read("-f", str(tmp_path / "file.yaml"))


def test_a_word_too_many_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        read("--epochs", "3", "extra")
    assert caught.value.code == 2
    assert "extra" in capsys.readouterr().err


def test_help_shows_headings_defaults_bounds_and_descriptions():
    text = " ".join(option_parser(Small, "setn-lab small", "Text.", "run_dir").format_help().split())
    assert "usage: setn-lab small [RUN_DIR] [OPTIONS] Text." in text
    assert text.index("training:") < text.index("--epochs INTEGER at least 1 (default: 400)") < text.index("run:")
    assert "--limit INTEGER 100% of it with None; at least 2 (default: None)" in text
    assert "--mode TEXT safe or fast (default: 'safe')" in text
    assert "--flip True|False (default: True)" in text
