"""What the inspectors read of a run folder, against slow computation."""

import itertools
import json
import math
import os

import numpy as np
import pytest
from journals import change
from written_run import distributions, write_run

from setn_lab.config import ConfigError
from setn_lab.inspection import reading, tables
from setn_lab.inspection.reading import InspectConfig, InspectionError
from setn_lab.kits import KITS
from setn_lab.network.costs import cost
from setn_lab.network.discrete import CifarNetwork
from setn_lab.runs.journal import read_journal
from setn_lab.space.genotype import Genotype
from setn_lab.space.names import label
from setn_lab.space.setn import OPERATION_SETS, SearchSpace
from setn_lab.space.zoo import ZOO


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", nodes=2)


def set_losses(folder, losses):
    for place, loss in enumerate(losses):
        change(folder, "candidates.jsonl", "loss", loss, place)


# What is read


@pytest.mark.parametrize(("nodes", "space"), [(1, "small"), (2, "large"), (4, "small")])
def test_history_is_the_journal(tmp_path, nodes, space):
    folder = write_run(tmp_path / "run", epochs=3, nodes=nodes, space=space)
    history = reading.read_history(folder)
    assert (history.kit, history.space) == reading.search_space(folder)
    assert history.kit is KITS[space]
    assert history.space == SearchSpace(OPERATION_SETS[space], nodes)
    assert history.epochs.tolist() == [1, 2, 3]
    for index, line in enumerate((folder / "evaluator.jsonl").read_text(encoding="utf-8").splitlines()):
        record, now, every = json.loads(line), history.at(index), history.everything
        for name in "fgh":
            assert getattr(now, name).tolist() == getattr(every, name)[index].tolist() == record[name]
    assert history.at(-1).f.tolist() == history.at(2).f.tolist()


def test_metrics_are_the_journal(run):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert reading.read_metrics(run) == [json.loads(line) for line in lines]


@pytest.mark.parametrize(("nodes", "space"), [(1, "large"), (4, "small")])
def test_candidates_are_the_journal_with_ranks_and_sizes(tmp_path, nodes, space):
    folder = write_run(tmp_path / "run", nodes=nodes, space=space, candidates=9)
    records = read_journal(folder / "candidates.jsonl")
    scored = reading.read_candidates(folder)
    table = scored.table
    assert scored.genotypes == [Genotype.from_darts(one["genotype"]) for one in records]
    ordered = sorted(one["loss"] for one in records)
    assert table["rank"].tolist() == [1 + ordered.index(one["loss"]) for one in records]
    for column, key, unit in (
        ("loss", "loss", 1),
        ("accuracy [%]", "accuracy", 100),
        ("log-probability", "log_probability", 1),
        ("draws", "draws", 1),
        ("images", "images", 1),
    ):
        assert table[column].tolist() == [unit * one[key] for one in records]
    assert scored.chosen
    assert table["loss"][scored.winner] == ordered[0]
    assert scored.genotypes[scored.winner] == Genotype.from_json((folder / "genotype.json").read_text(encoding="utf-8"))
    for column, values in reading.read_scores(folder).items():
        assert values.tolist() == table[column].tolist()
    size = cost(CifarNetwork(scored.genotypes[3], 36, 6, 10), 32)
    assert table["parameters [M]"][3] == pytest.approx(size.parameters / 1e6)
    assert table["multiply-adds [M]"][3] == pytest.approx(size.multiply_adds / 1e6)


def test_the_winner_is_the_written_choice_or_else_the_best_so_far(run):
    scored = reading.read_candidates(run)
    other = (scored.winner + 1) % len(scored.genotypes)
    (run / "genotype.json").write_text(scored.genotypes[other].to_json(), encoding="utf-8")
    again = reading.read_candidates(run)
    assert (again.winner, again.chosen) == (other, True)
    for _ in range(2):  # without the file, and with one that names none of the candidates
        (run / "genotype.json").unlink()
        again = reading.read_candidates(run)
        assert (again.winner, again.chosen) == (scored.winner, False)
        (run / "genotype.json").write_text(ZOO["SETN"].genotype.to_json(), encoding="utf-8")


@pytest.mark.parametrize("lost", [math.nan, math.inf, None], ids=["NaN", "infinite", "null"])
def test_candidates_without_a_finite_loss_come_last_and_never_win(tmp_path, lost):
    folder = write_run(tmp_path / "run", nodes=1, candidates=6)
    (folder / "genotype.json").unlink()
    set_losses(folder, [lost, 3.0, lost, 1.0, 2.0, 1.0])
    scored = reading.read_candidates(folder)
    assert (scored.winner, scored.chosen) == (3, False)
    assert scored.table["rank"].tolist() == [5, 4, 6, 1, 3, 2]
    set_losses(folder, [lost] * 6)
    scored = reading.read_candidates(folder)
    assert (scored.winner, scored.chosen) == (None, False)
    assert sorted(scored.table["rank"]) == [1, 2, 3, 4, 5, 6]


def test_preferences_against_loops():
    space = SearchSpace(OPERATION_SETS["small"], 3)
    now = distributions(space, np.random.default_rng(3), 2.0)
    names = [label(name) for name in space.operations]
    pairs = [f"{a} + {b}" for i, a in enumerate(names) for b in names[: i + 1]]
    states = ["c_{k-2}", "c_{k-1}", "node 0", "node 1"]
    for kind, table in enumerate(tables.preferences(now)):
        assert table["node"].tolist() == [0, 1, 2]
        columns = zip("fgh", list(table)[1:4], list(table)[4:], (states, states, pairs), strict=True)
        for name, choice, entropy, texts in columns:
            assert name in entropy
            for node in range(3):
                p = getattr(now, name)[kind, node].tolist()
                best = max(range(len(p)), key=p.__getitem__)
                assert table[choice][node] == f"{texts[best]} ({p[best]:.{1 if name == 'h' else 0}%})"
                expected = sum(-value * math.log(value) for value in p if value > 0)
                assert table[entropy][node] == pytest.approx(expected)


@pytest.mark.parametrize("nodes", [1, 2])
def test_likeliest_against_every_encoding(nodes):
    space = SearchSpace(("skip_connect", "sep_conv_3x3"), nodes)
    pairs = [(0, 0), (1, 0), (1, 1)]
    seen = set()
    for seed in range(12):
        now = distributions(space, np.random.default_rng(seed), 0.5)
        best, argmax = 0.0, 0.0
        for kind, node in itertools.product(range(2), range(nodes)):
            f, g, h = (getattr(now, name)[kind, node] for name in "fgh")
            total = {}
            for (r, (r1, r2)), t, u in itertools.product(enumerate(pairs), range(2 + node), range(2 + node)):
                node_edges = tuple(sorted([(r1, t), (r2, u)]))
                total[node_edges] = total.get(node_edges, 0) + h[r] * f[t] * g[u]
            best += math.log(max(total.values()))
            most = pairs[int(h.argmax())]
            argmax += math.log(total[tuple(sorted(zip(most, (int(f.argmax()), int(g.argmax())), strict=True)))])
        genotype, text = tables.likeliest(now)
        assert now.log_probability(space.encode(genotype)) == pytest.approx(best)
        assert f"log-probability {best:.2f} nats" in text
        seen.add(argmax < best - 1e-9)
        assert ("it is the argmax" in text) == (argmax > best - 1e-9)
        if argmax < best - 1e-9:
            assert f"has {argmax:.2f}" in text
    assert seen == {True, False}  # both sentences were said


def test_differing_parameters_of_runs():
    configs = {"a": {"x": 1, "y": "s", "z": None}, "b": {"x": 1, "y": "t", "z": None}, "c": {"x": 1, "z": None, "w": 2}}
    table = tables.config_differences(configs)
    assert list(table) == ["parameter", "a", "b", "c"]
    assert table.to_numpy().tolist() == [["y", '"s"', '"t"', "-"], ["w", "-", "-", "2"]]
    assert tables.config_differences({"a": configs["a"]}).empty
    assert list(tables.config_differences({})) == ["parameter"]


def test_the_newest_search_is_the_one_written_last(tmp_path, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path / "runs"))
    config = InspectConfig()  # is made all the same
    with pytest.raises(InspectionError, match=r"runs\b.*search\.ipynb.*run_dir"):
        _ = config.folder
    folders = [write_run(tmp_path / "runs" / name, nodes=1) for name in ("search-a", "search-b", "retrain-c")]
    (tmp_path / "runs" / "search-empty").mkdir()
    for time, folder in enumerate(folders):
        for path in folder.iterdir():
            os.utime(path, (1000 + time, 1000 + time))
    assert InspectConfig().folder == reading.newest_search() == folders[1]
    os.utime(folders[0] / "metrics.jsonl", (2000, 2000))
    assert InspectConfig().folder == folders[0]
    assert InspectConfig(run_dir=str(folders[1])).folder == folders[1]


def test_a_stamp_changes_with_everything_that_is_read(run):
    stamps = [reading.stamp(run)]
    assert reading.stamp(run) == stamps[0]
    journals = "metrics.jsonl", "evaluator.jsonl", "candidates.jsonl", "baseline.jsonl"
    for name in ("config.json", *journals, "genotype.json"):
        with (run / name).open("a", encoding="utf-8") as file:
            file.write(" ")
        stamps.append(reading.stamp(run))
    for name in ("metrics.jsonl", "config.json"):
        (run / name).unlink()
        stamps.append(reading.stamp(run))
    (run / "lock").write_text("pid 1", encoding="utf-8")
    assert reading.stamp(run) == stamps[-1]  # nothing that is read
    assert len(set(stamps)) == len(stamps)
    assert reading.stamp(run / "nowhere") == ((0, 0),) * 6


# The parameters


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"compare": "runs/a,,runs/b"}, "compare"),
        ({"compare": ""}, "compare"),
        ({"compare": "runs/a, "}, "compare"),
        ({"samples": 0}, "samples"),
        ({"samples": 100_001}, "samples"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": 10.1}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"interactive": "yes"}, "interactive"),
    ],
)
def test_parameters_that_are_refused(values, word):
    with pytest.raises(ConfigError, match=word):
        InspectConfig(**values)


def test_further_runs_are_separated_by_commas(tmp_path, monkeypatch):
    assert InspectConfig().others == []
    assert InspectConfig(compare="runs/a, ~/b ,c").others == ["runs/a", "~/b", "c"]
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").mkdir()
    assert InspectConfig(run_dir="~/x").folder == tmp_path / "x"
