"""What a search's run folder holds, read for the inspectors while the search may still be writing it.

Nothing here takes the run's lock or changes a file. Whatever cannot be shown raises InspectionError, whose message
is a sentence to put where the picture would have been.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from setn_lab.config import ConfigError, bounded, unhashed, validate
from setn_lab.evaluator.protocol import DistributionsProtocol
from setn_lab.kits import KITS, Kit
from setn_lab.network.costs import CostTable
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.lock import in_use
from setn_lab.runs.place import found, root_folder, run_folder
from setn_lab.space.genotype import GenotypeError
from setn_lab.space.protocol import Space

JOURNALS = "metrics.jsonl", "evaluator.jsonl", "candidates.jsonl", "baseline.jsonl", "genotype.json"


class InspectionError(ValueError):
    """There is nothing to show; the message says what is missing or wrong, and what would help."""


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """The parameters of the inspectors. Raises ConfigError."""

    # runs
    run_dir: str | None = unhashed(None)  # None: the search that was written last
    compare: str | None = None  # further run folders, separated by commas

    # samples
    samples: int = bounded(1000, at_least=1, at_most=100_000)  # architectures drawn from the evaluator
    temperature: float = bounded(1.0, at_least=0.1, at_most=10.0)  # of these draws
    seed: int = bounded(0, at_least=0)

    # page
    interactive: bool = unhashed(True)  # widgets, False: static figures only

    def __post_init__(self) -> None:
        """Check every field."""
        validate(self)
        if self.compare is not None and not all(self.others):
            raise ConfigError(
                f"compare: {self.compare!r} given; run folders separated by commas are allowed, as in runs/a,runs/b"
            )

    @property
    def others(self) -> list[str]:
        """The further run folders."""
        return [] if self.compare is None else [folder.strip() for folder in self.compare.split(",")]

    @property
    def folder(self) -> Path:
        """The run folder to inspect. Raises InspectionError where none is given and none was made yet."""
        return newest_search() if self.run_dir is None else folder_of(self.run_dir)

    @property
    def root(self) -> Path:
        """The folder of all runs: that of `run_dir`, or where runs lie."""
        return root_folder() if self.run_dir is None else self.folder.absolute().parent


@dataclass(frozen=True)
class History:
    """The evaluator's distributions after each recorded epoch.

    everything: all records at once, each array with E in front, for what distributions compute along the last axes.
    """

    kit: Kit
    space: Space
    epochs: NDArray[np.int64]  # (E,), from 1
    everything: Any  # DistributionsProtocol, a frozen dataclass

    def at(self, index: int) -> DistributionsProtocol:
        """The distributions of one record, 0 .. E-1."""
        arrays: dict[str, Any] = {name: getattr(self.everything, name)[index] for name in array_names(self.everything)}
        return replace(self.everything, **arrays)


def array_names(distributions: Any) -> list[str]:
    """What the distributions are called: f, g and h, or alpha."""
    return [field.name for field in fields(distributions) if field.name != "space"]


@dataclass(frozen=True, eq=False)
class Scored:
    """The scored candidates, in the order of their draw, and the winner's place among them.

    table: rank (1 is the lowest loss), loss [nats], accuracy [%], log-probability [nats], draws, images, and the
    parameters [M] and multiply-adds [M] of the paper's CIFAR network (C = 36, N = 6), or of the benchmark's (C = 16,
    N = 5). chosen: whether the winner is the one that the search wrote down, or only the best so far; None where no
    candidate has a finite loss.
    """

    kit: Kit
    space: Space
    genotypes: list[Any]  # of the space
    table: pd.DataFrame
    winner: int | None
    chosen: bool


def folder_of(text: str) -> Path:
    """The folder that a user names. Raises InspectionError where there is none, which says where was looked."""
    try:
        return found(text, "run_dir")
    except ConfigError as error:
        raise InspectionError(str(error)) from error


def compared_folder(text: str) -> Path:
    """The same of a further run, whether it is there or not: the others are shown without it."""
    try:
        return run_folder(text, "compare")
    except ConfigError as error:
        raise InspectionError(str(error)) from error


def newest_search() -> Path:
    """The search's run folder that was written last, failed starts aside. Raises InspectionError without any."""
    parent = root_folder()
    folders = [path.parent for path in parent.glob("search-*/config.json")]
    if not folders:
        raise InspectionError(
            f"No search has been run yet: {parent} holds none. Run notebooks/search.ipynb, or give run_dir"
        )
    begun = [folder for folder in folders if (folder / "metrics.jsonl").exists() or in_use(folder)]
    return max(begun or folders, key=lambda folder: max(stamp(folder)))


def stamp(folder: Path) -> tuple[tuple[int, int], ...]:
    """(time of the last change in ns, bytes) of what the inspectors read: equal stamps mean that nothing changed."""
    found = []
    for name in ("config.json", *JOURNALS):
        try:
            status = (folder / name).stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def read_config(folder: Path) -> dict[str, Any]:
    """The parameters of the run. Raises InspectionError where the folder is gone, empty or of another kind."""
    with sentence(folder):
        is_folder = folder.is_dir()
    if not is_folder:
        raise InspectionError(f"The run folder {folder} does not exist (any more): give another run_dir")
    path = folder / "config.json"
    if not path.exists():
        raise InspectionError(f"{folder} is empty or no run folder: it has no config.json")
    with sentence(path):
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    return config


def search_space(folder: Path) -> tuple[Kit, Space]:
    """The search space of the run, and all that belongs to it.

    Raises InspectionError as `read_config` does, and for one of another version.
    """
    config = read_config(folder)
    with sentence(folder / "config.json"):
        if type(config["nodes"]) is not int:
            raise TypeError(f"nodes is {config['nodes']!r}, no integer")
        kit = KITS[config["space"]]
        return kit, kit.space(config["nodes"])


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """A record for each epoch so far. Raises InspectionError where there is none."""
    read_config(folder)
    return _records(folder / "metrics.jsonl", "No epoch has been recorded yet")


def read_history(folder: Path) -> History:
    """The evaluator's distributions so far. Raises InspectionError where there are none or they do not fit."""
    kit, space = search_space(folder)
    path = folder / "evaluator.jsonl"
    records = _records(path, "No epoch has been recorded yet")
    with sentence(path):
        epochs = np.array([record["epoch"] for record in records], dtype=np.int64)
        fresh = kit.evaluator(space).distributions()
        arrays: dict[str, Any] = {}
        for name in array_names(fresh):
            arrays[name] = np.array([record[name] for record in records], dtype=np.float64)
            shape = getattr(fresh, name).shape
            if arrays[name].shape != (len(records), *shape):
                raise ValueError(f"{name} has the shape {arrays[name].shape[1:]}, not {shape}")
    return History(kit, space, epochs, replace(fresh, **arrays))


def read_scores(folder: Path) -> pd.DataFrame:
    """The loss [nats] and the accuracy [%] of the candidates so far. Raises InspectionError where there are none."""
    read_config(folder)
    path = folder / "candidates.jsonl"
    records = _records(path, "No candidate has been scored yet")
    with sentence(path):
        loss, accuracy = (np.array([record[name] for record in records], dtype=float) for name in ("loss", "accuracy"))
    return pd.DataFrame({"loss": loss, "accuracy [%]": 100 * accuracy})


def read_scored(folder: Path, journal: str) -> list[dict[str, Any]]:
    """The records of "candidates" or of uniform ones, "baseline", with what was scored; none where nothing was.

    Raises InspectionError for a record that lacks something.
    """
    read_config(folder)
    path = folder / f"{journal}.jsonl"
    with sentence(path):
        records = read_journal(path)
        for record in records:
            record["loss"] = math.nan if record["loss"] is None else float(record["loss"])
            record["log_probability"] = float(record["log_probability"])
            _count(record["images"])
    return records


def read_candidates(folder: Path) -> Scored:
    """The candidates scored so far. Raises InspectionError where there are none or they do not fit."""
    kit, space = search_space(folder)
    path = folder / "candidates.jsonl"
    records = _records(path, "No candidate has been scored yet")
    with sentence(path):
        genotypes = [space.read(record["genotype"]) for record in records]
        quadruples = np.stack([space.encode(genotype) for genotype in genotypes])
        names = ("loss", "accuracy", "log_probability")
        column = {name: np.array([record[name] for record in records], dtype=float) for name in names}
        draws, images = (np.array([_count(record[name]) for record in records]) for name in ("draws", "images"))
    tables = _final_costs(kit, space)  # type: ignore[arg-type]
    parameters, multiply_adds = ([costs.of(drawn) / 1e6 for drawn in quadruples] for costs in tables)
    loss = np.where(np.isfinite(column["loss"]), column["loss"], np.inf)
    rank = np.empty(len(loss), dtype=int)
    rank[np.argsort(loss, kind="stable")] = np.arange(1, len(loss) + 1)
    table = pd.DataFrame(
        {
            "rank": rank,
            "loss": column["loss"],
            "accuracy [%]": 100 * column["accuracy"],
            "log-probability": column["log_probability"],
            "draws": draws,
            "images": images,
            "parameters [M]": parameters,
            "multiply-adds [M]": multiply_adds,
        }
    )
    winner, chosen = _winner(folder, genotypes, loss)
    return Scored(kit, space, genotypes, table, winner, chosen)


@lru_cache  # spaces are frozen dataclasses
def _final_costs(kit: Kit, space: Any) -> tuple[CostTable, CostTable]:
    """Parameters and multiply-adds of the space's networks for CIFAR."""
    return kit.final_costs(space, "parameters"), kit.final_costs(space, "multiply_adds")


def _winner(folder: Path, genotypes: list[Any], loss: NDArray[np.float64]) -> tuple[int | None, bool]:
    """The place of the search's choice, or of the lowest loss so far, and whether it is the choice."""
    path = folder / "genotype.json"
    if path.exists():
        with sentence(path):
            genotype = type(genotypes[0]).from_json(path.read_text(encoding="utf-8"))
        if genotype in genotypes and np.isfinite(loss[genotypes.index(genotype)]):
            return genotypes.index(genotype), True
    return (int(loss.argmin()), False) if np.isfinite(loss).any() else (None, False)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"a count is {value!r}")
    return value


def _records(path: Path, none: str) -> list[dict[str, Any]]:
    """The records of a journal. Raises InspectionError, with the words `none` where there is no record."""
    with sentence(path):
        records = read_journal(path)
    if not records:
        raise InspectionError(f"{none} in {path.parent}")
    return records


@contextmanager
def sentence(path: Path) -> Iterator[None]:
    """Turn what reading a file of another version, a damaged one or one that was just deleted raises into a message."""
    try:
        yield
    except InspectionError:
        raise
    except OSError as error:
        raise InspectionError(f"{path} cannot be read: {error.strerror or error}") from error
    except (RunError, GenotypeError) as error:
        raise InspectionError(f"{path} cannot be shown: {error}") from error
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise InspectionError(
            f"{path} cannot be shown: {what}. It is damaged, or of another version of setn_lab"
        ) from error
