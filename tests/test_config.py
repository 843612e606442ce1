import contextlib
import hashlib
import json
import math
import os
import random
import struct
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import matplotlib
import pytest
import yaml

from setn_lab.config import (
    ConfigError,
    bounded,
    build,
    choice,
    completed,
    differences,
    digest,
    expanded,
    hashed,
    identity,
    later,
    to_json,
    unhashed,
    validate,
)
from setn_lab.notebook import from_notebook


@dataclass(frozen=True, kw_only=True)
class Search:
    dataset: str = "cifar10"
    strategy: Literal["setn", "setn-lr", "setn-non"] = "setn"
    epochs: int = bounded(400, at_least=1)
    weight_lr: float = bounded(0.05, above=0)
    path_dropout: float = bounded(0.1, at_least=0, below=1)
    limit_train: int | None = bounded(None, at_least=1, at_most=50000)
    clip: float | None = None
    augment: bool = True
    run_dir: str | None = unhashed(None)
    interactive: bool = unhashed(False)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, kw_only=True)
class Other:
    value: float
    text: str = ""
    depth: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        validate(self)


def message(**values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        build(Search, values)
    return str(caught.value)


def test_values_are_taken_as_they_are_and_frozen():
    config = build(Search, {"epochs": 3, "clip": 0.5, "run_dir": "a", "strategy": "setn-lr"})
    assert (config.epochs, config.clip, config.run_dir, config.strategy) == (3, 0.5, "a", "setn-lr")
    assert build(Search, {}) == Search()
    with pytest.raises(FrozenInstanceError):
        config.epochs = 4


def test_an_integer_for_a_float_is_stored_as_a_float():
    config = Search(weight_lr=1, clip=2)
    assert type(config.weight_lr) is float
    assert type(config.clip) is float
    assert digest(Search(weight_lr=1)) == digest(Search(weight_lr=1.0))
    assert Search(clip=None).clip is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"epochs": 400.0},
            "epochs: 400.0 (float) given; an integer of at least 1 is allowed: "
            "write it without exponent or point, as in -p epochs 400",
        ),
        ({"epochs": 4e2}, "without exponent or point, as in -p epochs 400"),
        ({"epochs": "4e2"}, "without quotes, exponent or point, as in -p epochs 400"),
        ({"epochs": 0}, "epochs: 0 (int) given; an integer of at least 1 is allowed"),
        ({"epochs": 2.5}, "epochs: 2.5 (float) given; an integer of at least 1 is allowed"),
        ({"epochs": True}, "epochs: True (bool) given"),
        ({"epochs": None}, "epochs: None (NoneType) given"),
        ({"limit_train": 50001}, "an integer of at least 1 and at most 50000 or None is allowed"),
        (
            {"weight_lr": 0},
            "weight_lr: 0 (int) given; a number above 0 is allowed: write such a value, as in",
        ),
        ({"weight_lr": "1e-3"}, "weight_lr: '1e-3' (str) given; a number above 0 is allowed: write 1.0e-3"),
        ({"weight_lr": "1.5e3"}, "write 1.5e+3"),
        ({"weight_lr": "0.5"}, "write 0.5 without quotes"),
        ({"weight_lr": math.nan}, "weight_lr: nan (float) given"),
        ({"clip": math.inf}, "clip: inf (float) given"),
        ({"clip": 10**400}, "(int) given; a number or None is allowed"),
        ({"clip": False}, "clip: False (bool) given"),
        ({"path_dropout": 1.0}, "a number of at least 0 and below 1 is allowed"),
        ({"path_dropout": -0.1}, "path_dropout: -0.1 (float) given"),
        ({"interactive": "false"}, "write True or False, as in -p interactive False"),
        ({"interactive": "false"}, "papermill turns false into a text"),
        ({"augment": "true"}, "write True or False, as in -p augment True"),
        ({"augment": 1}, "augment: 1 (int) given; True or False is allowed: write True or False"),
        ({"run_dir": "none"}, "run_dir: 'none' (str) given; a text or None is allowed: write None, as in"),
        ({"limit_train": "null"}, "write None, as in -p limit_train None"),
        ({"run_dir": 10}, "give it as a text, as in -r run_dir 10"),
        (
            {"strategy": "sent"},
            "did you mean setn? one of 'setn', 'setn-lr', 'setn-non' is allowed: write -p strategy setn",
        ),
        ({"strategy": "zzz"}, "write such a value, as in -p strategy setn"),
        ({"epocs": 3}, "epocs: 3 (int) given; did you mean epochs? Search has no such parameter. Allowed: "),
        ({"zzz": 3}, "Allowed: dataset, strategy, epochs, weight_lr,"),
    ],
)
def test_a_message_names_the_parameter_what_was_given_what_is_allowed_and_the_fix(values, expected):
    text = message(**values)
    assert expected in text
    assert "\n" not in text


def test_the_fix_for_a_whole_float_is_not_a_value_out_of_bounds():
    assert "-3" not in message(epochs=-3.0).partition(":")[2].partition("allowed")[2]


def test_all_problems_are_told_at_once():
    lines = message(epochs=0, epocs=1, augment="x", strategy=3).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == ["augment", "epochs", "epocs", "strategy"]


def test_the_constructor_checks_too():
    with pytest.raises(ConfigError, match="epochs: 0"):
        Search(epochs=0)
    with pytest.raises(ConfigError, match=r"(?s)epochs: .*augment: "):
        Search(epochs=0, augment=None)


def test_a_missing_value_is_named():
    with pytest.raises(ConfigError, match="value: not given; a number is allowed"):
        build(Other, {})


def test_a_literal_tells_true_from_one():
    assert Other(value=1, depth=2).depth == 2
    for wrong in (True, 1.0, "1"):
        with pytest.raises(ConfigError, match="one of 1, 2 is allowed"):
            Other(value=1, depth=wrong)


def test_an_annotation_that_is_not_supported_is_the_authors_error():
    @dataclass(frozen=True)
    class Wrong:
        names: list[str]

    with pytest.raises(TypeError, match=r"list\[str\]"):
        validate(Wrong([]))


def test_fields_that_are_not_hashed_do_not_decide_the_identity():
    config = Search(epochs=3)
    assert identity(config).keys() == {f.name for f in fields(Search)} - {"run_dir", "interactive"}
    assert digest(config) == digest(Search(epochs=3, run_dir="x", interactive=True))


def test_a_field_that_was_added_counts_where_it_is_not_as_before():
    @dataclass(frozen=True, kw_only=True)
    class Now:
        epochs: int = 3
        way: str = choice("old", {"old": 1, "new": 2}, added=True)

    assert identity(Now()) == {"epochs": 3}
    assert identity(Now(way="new")) == {"epochs": 3, "way": "new"}
    before = json.dumps(["Now", {"epochs": 3}])
    assert digest(Now()) == hashlib.sha256(before.encode()).hexdigest()[:10]
    assert hashed(Now, {"epochs": 3, "way": "old"}) == hashed(Now, {"epochs": 3}) == {"epochs": 3}
    assert hashed(Now, {"epochs": 3, "way": "new", "unknown": 1}) == {"epochs": 3, "way": "new", "unknown": 1}


def test_a_field_that_changed_what_is_done_means_in_older_configs_what_they_did():
    @dataclass(frozen=True, kw_only=True)
    class Now:
        space: str = "small"
        rate: float = bounded(0.0, at_least=0, added=True)
        head: Literal["norm", "mean"] = later(
            "norm", before=lambda values: "mean" if values["space"] == "small" else "norm"
        )

    assert identity(Now()) == {"space": "small", "head": "norm"}
    assert identity(Now(rate=0.5, head="mean")) == {"space": "small", "rate": 0.5}
    assert identity(Now(space="other")) == {"space": "other"}
    assert identity(Now(space="other", head="mean")) == {"space": "other", "head": "mean"}
    assert completed(Now, {"space": "small"}) == {"space": "small", "rate": 0.0, "head": "mean"}
    assert completed(Now, {"space": "other", "rate": 1.0}) == {"space": "other", "rate": 1.0, "head": "norm"}
    assert completed(Now, {"space": "small", "head": "norm"})["head"] == "norm"


def test_the_digest_tells_values_and_classes_apart():
    class Renamed(Search):
        pass

    digests = [digest(Search(epochs=n)) for n in range(1, 200)]
    assert len({*digests, digest(Renamed(epochs=1))}) == 200
    assert all(len(d) == 10 and int(d, 16) >= 0 for d in digests)


def test_the_digest_is_the_same_in_another_process():
    code = (
        "from dataclasses import dataclass\nfrom setn_lab.config import digest\n"
        "@dataclass(frozen=True)\nclass Small:\n    b: float = 0.1\n    a: str = 'x'\n"
        "print(digest(Small()))\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_differences_are_told_by_name():
    assert differences({"epochs": 3, "a": 1}, {"epochs": 4, "a": 1}) == ["epochs: 3 there, 4 here"]
    assert differences({"a": "x"}, {"b": True}) == ["a: 'x' there, absent here", "b: absent there, True here"]
    assert differences({"a": True}, {"a": 1}) == ["a: True there, 1 here"]
    assert differences({"a": None}, {}) == ["a: None there, absent here"]
    assert differences({"a": 1.0}, {"a": 1}) == []


def test_json_and_yaml_read_every_float_as_the_same_bits():
    rng = random.Random(0)
    patterns = (struct.unpack("<d", rng.randbytes(8))[0] for _ in range(1000))
    spread = [x for x in patterns if math.isfinite(x)]
    spread += [sign * m * 10.0**e for sign in (1, -1) for m in (1, 1.5) for e in range(-30, 31)]
    for value in [1e-5, 3e-4, 3e-5, 1e22, 1e16, 5e-324, 0.1, 0.0, -0.0, 1.0, sys.float_info.max, *spread]:
        text = to_json(Other(value=value))
        for read in (json.loads(text)["value"], yaml.safe_load(text)["value"]):
            assert type(read) is float
            assert struct.pack("<d", read) == struct.pack("<d", value)


@pytest.mark.parametrize(
    "text",
    ["", "1e-3", "yes", "null", "a: b # c", 'q"\\', "tab\tline\n", "é", "\U0001f600", "\x7f\x85\u2028"],
)
def test_json_and_yaml_read_every_text_alike(text):
    written = to_json(Other(value=0, text=text))
    assert json.loads(written) == yaml.safe_load(written) == {"value": 0.0, "text": text, "depth": 1}


def test_json_holds_exactly_the_fields_and_builds_the_config_again():
    config = Search(epochs=3, weight_lr=3e-5, run_dir="x", limit_train=7)
    text = to_json(config)
    assert [*json.loads(text)] == [f.name for f in fields(Search)]
    assert build(Search, json.loads(text)) == build(Search, yaml.safe_load(text)) == config
    assert len(text.splitlines()) == len(fields(Search)) + 2


def shell(*cells: str, **names: object) -> SimpleNamespace:
    """A kernel in which these cells were run, with the names that they leave."""
    user_ns: dict[str, object] = {}
    for cell in cells:
        with contextlib.suppress(SyntaxError):
            exec(cell, user_ns)
    return SimpleNamespace(user_ns={**user_ns, **names, "In": ["", *cells]})


OWN = "# Parameters, of this notebook\n" + "".join(f"{f.name}: object = {f.default!r}\n" for f in fields(Search))
BUILD = "config = None"


def test_own_and_injected_parameters_are_one_block():
    own = OWN.replace("clip: object = None", "clip: float = 2.0")
    notebook = shell("import json", own, "", "# Parameters\nepochs = 3\nweight_lr = 0.5\n", BUILD)
    assert from_notebook(Search, notebook) == Search(epochs=3, weight_lr=0.5, clip=2.0)


def test_a_misspelt_parameter_is_refused():
    with pytest.raises(ConfigError, match=r"epocs.*did you mean epochs"):
        from_notebook(Search, shell(OWN, "# Parameters\nepocs = 3\n", BUILD))
    with pytest.raises(ConfigError, match="epocs"):
        from_notebook(Search, shell("# Parameters\nepochs, epocs = 3, 4\n"))


def test_names_of_other_cells_are_not_parameters():
    other = "helper = 1\nweight_lr = 0.7"
    assert from_notebook(Search, shell(other, OWN, BUILD, "helper = 2")) == Search(epochs=400)


def test_only_the_last_block_counts():
    notebook = shell(OWN, "# Parameters\nclip = 1.0", BUILD, OWN, "# Parameters\nepochs = 5\n", BUILD)
    assert from_notebook(Search, notebook) == Search(epochs=5)


def test_an_annotation_without_a_value_and_nested_assignments_are_no_parameters():
    cell = OWN + "clip: float\nif True:\n    inner = 1\nepochs = 5\n"
    assert from_notebook(Search, shell(cell)) == Search(epochs=5)


def test_a_cell_that_does_not_parse_is_as_if_never_run():
    notebook = shell(OWN, "# Parameters\nepochs = 5\n", BUILD, "# Parameters\nepochs = = 6\n", BUILD)
    assert from_notebook(Search, notebook) == Search(epochs=5)


@pytest.mark.parametrize("cells", [(), ("epochs = 3",), ("# Parameters\nepochs = = 6\n",)])
def test_without_a_parameters_cell_it_says_to_run_it(cells):
    with pytest.raises(ConfigError, match="run it first"):
        from_notebook(Search, shell(*cells))


def test_a_parameters_cell_that_failed_is_named():
    notebook = SimpleNamespace(user_ns={"In": ["", "# Parameters\nepochs = nothing\n"]})
    with pytest.raises(ConfigError, match=r"epochs: not set.*run it again"):
        from_notebook(Search, notebook)


@pytest.mark.parametrize("exported", ["agg", "module://matplotlib_inline", "TkAgg"])
def test_an_exported_backend_hides_no_figures(monkeypatch, exported):
    monkeypatch.setenv("MPLBACKEND", exported)
    taken = []
    notebook = shell(OWN)
    notebook.enable_matplotlib = taken.append
    for backend in (exported, "webagg"):  # the second by a notebook's own %matplotlib
        monkeypatch.setitem(matplotlib.rcParams, "backend", backend)
        from_notebook(Search, notebook)
    assert taken == ["inline"]
    monkeypatch.delenv("MPLBACKEND")
    from_notebook(Search, notebook)
    assert taken == ["inline"]


@pytest.mark.parametrize("text", ["~no-such-user/x", "~"])
def test_the_home_of_an_unknown_user_makes_no_folder(monkeypatch, text):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where there is neither HOME nor an entry
    with pytest.raises(ConfigError, match=f"run_dir: '{text}' given, and no home is known.*set HOME"):
        expanded(text, "run_dir")
    assert expanded("a/~/b", "run_dir") == Path("a/~/b")


def test_a_number_for_a_text_may_have_lost_zeros():
    with pytest.raises(ConfigError, match=r"-r run_dir 123456789, as it was typed: .* loses zeros in front"):
        Search(run_dir=123456789)


def test_a_wrong_value_from_a_notebook_is_refused():
    with pytest.raises(ConfigError, match="interactive: 'false'"):
        from_notebook(Search, shell("# Parameters\ninteractive = 'false'\n"))


INJECTED = "# Parameters\nepochs = 2\n"


@pytest.mark.parametrize("first_line", ["", "# My parameters\n", "# parameters for CIFAR\n\n"])
def test_an_edited_first_line_does_not_hide_the_notebooks_own_values(first_line):
    own = first_line + OWN.partition("\n")[2].replace("'cifar10'", "'digits'")
    assert from_notebook(Search, shell(own, BUILD)) == Search(dataset="digits")
    assert from_notebook(Search, shell(own, INJECTED, BUILD)) == Search(dataset="digits", epochs=2)


def test_a_block_that_leaves_parameters_out_is_refused():
    own = OWN.replace("strategy: object = 'setn'\n", "")
    for cells in ((own, BUILD), (own, INJECTED, BUILD)):
        with pytest.raises(ConfigError, match=r"^strategy: not set by the parameter cells.*`setn-lab parameters --wri"):
            from_notebook(Search, shell(*cells))
    assert from_notebook(Search, shell(own, "# Parameters\nstrategy = 'setn-lr'\n", BUILD)).strategy == "setn-lr"
    again = OWN, BUILD, INJECTED, BUILD  # papermill's cell run again, alone
    more = f"'text'\n{OWN}", INJECTED, BUILD  # a cell that does more than assign
    for cells in (again, more):
        with pytest.raises(ConfigError, match=r"^dataset, strategy, weight_lr"):
            from_notebook(Search, shell(*cells))


def test_a_parameter_that_the_notebooks_own_cell_overrides_is_refused():
    with pytest.raises(ConfigError, match=r"^epochs: 2 was given, but .* sets 400: give that cell the tag"):
        from_notebook(Search, shell(INJECTED, OWN, BUILD))  # as papermill does without the tag
    assert from_notebook(Search, shell(INJECTED.replace("2", "400"), OWN, BUILD)) == Search()
    again = OWN.replace("400", "3")
    assert from_notebook(Search, shell(OWN, again, BUILD)) == Search(epochs=3)


def test_through_a_real_ipython_shell(tmp_path):
    code = """
from dataclasses import dataclass
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
from setn_lab.config import bounded
from setn_lab.notebook import from_notebook
@dataclass(frozen=True)
class Small:
    epochs: int = bounded(400, at_least=1)
    name: str = "a"
shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
shell.user_ns["Small"], shell.user_ns["from_notebook"] = Small, from_notebook
build = "config = from_notebook(Small, get_ipython())"
own, injected = "# Parameters\\nepochs: int = 400\\nname: str = 'b'", "# Parameters\\nepochs = 3\\n"
for cell in ("%pwd\\nx = 1", own, injected, build):
    shell.run_cell(cell, store_history=True).raise_error()
assert shell.user_ns["config"] == Small(3, "b"), shell.user_ns["config"]
print("-" * 9)
shell.run_cell("# Parameters\\nepochs = 0\\n", store_history=True)
result = shell.run_cell(build, store_history=True)
assert "as in -p epochs 400" in str(result.error_in_exec), result
print("-" * 9)
shell.run_cell("1 / 0")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, plain, *own = done.stdout.split("---------\n")
    assert "ConfigError: epochs: 0 (int) given" in plain
    assert "as in epochs = 400" in plain
    assert len(plain.splitlines()) == 1
    assert "ZeroDivisionError" in "".join(own)  # an error of the user's has its trace
    assert "Traceback" in "".join(own)


def test_importing_the_module_loads_neither_torch_nor_numpy():
    code = "import sys, setn_lab.config, setn_lab.runs; print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
