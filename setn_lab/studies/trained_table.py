"""Tables of cells that others trained from scratch, and of networks that were trained twice.

The tables are the user's, CSV files; nothing of them is committed here. All that is wrong with one is found at once,
before anything is trained.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setn_lab.config import expanded, short_hash
from setn_lab.space.genotype import GenotypeError
from setn_lab.space.protocol import Space
from setn_lab.space.texts import decoded
from setn_lab.studies.groundtruth.table import TableError

GENOTYPE = "genotype"  # the column of the cells
DEFAULT_COLUMN = "cifar10_test"
SEEDS = "seed_1", "seed_2"
SHOWN = 20  # bad lines that an error lists

Problem = tuple[int, str]  # a line of the file and what is wrong with it


@dataclass(frozen=True, eq=False)
class TrainedCells:
    """Cells of one space that were trained from scratch, n of them, each once, in the order of the table.

    architectures: (n, cell types, ...), canonical. genotypes: their texts, n of them, as a journal's line holds them.
    accuracy: (n,) in percent.
    """

    path: Path
    architectures: NDArray[np.int64]
    genotypes: list[str]
    accuracy: NDArray[np.float64]

    def facts(self) -> dict[str, Any]:
        """What a run keeps of the table to notice that it has changed, see `config.contents`."""
        accuracies = self.accuracy.tolist()
        return {
            "digest": short_hash([self.genotypes, accuracies]),
            "where": str(self.path),
            "cells": len(accuracies),
            "lowest": min(accuracies),
            "mean": round(sum(accuracies) / len(accuracies), 4),
            "highest": max(accuracies),
        }


def load_cells(table: str | Path, column: str, space: Space) -> TrainedCells:
    """Read a CSV file with the columns `genotype` and `column`, accuracies in percent.

    Raises TableError, which names each bad line (of the first `SHOWN`) and why: a genotype that cannot be read or lies
    outside the space, one that is the same cell as another, an accuracy that is no number from 0 to 100; also where
    all are shares. Raises ConfigError for the home of a user that is not known.
    """
    path, rows, problems = _read(table, "table", (GENOTYPE, column))
    first: dict[bytes, int] = {}  # the line of each architecture
    architectures, accuracies = [], []
    for line, (text, value) in rows:
        try:
            architecture = space.canonical(space.encode(space.read(text)))
        except GenotypeError as error:
            problems.append((line, str(error)))
        else:
            same = first.setdefault(architecture.tobytes(), line)
            if same != line:
                problems.append((line, f"the same cell as in line {same}; each is allowed once"))
            architectures.append(architecture)
        accuracies += _percents(line, {column: value}, problems)
    _check(path, problems)
    _refuse_shares(path, column, accuracies)
    genotypes = [space.write(space.genotype(architecture)) for architecture in architectures]
    return TrainedCells(path, np.stack(architectures), genotypes, np.array(accuracies))


def load_two_seeds(table: str | Path) -> NDArray[np.float64]:
    """Read a CSV file of networks that were trained twice: (m, 2) accuracies in percent, its columns `SEEDS`.

    Raises what `load_cells` raises.
    """
    path, rows, problems = _read(table, "two_seeds", SEEDS)
    accuracies = [_percents(line, dict(zip(SEEDS, values, strict=True)), problems) for line, values in rows]
    _check(path, problems)
    for name, column in zip(SEEDS, zip(*accuracies, strict=True), strict=True):
        _refuse_shares(path, name, list(column))
    return np.array(accuracies)


def _read(table: str | Path, parameter: str, columns: tuple[str, ...]) -> tuple[Path, list[Any], list[Problem]]:
    """The file's path, (line, these columns of it) below its header, and what is wrong with its lines so far."""
    path = expanded(table, parameter).absolute()
    (_, header), *lines = _lines(path)
    names = [name.strip() for name in header]
    if any(names.count(name) != 1 for name in columns):
        raise TableError(
            f"{path}: the columns {' and '.join(map(repr, columns))} are needed, each once; it has "
            f"{', '.join(map(repr, names))}"
        )
    if not lines:
        raise TableError(f"{path} holds no line below its header; a line for each network is needed")
    places = [names.index(name) for name in columns]
    rows = [(line, [fields[place] for place in places]) for line, fields in lines if len(fields) == len(names)]
    why = "{} values stand there, and the header has {}: a genotype with commas stands in quotes"
    odd = [(line, why.format(len(fields), len(names))) for line, fields in lines if len(fields) != len(names)]
    return path, rows, odd


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The records of a CSV file, each with the number of its first line; empty lines are passed over."""
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is no CSV file: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found, line = [], 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                found.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{path}, line {line}: this is no CSV: {error}") from error
    if not found:
        raise TableError(f"{path} is empty; a CSV file with a header is needed")
    return found


def _percents(line: int, fields: Mapping[str, str], problems: list[Problem]) -> list[float]:
    """The accuracies that a line's fields hold, by column; what is wrong with them is added to the problems."""
    found = []
    for column, text in fields.items():
        try:
            found.append(float(text))
        except ValueError:
            problems.append((line, f"{column} is {text!r}; a number is needed"))
        else:
            if not 0 <= found[-1] <= 100:  # nor nan
                problems.append((line, f"{column} is {text}; percent from 0 to 100 are allowed"))
    return found


def _check(path: Path, problems: list[Problem]) -> None:
    """Raises TableError for the bad lines, if there are any."""
    if not problems:
        return
    listed = [f"line {line}: {why}" for line, why in sorted(problems)]
    more = [f"and {len(listed) - SHOWN} more"] if len(listed) > SHOWN else []
    raise TableError(f"{path} cannot be used:\n  " + "\n  ".join(listed[:SHOWN] + more))


def _refuse_shares(path: Path, column: str, accuracies: list[float]) -> None:
    """Raises TableError where the accuracies are no percent."""
    if max(accuracies) <= 1:
        raise TableError(
            f"{path}: {column} is at most {max(accuracies):g}; percent from 0 to 100 are needed, not shares"
        )
