"""What one edit of a candidate does: the scored architectures that differ from it in one operation or one input."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from setn_lab.inspection import reading
from setn_lab.inspection.reading import Scored, sentence
from setn_lab.space.names import label, state_name
from setn_lab.space.protocol import Space

Term = tuple[int, int]  # the places of an operation and of the state that it reads
Terms = list[list[list[Term]]]  # of an architecture: cell types, nodes, what a node sums
COLUMNS = ["what differs", "loss", "loss, difference", "accuracy [%]", "drawn", "images"]
NUMBERS = ["loss", "loss, difference", "accuracy [%]"]


@dataclass(frozen=True, eq=False)
class Pool:
    """All that a search has scored, candidates first: (n,) each. terms: of each architecture.

    drawn: by the evaluator, uniform, or both. An architecture of both is there once, as a candidate.
    """

    space: Space
    terms: list[Terms]
    loss: NDArray[np.float64]  # nats
    accuracy: NDArray[np.float64]  # %
    images: NDArray[np.int64]
    drawn: list[str]


def neighbours(folder: Path, place: int) -> pd.DataFrame:
    """The scored neighbours of the candidate at that place, in the order of the draw; the lowest loss comes first.

    A row each: what differs, in words, loss [nats], its difference from the candidate's, accuracy [%], by what it was
    drawn, and on how many images it was scored. There is no difference of losses on different images, as a race leaves
    them. Raises InspectionError where there are no candidates.
    """
    return neighbours_in(pool(folder, reading.read_candidates(folder)), place)


def pool(folder: Path, scored: Scored) -> Pool:
    """The candidates and the uniform architectures of a run folder. Raises InspectionError for damaged ones."""
    space = scored.space
    uniform = reading.read_scored(folder, "baseline")
    with sentence(folder / "baseline.jsonl"):
        others = [space.read(record["genotype"]) for record in uniform]
        accuracies = [100 * float(record["accuracy"]) for record in uniform]
    known = {genotype: place for place, genotype in enumerate(scored.genotypes)}
    drawn = ["evaluator"] * len(known)
    for genotype in others:
        if genotype in known:
            drawn[known[genotype]] = "both"
    new = [place for place, genotype in enumerate(others) if genotype not in known]
    with sentence(folder / "baseline.jsonl"):
        terms = [_terms(space, genotype) for genotype in [*scored.genotypes, *(others[place] for place in new)]]
    table = scored.table
    return Pool(
        space,
        terms,
        np.array([*table["loss"], *(uniform[place]["loss"] for place in new)]),
        np.array([*table["accuracy [%]"], *(accuracies[place] for place in new)]),
        np.array([*table["images"], *(uniform[place]["images"] for place in new)]),
        [*drawn, *["uniform"] * len(new)],
    )


def neighbours_in(pool: Pool, place: int) -> pd.DataFrame:
    """`neighbours` of what was read before."""
    edits = {other: edit(pool.terms[place], terms) for other, terms in enumerate(pool.terms)}
    rows = []
    for other, found in edits.items():
        if found is None:
            continue
        alike = pool.images[other] == pool.images[place]
        difference = pool.loss[other] - pool.loss[place] if alike else np.nan
        words, by = _words(pool.space, *found), pool.drawn[other]
        rows.append((words, pool.loss[other], difference, pool.accuracy[other], by, pool.images[other]))
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(NUMBERS, "float64"))
    return table.sort_values("loss", kind="stable", ignore_index=True)


def edit(before: Terms, after: Terms) -> tuple[int, int, Term, Term] | None:
    """(cell type, node, term before, term after) where two architectures differ in one operation or in one input.

    The order of what a node sums does not matter. None where they are the same or differ in more.
    """
    nodes = [
        (cell_type, node)
        for cell_type, cells in enumerate(zip(before, after, strict=True))
        for node, (old, new) in enumerate(zip(*cells, strict=True))
        if old != new  # sorted
    ]
    if len(nodes) != 1:
        return None
    ((cell_type, node),) = nodes
    old, new = Counter(before[cell_type][node]), Counter(after[cell_type][node])
    gone, come = list((old - new).elements()), list((new - old).elements())
    if len(gone) != 1 or len(come) != 1 or not (gone[0][0] == come[0][0] or gone[0][1] == come[0][1]):
        return None
    return cell_type, node, gone[0], come[0]


def in_words(found: pd.DataFrame, name: str) -> str:
    """How many neighbours of the candidate of that name there are, and how they compare with it."""
    if found.empty:
        return f"No architecture that differs from {name} in one operation or one input was scored."
    differences = found["loss, difference"].dropna()
    count = "One scored architecture differs" if len(found) == 1 else f"{len(found)} scored architectures differ"
    text = f"{count} from {name} in one operation or one input"
    if differences.empty:
        return f"{text}, on other images."
    better = int((differences < 0).sum())
    return (
        f"{text}; {better} of {len(differences)} have a lower loss. The mean difference is {differences.mean():+.4f} "
        "nats."
    )


def _terms(space: Space, genotype: Any) -> Terms:
    return [[sorted(node) for node in space.terms(cell)] for cell in space.encode(genotype)]


def _words(space: Space, cell_type: int, node: int, gone: Term, come: Term) -> str:
    old, new = (
        f"{label(space.operations[operation])} ← {state_name(space, state, formula=False)}"
        for operation, state in (gone, come)
    )
    return f"{space.cell_names[cell_type]}, node {node}: {new} instead of {old}"
