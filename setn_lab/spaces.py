"""The two search spaces side by side: what belongs to which, and what their parts are called."""

from typing import Any

from setn_lab.edge_evaluator import EdgeDistributions, EdgeEvaluator
from setn_lab.edge_space import EdgeSpace
from setn_lab.edge_template import EdgeTemplate
from setn_lab.evaluator import Distributions, Evaluator
from setn_lab.space import OPERATION_SETS, SearchSpace, Space
from setn_lab.template import Template


def parts(space: str, nodes: int) -> tuple[Space, Any]:
    """A search space by its name, and the class of its template."""
    if space == "nasbench201":
        return EdgeSpace(), EdgeTemplate
    return SearchSpace(OPERATION_SETS[space], nodes), Template


def new_evaluator(space: Space) -> Evaluator | EdgeEvaluator:
    """The evaluator of a search space, which has learned nothing."""
    return EdgeEvaluator(space) if isinstance(space, EdgeSpace) else Evaluator(space)  # type: ignore[arg-type]


def distributions(space: Space, record: dict[str, Any]) -> Distributions | EdgeDistributions:
    """From a line of evaluator.jsonl."""
    return type(new_evaluator(space).distributions()).from_record(space, record)  # type: ignore[arg-type]


def kind_names(space: Space) -> tuple[str, ...]:
    """What the kinds of cells are called."""
    return ("normal cell", "reduction cell") if space.kinds == 2 else ("cell",)


def final_size(space: Space) -> tuple[int, int]:
    """C and N of the paper's CIFAR networks, or of NAS-Bench-201's."""
    return (16, 5) if isinstance(space, EdgeSpace) else (36, 6)


def edge_names(space: Space) -> list[str]:
    """What the edges of a cell are called, in the order of `space.edges`."""
    return [f"{state_name(state, space)} → node {node}" for node, state in space.edges]


def state_name(state: int, space: Space) -> str:
    """What the drawings call a state, as matplotlib writes it."""
    inputs = ("$c_{k-2}$", "$c_{k-1}$") if space.kinds == 2 else ("input",)
    return inputs[state] if state < len(inputs) else f"node {state - len(inputs)}"
