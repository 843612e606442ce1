"""What the inspectors say of run folders that are missing, empty, damaged or of another version: one sentence each."""

import itertools
import json
import math

import pytest
from journals import change
from written_run import write_journal, write_run

from setn_lab.inspection import reading
from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.runs.journal import read_journal
from setn_lab.space.zoo import ZOO

READERS = {
    "metrics.jsonl": reading.read_metrics,
    "evaluator.jsonl": reading.read_history,
    "candidates.jsonl": reading.read_candidates,
}
EVERY = [*READERS.values(), reading.read_scores]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", nodes=2)


def shown(read):
    return repr(vars(read) if hasattr(read, "space") or hasattr(read, "winner") else read)


def refusal(reader, folder, *words):
    """The message with which a reader refuses: one plain sentence in which the words stand."""
    with pytest.raises(InspectionError) as info:
        reader(folder)
    text = str(info.value)
    assert "\n" not in text
    assert not text.endswith(".")  # the inspectors put one there
    assert all(str(word) in text for word in words), text
    return text


@pytest.mark.parametrize("reader", EVERY)
def test_folders_that_are_none(tmp_path, reader):
    refusal(reader, tmp_path / "nowhere", tmp_path / "nowhere", "does not exist")
    refusal(reader, tmp_path, tmp_path, "config.json")
    (tmp_path / "file").write_text("", encoding="utf-8")
    refusal(reader, tmp_path / "file", tmp_path / "file")


@pytest.mark.parametrize("text", ["", '{"space": "small", "no', "[1]", "3", b"\xff", "null"])
@pytest.mark.parametrize("reader", EVERY)
def test_a_config_that_is_torn_or_no_object(run, reader, text):
    (run / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refusal(reader, run, run / "config.json")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"space": "small"},
        {"nodes": 2},
        {"space": "huge", "nodes": 2},
        {"space": ["small"], "nodes": 2},
        {"space": "small", "nodes": "2"},
        {"space": "small", "nodes": None},
        {"space": "small", "nodes": 0},
    ],
    ids=str,
)
def test_a_config_of_another_version(run, config):
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for reader in (reading.search_space, reading.read_history, reading.read_candidates):
        refusal(reader, run, run / "config.json")
    assert reading.read_metrics(run)


@pytest.mark.parametrize(("name", "reader"), [*READERS.items(), ("candidates.jsonl", reading.read_scores)])
def test_a_torn_last_line_is_passed_over_and_a_damaged_one_is_not(run, name, reader):
    path = run / name
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:3]))
    expected = shown(reader(run))
    for torn in (b"".join(whole[:3]) + whole[3][:20], b"".join(whole[:4])[:-2]):
        path.write_bytes(torn)
        assert shown(reader(run)) == expected
    path.write_bytes(whole[0] + whole[1][:20] + b"\n" + whole[2])
    refusal(reader, run, path, "line 2")
    path.write_bytes(b"")
    refusal(reader, run, run, "yet")
    path.write_bytes(whole[0][:20])  # nothing but a torn line
    refusal(reader, run, run, "yet")
    path.unlink()
    refusal(reader, run, run, "yet")
    path.mkdir()
    refusal(reader, run, path, "cannot be read")


def test_a_search_without_candidates_yet(tmp_path):
    folder = write_run(tmp_path / "run", candidates=0)
    refusal(reading.read_candidates, folder, folder, "No candidate")
    assert len(reading.read_history(folder).epochs) == 4


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("evaluator.jsonl", ("epoch", "f", "g", "h")),
        ("candidates.jsonl", ("genotype", "loss", "accuracy", "log_probability", "draws", "images")),
    ],
)
def test_a_record_that_lacks_a_field_or_has_text_there(run, name, keys):
    path = run / name
    whole = path.read_bytes()
    for key, value in itertools.product(keys, (KeyError, "text", [[1, 2]], {})):
        if key == "genotype" and not isinstance(value, str | type):
            continue  # see test_a_genotype_that_is_no_text
        change(run, name, key, value, place=1)
        refusal(READERS[name], run, path, *([f"'{key}' is missing"] if value is KeyError else []))
        path.write_bytes(whole)


def test_distributions_of_another_shape(run, tmp_path):
    larger = read_journal(write_run(tmp_path / "larger", nodes=3) / "evaluator.jsonl")
    records = read_journal(run / "evaluator.jsonl")
    for name in "fgh":
        for places in ([1], range(4)):  # in one record, or in all
            wrong = [{**one, name: larger[i][name]} if i in places else one for i, one in enumerate(records)]
            write_journal(run / "evaluator.jsonl", wrong)
            refusal(reading.read_history, run, run / "evaluator.jsonl")


@pytest.mark.parametrize("genotype", [ZOO["SETN"].genotype.to_darts(), "Genotype(", "print('hello')"])
def test_candidates_outside_of_the_space(run, genotype):
    change(run, "candidates.jsonl", "genotype", genotype, place=2)
    refusal(reading.read_candidates, run, run / "candidates.jsonl")
    assert len(reading.read_scores(run)) == 12  # which needs no genotypes


@pytest.mark.parametrize("cut", [0, 1, 40, -3])
def test_a_winner_that_is_half_written(run, cut):
    path = run / "genotype.json"
    path.write_text(path.read_text(encoding="utf-8")[:cut], encoding="utf-8")
    refusal(reading.read_candidates, run, path)


@pytest.mark.parametrize("genotype", [None, 3, [1], {}])
def test_a_genotype_that_is_no_text(run, genotype):
    change(run, "candidates.jsonl", "genotype", genotype)
    refusal(reading.read_candidates, run, run / "candidates.jsonl")


@pytest.mark.parametrize("value", [None, math.nan, 10**30], ids=["null", "NaN", "huge"])
@pytest.mark.parametrize("key", ["draws", "images"])
def test_counts_that_are_none(run, key, value):
    change(run, "candidates.jsonl", key, value)
    refusal(reading.read_candidates, run, run / "candidates.jsonl")


@pytest.mark.parametrize(("name", "key"), [("evaluator.jsonl", "epoch"), ("candidates.jsonl", "loss")])
def test_numbers_too_large_for_any_number(run, name, key):
    change(run, name, key, 10**400)
    refusal(READERS[name], run, run / name)


@pytest.mark.parametrize("name", ["config.json", "evaluator.jsonl"])
def test_json_that_is_nested_too_deeply(run, name):
    (run / name).write_text("[" * 100_000 + "\n{}\n", encoding="utf-8")
    refusal(reading.read_history, run, run / name)


def test_a_number_of_nodes_that_is_no_integer(run):
    (run / "config.json").write_text(json.dumps({"space": "small", "nodes": 2.0}), encoding="utf-8")
    refusal(reading.read_history, run, run / "config.json")


@pytest.mark.parametrize("given", ["x" * 300, "~nobody-of-that-name/run"], ids=["too long", "no such user"])
def test_a_folder_that_no_system_can_name(given):
    refusal(lambda name: reading.read_history(InspectConfig(run_dir=name).folder), given, given)


def test_a_written_choice_without_a_finite_loss_is_not_the_winner(run):
    chosen = reading.read_candidates(run).winner
    change(run, "candidates.jsonl", "loss", math.inf, chosen)
    scored = reading.read_candidates(run)
    losses = [one["loss"] for one in read_journal(run / "candidates.jsonl")]
    assert (scored.winner, scored.chosen) == (losses.index(min(losses)), False)
