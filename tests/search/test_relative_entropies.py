"""The entropies that the curves of a search show, against plain loops."""

import json
import math

import numpy as np
import pytest
from written_run import write_run

from setn_lab.kits import KITS
from setn_lab.runs.journal import read_journal
from setn_lab.search.results import SearchRun, relative_entropies
from setn_lab.space.setn import SearchSpace


def share(cells, choices):
    """The mean over cells and nodes of entropy / its maximum; choices(node) is the number of a node's choices."""
    found = [
        sum(-p * math.log(p) for p in node if p > 0) / math.log(choices(number))
        for cell in cells
        for number, node in enumerate(cell)
    ]
    return sum(found) / len(found)


def run_of(folder, space, records):
    """The run of these lines of evaluator.jsonl."""
    (folder / "evaluator.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    kit = KITS["nasbench201" if "alpha" in records[0] else "small"]
    return SearchRun(folder, {}, kit, space)


def test_shares_against_plain_loops(tmp_path):
    folder = write_run(tmp_path / "run", epochs=3, nodes=3)
    epochs, shares = relative_entropies(SearchRun.read(folder))
    records = read_journal(folder / "evaluator.jsonl")
    assert epochs.tolist() == [1, 2, 3]
    assert list(shares) == ["f", "g", "h"]
    for name, values in shares.items():
        choices = (lambda node: 21) if name == "h" else (lambda node: node + 2)
        assert values == pytest.approx([share(record[name], choices) for record in records])


def test_one_where_uniform_and_zero_where_decided(tmp_path):
    uniform = [[[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]] * 2
    decided = [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]] * 2
    records = [
        {"epoch": 1, "f": uniform, "g": uniform, "h": [[[1 / 3, 1 / 3, 1 / 3]] * 2] * 2},
        {"epoch": 2, "f": decided, "g": decided, "h": [[[0.0, 1.0, 0.0]] * 2] * 2},
    ]
    run = run_of(tmp_path, SearchSpace(("skip_connect", "sep_conv_3x3"), 2), records)
    for values in relative_entropies(run)[1].values():
        assert values == pytest.approx([1, 0], abs=1e-12)


def test_of_edges(tmp_path):
    alpha = np.random.default_rng(0).dirichlet(np.ones(5), (1, 6)).tolist()
    run = run_of(tmp_path, KITS["nasbench201"].space(4), [{"epoch": 1, "alpha": alpha}])
    assert relative_entropies(run)[1]["alpha"] == pytest.approx([share(alpha, lambda edge: 5)])


def test_one_operation_leaves_no_pair_to_choose(tmp_path):
    inputs = [[[0.4, 0.6, 0], [0.2, 0.3, 0.5]]] * 2
    records = [{"epoch": 1, "f": inputs, "g": inputs, "h": [[[1.0]] * 2] * 2}]
    _, shares = relative_entropies(run_of(tmp_path, SearchSpace(("skip_connect",), 2), records))
    assert np.isnan(shares["h"]).all()
    assert np.isfinite(shares["f"]).all()


def test_before_the_first_epoch_there_are_none(tmp_path):
    epochs, shares = relative_entropies(SearchRun.read(write_run(tmp_path / "run", epochs=0, candidates=0)))
    assert epochs.size == 0
    assert shares == {}
