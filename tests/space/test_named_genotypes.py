"""Finding a genotype by name, folder, file or text, of which nothing is ever evaluated."""

import difflib
import json

import pytest

from setn_lab.space.genotype import Genotype, GenotypeError
from setn_lab.space.named import resolve
from setn_lab.space.nasbench201 import NASBench201Genotype
from setn_lab.space.zoo import ZOO

NODE = (("sep_conv_3x3", 0), ("max_pool_3x3", 1))
GIVEN = Genotype((NODE, (("skip_connect", 2), ("dil_conv_5x5", 0))), (2, 3), (NODE,), (2,))  # in no zoo

LATER = (  # node 2 reads itself, and node 2 reads node 3
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 2)], normal_concat=[2], "
    "reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], reduce_concat=[2])",
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], normal_concat=[2], "
    "reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], reduce_concat=[2])",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- what is found ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_zoo_name(name, here):
    (here / name).write_text(GIVEN.to_json(), encoding="utf-8")
    assert resolve(name) == (name, ZOO[name].genotype), "a file of that name does not hide it"
    assert resolve(f"./{name}") == (name, GIVEN)


@pytest.mark.parametrize(
    "text", [GIVEN.to_json(), GIVEN.to_darts(), f"\n  {GIVEN.to_darts()}\n", f" {GIVEN.to_json()}"]
)
def test_text_itself(text, here):
    assert resolve(text) == ("given", GIVEN)
    nested = json.loads(GIVEN.to_json())
    assert resolve(f"Genotype({', '.join(f'{field}={value!r}' for field, value in nested.items())})")[1] == GIVEN


def test_run_folder(here, monkeypatch):
    folder = here / "search-12ab"
    folder.mkdir()
    (folder / "genotype.json").write_text(GIVEN.to_json() + "\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(here))
    for text in (str(folder), "search-12ab", "./search-12ab/", "~/search-12ab"):
        assert resolve(text) == ("search-12ab", GIVEN)
    monkeypatch.chdir(folder)
    assert resolve(".") == ("search-12ab", GIVEN)


@pytest.mark.parametrize("name", ["mine.json", "mine.txt", "mine"])
@pytest.mark.parametrize(
    "text", [GIVEN.to_json(), GIVEN.to_darts(), f"\n{GIVEN.to_darts()}\n\n", GIVEN.to_json() + "\n"]
)
def test_file(name, text, here, monkeypatch):
    (here / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("HOME", str(here))
    for given in (name, f"./{name}", str(here / name), f"~/{name}"):
        assert resolve(given) == ("mine", GIVEN)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark(encoding, here):
    for name, text in (("a", GIVEN.to_json()), ("b", f"MINE = {GIVEN.to_darts()}")):
        (here / name).write_text(text, encoding=encoding)
        assert resolve(name) == (name, GIVEN)
    assert resolve(f"MINE = {GIVEN.to_darts()}") == ("given", GIVEN)


def test_a_log_and_a_run_of_the_other_space(here):
    (here / "log.txt").write_text(
        f"epoch 599\n10/27 12:00:01 PM genotype = {GIVEN.to_darts()}\nbye\n", encoding="utf-8"
    )
    with pytest.warns(UserWarning, match="what stands around it"):
        assert resolve("log.txt") == ("log", GIVEN)
    cell = NASBench201Genotype(("none",) * 6)
    (here / "run").mkdir()
    (here / "run" / "genotype.json").write_text(cell.to_json(), encoding="utf-8")
    for given in ("run", cell.to_text()):
        with pytest.raises(GenotypeError, match="a cell of NAS-Bench-201"):
            resolve(given)


# --- what is not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "near"),
    [
        *[(other, name) for name in ZOO for other in (name.lower(), name.capitalize(), name + "x") if other not in ZOO],
        *[("stn", "SETN"), ("setm", "SETN"), ("gads", "GDAS"), ("darts-v1", "DARTS_V1"), ("DARTSV2", "DARTS_V2")],
    ],
)
def test_a_misspelt_name_offers_the_nearest(given, near, here):
    with pytest.raises(GenotypeError, match=rf"{given}' given; did you mean '{near}'\? Allowed are ") as error:
        resolve(given)
    assert ", ".join(ZOO) in str(error.value)


def test_an_unknown_name_offers_none(here):
    assert not difflib.get_close_matches("resnet50", [name.lower() for name in ZOO])
    for given in ("resnet50", "no/such/folder", "nothing.json"):
        with pytest.raises(GenotypeError, match=rf"'{given}' given; Allowed are {', '.join(ZOO)}, the run folder"):
            resolve(given)


def test_what_is_no_path(here):
    """Too long for one, of a user that is not, empty, or with a character that none has."""
    for given in ("x" * 5000, "x/" * 5000, "~no-such-user-at-all/genotype.json", "a\0b", "\n"):
        with pytest.raises(GenotypeError, match=r"^genotype: .* given; .*Allowed are SETN") as error:
            resolve(given)
        assert len(str(error.value)) < 1000
    with pytest.raises(GenotypeError, match="genotype"):
        resolve("")


def test_a_folder_without_a_genotype(here):
    (here / "run").mkdir()
    with pytest.raises(
        GenotypeError, match=r"run is no run folder of a finished search: genotype\.json cannot be read"
    ):
        resolve("run")
    (here / "run" / "genotype.json").mkdir()
    with pytest.raises(
        GenotypeError, match=r"run is no run folder of a finished search: genotype\.json cannot be read"
    ):
        resolve("run")


BINARY = (b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n\x00", bytes(range(256)), b"\x80\x04\x95")


@pytest.mark.parametrize("content", BINARY)
def test_a_binary_file(content, here):
    (here / "file").write_bytes(content)
    (here / "run").mkdir()
    (here / "run" / "genotype.json").write_bytes(content)
    for given in ("file", "run"):
        with pytest.raises(GenotypeError, match=r"^genotype: .* cannot be read \('utf-\S+ codec"):
            resolve(given)


MALFORMED = (
    "",
    "{",
    "Genotype(",
    "Genotype()",
    "null",
    "[1, 2]",
    "{}",
    "a text",
    "\0",
    GIVEN.to_json()[:-1],
    GIVEN.to_darts()[:-1],
    GIVEN.to_darts() + ")",
    GIVEN.to_json().replace("sep_conv_3x3", "sep_conv_4x4"),
    GIVEN.to_darts().replace("normal_concat", "concat"),
    GIVEN.to_json().replace('"reduce_concat": [2]', '"reduce_concat": [9]'),
    *LATER,
)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_text(text, here):
    (here / "file.txt").write_text(text, encoding="utf-8")
    (here / "run").mkdir()
    (here / "run" / "genotype.json").write_text(text, encoding="utf-8")
    with pytest.raises(GenotypeError, match=r"^genotype: file\.txt: "):
        resolve("file.txt")
    with pytest.raises(GenotypeError, match=r"^genotype: run.genotype\.json: "):
        resolve("run")
    if text.startswith(("{", "Genotype(")):
        with pytest.raises(GenotypeError):
            resolve(text)


@pytest.mark.parametrize(
    ("text", "message"), [(LATER[0], r"normal, node 2: .* state 2"), (LATER[1], r"reduce, node 2: .* state 3")]
)
def test_an_input_that_is_a_later_node(text, message, here):
    fields = {"normal_concat": [2], "reduce_concat": [2]}
    with pytest.raises(GenotypeError, match=message + r"; this node can read 0 \.\. 1"):
        resolve(text)
    for name, state in (("normal", 2), ("reduce", 3)):
        cells = {"normal": [["sep_conv_3x3", 0], ["sep_conv_3x3", 1]], "reduce": [["none", 0], ["none", 1]]}
        cells[name] = [["sep_conv_3x3", state], ["sep_conv_3x3", 1]]
        with pytest.raises(GenotypeError, match=rf"{name}, node 2: sep_conv_3x3 reads state {state}"):
            resolve(json.dumps({**fields, **cells}))


# --- nothing is evaluated ---------------------------------------------------------------------------------

TOUCH = "__import__('pathlib').Path('executed').touch()"
BOMBS = (
    f"Genotype(normal={TOUCH}, normal_concat=[2], reduce=[], reduce_concat=[2])",
    f"Genotype(normal=[('sep_conv_3x3', {TOUCH})], normal_concat=[2], reduce=[], reduce_concat=[2])",
    f"Genotype(normal=range({TOUCH}), normal_concat=[2], reduce=[], reduce_concat=[2])",
    f"Genotype({TOUCH})",
    f"Genotype(**{{'normal': {TOUCH}}})",
    f"Genotype(normal=[{TOUCH} for _ in range(1)], normal_concat=[2], reduce=[], reduce_concat=[2])",
    f"Genotype(normal=1) if {TOUCH} else 2",
    f'Genotype(normal=f"{{{TOUCH}}}")',
    f"{{'normal': {TOUCH}}}",
    TOUCH,
)


@pytest.mark.parametrize("text", BOMBS)
def test_nothing_is_evaluated(text, here):
    (here / "file").write_text(text, encoding="utf-8")
    (here / "run").mkdir()
    (here / "run" / "genotype.json").write_text(text, encoding="utf-8")
    for given in (text, "file", "run", "run/genotype.json"):
        with pytest.raises(GenotypeError):
            resolve(given)
    assert not (here / "executed").exists()
    assert sorted(path.name for path in here.iterdir()) == ["file", "run"]


@pytest.mark.parametrize("text", BOMBS)
def test_these_texts_would_create_a_file(text, here):
    eval(text, {"Genotype": lambda *_, **__: None, "range": lambda *_: [0]})
    assert (here / "executed").exists()
