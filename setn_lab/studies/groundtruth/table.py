"""Tables of true accuracies: every architecture of NAS-Bench-201, trained by the benchmark's authors.

The table is the user's, a CSV file with a column `arch` in the benchmark's text form, or the API of the package
nats_bench where it is installed. Nothing of it is committed here.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from setn_lab.config import expanded
from setn_lab.space import nasbench201
from setn_lab.space.genotype import GenotypeError
from setn_lab.space.nasbench201 import EDGES, OPERATIONS_201, Edges

COUNT = len(OPERATIONS_201) ** len(EDGES)  # 15,625
DEFAULT_COLUMN = "cifar10_test_200ep"


class TableError(ValueError):
    """The table cannot be used; the message says what is wrong with it and what is needed."""


@dataclass(frozen=True, eq=False)
class BenchmarkTable:
    """The true accuracy [%] of every architecture, by `space.nasbench201.number`: accuracy (15625,).

    validation, tested: of the same networks, of as many epochs, on validation and on test images of the column's data
    set (15625,); None where the table has no such columns.
    """

    source: str
    column: str
    accuracy: NDArray[np.float64]
    validation: NDArray[np.float64] | None = None
    tested: NDArray[np.float64] | None = None

    def of(self, architectures: Edges) -> NDArray[np.float64]:
        """The accuracies [%] of architectures (..., 6)."""
        return self.accuracy[nasbench201.number(architectures)]

    def rank(self, architectures: Edges) -> NDArray[np.int64]:
        """The ranks of architectures (..., 6) among all, 1 is the best; equal ones share the better rank."""
        ordered = np.sort(self.accuracy)
        return COUNT - np.searchsorted(ordered, self.of(architectures), side="right") + 1


def load_table(table: str | Path, column: str = DEFAULT_COLUMN) -> BenchmarkTable:
    """Read a CSV file with the columns `arch` and `column` (accuracies in percent), or the data of nats_bench.

    Those are a folder or a .pickle.pbz2 file, for which nats_bench has to be installed and `column` is of the form
    DATASET_test_EPOCHSep. Raises TableError unless there is each of the 15,625 architectures once, with an accuracy
    between 0 and 100, and ConfigError for the home of a user that is not known.
    """
    path = expanded(table, "table")
    if path.is_dir() or path.suffix == ".pbz2":
        return from_api(_api(path), column)
    try:
        header = pd.read_csv(path, nrows=0).columns.tolist()
        if "arch" not in header or column not in header:
            raise TableError(
                f"{path}: the columns 'arch' and {column!r} are needed; it has {', '.join(map(repr, header))}"
            )
        pair = _validation_pair(header, column)
        frame = pd.read_csv(path, usecols=["arch", column, *pair])
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise TableError(f"{path} is no CSV file: {error}") from error
    texts = frame["arch"].tolist()
    table_of = from_columns(str(path), column, texts, frame[column].tolist())
    if not pair:
        return table_of
    validation, tested = (from_columns(str(path), name, texts, frame[name].tolist()).accuracy for name in pair)
    return replace(table_of, validation=validation, tested=tested)


def _validation_pair(header: list[str], column: str) -> list[str]:
    """The columns DATASET_valid_EPOCHSep and DATASET_test_EPOCHSep of the same networks, those of the most epochs."""
    dataset = column.partition("_test_")[0]
    epochs = [int(found[1]) for name in header if (found := re.fullmatch(rf"{re.escape(dataset)}_valid_(\d+)ep", name))]
    for number in sorted(epochs, reverse=True):
        if (tested := f"{dataset}_test_{number}ep") in header:
            return [f"{dataset}_valid_{number}ep", tested]
    return []


def from_api(api: Any, column: str = DEFAULT_COLUMN) -> BenchmarkTable:
    """Ask `nats_bench.create(..., "tss")` for test accuracies: "cifar10_test_200ep" or "..._12ep", the mean over seeds.

    Raises TableError as `load_table` does.
    """
    match = re.fullmatch("(cifar10|cifar100|ImageNet16-120)_test_(12|200)ep", column)
    if match is None:
        raise TableError(
            f"{column!r} given; (cifar10|cifar100|ImageNet16-120)_test_(12|200)ep is needed for nats_bench"
        )
    dataset, epochs = match.groups()
    texts = [api.arch(index) for index in range(len(api))]
    values = [
        api.get_more_info(index, dataset, hp=epochs, is_random=False)["test-accuracy"] for index in range(len(api))
    ]
    return from_columns("nats_bench", column, texts, values)


def _api(path: Path) -> Any:
    try:
        import nats_bench  # not a dependency: the data is the user's, and so is what reads it
    except ImportError as error:
        raise TableError(
            f"{path} is read by the package nats_bench, which is not installed: give a CSV file"
        ) from error
    return nats_bench.create(str(path), "tss", fast_mode=path.is_dir(), verbose=False)


def from_columns(source: str, column: str, texts: list[Any], values: list[Any]) -> BenchmarkTable:
    """The table of these architectures, in any order, and accuracies [%]. Raises TableError as `load_table` does."""
    if len(texts) != COUNT:
        raise TableError(f"{source}: {len(texts)} architectures; the space has {COUNT}, and each is needed once")
    accuracy = np.full(COUNT, np.nan)
    for line, (text, value) in enumerate(zip(texts, values, strict=True), 1):
        try:
            place = nasbench201.number(nasbench201.NASBench201Genotype.from_text(str(text)).array)
            number = float(value)
        except (GenotypeError, TypeError, ValueError) as error:
            raise TableError(f"{source}, architecture {line}: {error}") from error
        if not 0 <= number <= 100:
            raise TableError(f"{source}, architecture {line}: {column} is {value}; percent from 0 to 100 are allowed")
        if not np.isnan(accuracy[place]):
            raise TableError(f"{source}, architecture {line}: {text} occurs twice; each is needed once")
        accuracy[place] = number
    if accuracy.max() <= 1:
        raise TableError(
            f"{source}: {column} is at most {accuracy.max():g}; percent from 0 to 100 are needed, not shares"
        )
    return BenchmarkTable(source, column, accuracy)
