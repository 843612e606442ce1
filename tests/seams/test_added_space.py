"""A search space from outside: its own classes and one row; search, report and inspectors then work on it."""

import json
from dataclasses import dataclass
from typing import ClassVar

import graphviz
import numpy as np
import pytest
import torch
from torch import nn

from setn_lab import kits
from setn_lab.evaluator.categorical import categorical, entropy, tempered
from setn_lab.figures.panels import mixing_panel
from setn_lab.inspection import pictures, reading, tables
from setn_lab.inspection.reading import InspectConfig
from setn_lab.kits import KITS, Kit
from setn_lab.network.nasbench201 import layout
from setn_lab.runs import Run
from setn_lab.search import SearchConfig, prepare_search, report, train
from setn_lab.search.candidates import search_candidates
from setn_lab.space.genotype import GenotypeError
from setn_lab.template.nasbench201 import NASBench201Template

OPERATIONS = "skip_connect", "nor_conv_3x3", "avg_pool_3x3"


@dataclass(frozen=True)
class ChainGenotype:
    """The operations of a chain, one behind the other."""

    operations: tuple[str, ...]

    @classmethod
    def from_text(cls, text):
        operations = tuple(text.split(" > "))
        if not set(operations) <= set(OPERATIONS):
            raise GenotypeError(f"{text!r} given; operations among {OPERATIONS} with > between them are allowed")
        return cls(operations)

    def to_json(self):
        return json.dumps(list(self.operations))

    @classmethod
    def from_json(cls, text):
        return cls(tuple(json.loads(text)))


@dataclass(frozen=True)
class ChainSpace:
    """Node i applies one operation to node i - 1, the first one to the cell's input: cells (..., nodes)."""

    nodes: int
    operations: ClassVar[tuple[str, ...]] = OPERATIONS
    cell_types: ClassVar[int] = 1
    cell_names: ClassVar[tuple[str, ...]] = ("chain",)
    input_names: ClassVar[tuple[str, ...]] = ("x",)
    slots: ClassVar[int] = 1

    @property
    def edges(self):
        return tuple((node, state) for node in range(self.nodes) for state in range(node + 1))

    def inputs(self, node):
        return node + 1

    def sample(self, rng, *shape):
        return rng.integers(len(OPERATIONS), size=(*shape, self.nodes))

    connected = sample

    def fair(self, rng, *shape):
        return (self.sample(rng, *shape) + np.arange(3).reshape(-1, *[1] * (len(shape) + 1))) % 3

    def canonical(self, architectures):
        return architectures

    def terms(self, cell):
        return [[(operation, node)] for node, operation in enumerate(cell.tolist())]

    def operands(self, cells):
        return cells, np.broadcast_to(np.arange(self.nodes), cells.shape)

    def count_architectures(self):
        return len(OPERATIONS) ** self.nodes

    def genotype(self, architecture):
        return ChainGenotype(tuple(OPERATIONS[index] for index in architecture.ravel()))

    def encode(self, genotype):
        return np.array([[OPERATIONS.index(name) for name in genotype.operations]])

    def read(self, text):
        return ChainGenotype.from_text(text)

    def write(self, genotype):
        return " > ".join(genotype.operations)


class ChainEvaluator(nn.Module):
    """Logits (nodes, |O|)."""

    def __init__(self, space):
        super().__init__()
        self.space, self.alpha = space, nn.Parameter(torch.zeros(space.nodes, len(OPERATIONS)))

    def mixing_weights(self):
        weights = torch.zeros(1, len(self.space.edges), len(OPERATIONS), dtype=self.alpha.dtype)
        last = [self.space.edges.index((node, node)) for node in range(self.space.nodes)]
        return weights.index_put((torch.zeros(len(last), dtype=torch.long), torch.tensor(last)), self.alpha.softmax(-1))

    def distributions(self):
        return ChainDistributions(self.space, self.alpha.detach().double().softmax(-1).numpy()[None])


@dataclass(frozen=True)
class ChainDistributions:
    """p (1, nodes, |O|)."""

    space: ChainSpace
    p: np.ndarray

    def sample(self, rng, count):
        return categorical(self.p, rng, count)

    def argmax(self):
        return self.p.argmax(-1)

    most_likely = argmax

    def tempered(self, temperature):
        return ChainDistributions(self.space, tempered(self.p, temperature))

    def node_log_probability(self, architectures):
        p = np.broadcast_to(self.p, (*architectures.shape, len(OPERATIONS)))
        return np.log(np.take_along_axis(p, architectures[..., None], -1))[..., 0]

    def log_probability(self, architectures):
        return self.node_log_probability(architectures).sum((-2, -1))

    def entropies(self):
        return {"p": entropy(self.p)}

    def choices(self):
        return {"p": np.full(self.space.nodes, len(OPERATIONS))}

    def entropy(self):
        return float(entropy(self.p).sum())

    def mixing_weights(self):
        weights = np.zeros((*self.p.shape[:-2], len(self.space.edges), len(OPERATIONS)))
        weights[..., [self.space.edges.index((node, node)) for node in range(self.space.nodes)], :] = self.p
        return weights

    def panels(self, cell_type):
        return [[mixing_panel(self.space, self.mixing_weights()[..., cell_type, :, :], "operations")]]

    def preferences(self, cell_type):
        return [{"node": node, "operation": OPERATIONS[p.argmax()]} for node, p in enumerate(self.p[cell_type])]

    @classmethod
    def from_record(cls, space, record):
        return cls(space, np.array(record["p"]))

    def to_record(self):
        return {"p": self.p.tolist()}


def draw(genotype, caption=None, beside=None):
    graph = graphviz.Digraph()
    graph.node("all", " then ".join(genotype.operations))
    return graph


CHAIN = Kit(
    space=ChainSpace,
    genotype=ChainGenotype,
    evaluator=ChainEvaluator,
    distributions=ChainDistributions,
    template=NASBench201Template,
    layout=layout,
    draw=draw,
    networks=None,
    final_size=(4, 1),
    text_form="chain",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """A finished search of chains of three."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KITS, "chain", CHAIN)
        values = {**tiny, "space": "chain", "nodes": 3, "baseline_candidates": 9, "evaluator_lr": 0.1}
        config = SearchConfig(**{**values, "run_dir": str(folder / "run"), "cost_weight": 0.1, "sampling": "fair"})
        with Run.open(config, "search") as run:
            search = prepare_search(config, run)
            train(search, run)
            search_candidates(search, run)
        yield run.folder


def test_the_search_goes_through_it(finished):
    run = report.SearchRun.read(finished)
    records = run.journal("candidates")
    best = min(records, key=lambda record: record["loss"])["genotype"]
    assert " > ".join(run.genotype().operations) == best
    assert len(run.journal("evaluator")) == run.config["epochs"]
    weights = [one.mixing_weights() for one in run.evaluators()]
    assert np.abs(weights[-1] - weights[0]).max() > 0.01  # it learns


def test_its_report_is_written(finished, tmp_path):
    page = report.write(finished, tmp_path / "page")
    text = page.read_text(encoding="utf-8")
    assert "| chain | " in text
    assert "skip" in text
    drawn = (tmp_path / "page" / "cells.svg").read_text(encoding="utf-8")
    assert " then ".join(report.SearchRun.read(finished).genotype().operations) in drawn


def test_the_inspectors_show_it(finished):
    from setn_lab.widgets import CandidatesInspector, EvaluatorInspector, SamplingInspector

    history, scored = reading.read_history(finished), reading.read_candidates(finished)
    assert [row["node"] for row in history.at(-1).preferences(0)] == [0, 1, 2]
    assert len(tables.preferences(history.at(-1))) == 1
    picture = pictures.evaluator_picture(history, 0)
    assert picture.png()
    assert scored.table["parameters [M]"].nunique() > 1
    config = InspectConfig(run_dir=str(finished), samples=20)
    for kind in (EvaluatorInspector, CandidatesInspector, SamplingInspector):
        assert kind(config).message.value == ""
        assert kind.figures(config)


def test_bad_values_are_refused_with_its_name_among_the_allowed(finished):
    with pytest.raises(ValueError, match=r"space: 'chian' .*did you mean chain\?.*'chain'"):
        SearchConfig(space="chian")
    assert kits.KITS["chain"] is CHAIN
