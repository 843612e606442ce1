"""The pairwise study of section 5.3: does one-shot accuracy rank networks as training from scratch does?

And progressive selection, from the same section: train the best one-shot candidates for longer, choose by the result.
Where a table holds cells that are trained already, those are scored, and no network is trained.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from setn_lab.compute.device import ready_device
from setn_lab.compute.spread import session, spread
from setn_lab.compute.workers import HERE, Workers
from setn_lab.config import ConfigError, bounded, choice, contents, later, unhashed
from setn_lab.data.batches import Augmentation
from setn_lab.data.sources import OnDevice
from setn_lab.kits import KITS, Extensions, Kit
from setn_lab.network.costs import CostTable
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import Retraining, check_head
from setn_lab.retrain.training import RetrainError, retrain_once
from setn_lab.runs.progress import Observer, Progress, of_part
from setn_lab.runs.run import Run, RunError, read_journal
from setn_lab.search.candidates import score
from setn_lab.search.config import Strategy
from setn_lab.search.setup import Search, prepare_search
from setn_lab.search.sources import Given, draw
from setn_lab.search.training import train
from setn_lab.space.genotype import Genotype
from setn_lab.studies.config import StudyConfig
from setn_lab.studies.trained_table import DEFAULT_COLUMN, TrainedCells, load_cells, load_two_seeds

TWICE = "two_seeds.json"


class _WithNetworks(Mapping[str, Kit]):
    """The rows of KITS whose discrete networks can be trained, those that are added later too."""

    def __getitem__(self, name: str) -> Kit:
        kit = KITS[name]
        if kit.networks is None:
            raise KeyError(name)
        return kit

    def __iter__(self) -> Iterator[str]:
        return (name for name, kit in KITS.items() if kit.networks is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, kw_only=True)
class RankingConfig(StudyConfig):
    """The parameters of the pairwise study; those of `retrain_` are section 5.2's recipe. Raises ConfigError."""

    presets: ClassVar[str] = "ranking"

    # search space
    space: str = choice("small", _WithNetworks())  # with 6 operations or 8

    # template
    strategy: Strategy = "setn"  # or a variant of section 4.4

    # searches to take
    search_run: str | None = unhashed(None)  # a search's run folder, None: the study's own

    # cells that are trained already
    table: str | None = later(None, before=None)  # a CSV file of genotypes and accuracies, None: networks are trained
    table_column: str = later(DEFAULT_COLUMN, before=DEFAULT_COLUMN)  # of the accuracies, in percent
    two_seeds: str | None = unhashed(None)  # a CSV file of networks trained twice, whose agreement is the ceiling

    # pairs
    pairs: int = bounded(1000, at_least=1)  # P
    pair_source: Literal["uniform", "evaluator"] = "uniform"

    # finalists
    finalists: int = bounded(0, at_least=0)  # so many of the best of T candidates are trained for longer
    finalist_epochs: int = bounded(600, at_least=1)

    # networks trained from scratch
    retrain_epochs: int = bounded(100, at_least=1)  # of each network of a pair
    retrain_channels: int = bounded(36, at_least=2)  # C
    retrain_repeats: int = bounded(6, at_least=1)  # N
    retrain_batch_size: int = bounded(96, at_least=2)
    retrain_weight_lr: float = bounded(0.025, above=0, at_most=1e30)
    retrain_weight_decay: float = bounded(5e-4, at_least=0)
    retrain_gradient_clip: float = bounded(5.0, above=0)  # norm
    retrain_path_dropout: float = bounded(0.2, at_least=0, below=1)  # rate at the end, in a line from 0
    retrain_auxiliary_weight: float = bounded(0.4, at_least=0)  # of the auxiliary head's loss
    retrain_cutout: int = bounded(16, at_least=0)  # side in pixels, 0: off

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.table is not None and self.finalists:
            raise ConfigError(
                f"finalists: {self.finalists} given with table, with which no network is trained; 0 is allowed with it"
            )
        for name, default in (("table_column", DEFAULT_COLUMN), ("two_seeds", None)):
            if self.table is None and getattr(self, name) != default:
                raise ConfigError(
                    f"{name}: {getattr(self, name)!r} given without table, on whose cells alone it has an effect: give "
                    f"-p table FILE, or leave {name} out"
                )

    def contents(self) -> dict[str, dict[str, Any]]:
        """The cells of the table and the images, see `config.contents`. Raises TableError and DataError."""
        facts = {} if self.table is None else {"table": self.cells().facts()}
        return {**super().contents(), **facts}

    def cells(self) -> TrainedCells:
        """The cells of the table. Raises TableError, which names every line that is wrong."""
        return load_cells(str(self.table), self.table_column, KITS[self.space].space(self.nodes))

    def recipe(self, epochs: int) -> RetrainConfig:
        """How a network is trained from scratch on D_train for so many epochs, all with the same seed."""
        own = {
            entry.name.removeprefix("retrain_"): getattr(self, entry.name)
            for entry in dataclasses.fields(self)
            if entry.name.startswith("retrain_")
        }
        shared = "dataset", "data_dir", "image_range", "weight_momentum", "crop_padding", "flip"
        machine = "precision", "deterministic", "device"
        same = {name: getattr(self, name) for name in (*shared, *machine, "seed")}
        return RetrainConfig(**same, **{**own, "epochs": epochs}, test_batch_size=self.scoring_batch_size)


@dataclass(frozen=True, eq=False)
class Bench:
    """What every worker needs to train networks: the recipe and the images, training on D_train, tested on D_val."""

    config: RetrainConfig
    source: OnDevice
    extensions: Extensions = field(default_factory=Extensions.here)  # operations that the networks may have

    @classmethod
    def of(cls, config: RetrainConfig, search: Search) -> "Bench":
        """The bench with the search's images, on the CPU.

        Raises ConfigError for an auxiliary head that does not fit them, and for a batch larger than D_train.
        """
        check_head(config, search.train.image_size, "retrain_auxiliary_weight")
        if config.batch_size > len(search.train):
            raise ConfigError(
                f"retrain_batch_size: {config.batch_size} given for {len(search.train)} images in D_train; at most "
                "that many are allowed"
            )
        augmentation = Augmentation(config.crop_padding, config.flip, config.cutout)
        sizes = config.batch_size, config.test_batch_size
        source = OnDevice(search.train, search.valid, search.normalization, augmentation, *sizes)
        return cls(config, source.to(torch.device("cpu")))


def collect(config: RankingConfig, run: Run, observe: Observer = lambda progress: None) -> None:
    """Train the search if it is not finished, score the pairs (acc_t), train each network from scratch (acc_r).

    With `table`, the cells of the table are scored, their accuracies are acc_r, and all their pairs are compared.
    The scores go to the journal `scored`, the trained networks to `trained`, a line each: an interrupted study goes on
    at the next of them. With `finalists`, the search's T candidates are scored into `candidates`, and the best are
    trained into the journal `finalists`; genotype.json is the best of these, to choose. Raises what `train` and
    `score` raise, ConfigError as `StudyConfig.search` and `Bench.of` do, RunError where a journal holds other networks,
    TableError.
    """
    with session(config.pool):
        (_score_table if config.table is not None else _train_pairs)(config, run, observe)


def _score_table(config: RankingConfig, run: Run, observe: Observer) -> None:
    """The study of cells that are trained already: `trained` holds what the table says, TWICE the ceiling's."""
    cells = config.cells()
    twice = None if config.two_seeds is None else load_two_seeds(config.two_seeds)
    search_config = config.search(config.strategy, config.search_run)
    with Run.open(search_config, "search") as own:
        search = prepare_search(search_config, own)
        train(search, own, observe)
        count = len(cells.architectures)
        score(search, run, Given(cells.architectures), count, "scored", observe, config.pool)
        run.write("runs.json", json.dumps({config.strategy: own.folder.name}) + "\n")
    sizes = _final_sizes(config, search)
    lines = [
        {
            "network": number,
            "genotype": cells.genotypes[number],
            **{name: round(costs.of(architecture)) for name, costs in sizes.items()},
            "accuracy": cells.accuracy[number] / 100,
        }
        for number, architecture in enumerate(cells.architectures)
    ]
    run.write("trained.jsonl", "".join(json.dumps(record) + "\n" for record in lines))
    if twice is None:
        (run.folder / TWICE).unlink(missing_ok=True)
    else:
        run.write(TWICE, json.dumps((twice / 100).tolist()) + "\n")


def _final_sizes(config: RankingConfig, search: Search) -> dict[str, CostTable]:
    """What the final networks cost on the images as they are, not averaged down as the template's may be."""
    images = contents(search.config)["dataset"]
    size = config.retrain_channels, config.retrain_repeats, images["channels"], images["side"], len(images["classes"])
    return {
        "parameters": search.kit.cost_table(search.space, *size, "parameters"),
        "multiply_adds": search.kit.cost_table(search.space, *size, "multiply_adds"),
    }


def _train_pairs(config: RankingConfig, run: Run, observe: Observer) -> None:
    search_config = config.search(config.strategy, config.search_run)
    with Run.open(search_config, "search") as own:
        search = prepare_search(search_config, own)
        bench = Bench.of(config.recipe(config.retrain_epochs), search)
        longer = Bench.of(config.recipe(config.finalist_epochs), search)
        train(search, own, of_part(observe, "search"))
        scored = score(
            search, run, config.pair_source, 2 * config.pairs, "scored", of_part(observe, "pairs"), config.pool
        )
        best: list[Genotype] = []
        if config.finalists:
            told = of_part(observe, "candidates")
            candidates = score(search, run, "evaluator", config.candidates, "candidates", told, config.pool)
            finite = [candidate for candidate in candidates if np.isfinite(candidate.loss)]
            ranked = sorted(finite, key=lambda candidate: candidate.loss)[: config.finalists]
            best = [candidate.genotype for candidate in ranked]
            kept = (
                {"genotype": candidate.genotype.to_darts(), "loss": candidate.loss, "accuracy": candidate.accuracy}
                for candidate in ranked
            )
            run.write("best.json", json.dumps(list(kept), indent=1) + "\n")
        run.write("runs.json", json.dumps({config.strategy: own.folder.name}) + "\n")
    run.write("pairs.json", json.dumps(pairs(config, search, [candidate.genotype for candidate in scored])) + "\n")
    told = of_part(observe, "networks of the pairs")
    train_networks(bench, [candidate.genotype for candidate in scored], run, "trained", told, config.pool)
    trained = train_networks(longer, best, run, "finalists", of_part(observe, "finalists"), config.pool)
    if successful := [record for record in trained if "accuracy" in record]:  # progressive selection: by the result
        chosen = max(successful, key=lambda candidate: candidate["accuracy"])
        run.write("genotype.json", Genotype.from_darts(chosen["genotype"]).to_json() + "\n")


def pairs(config: RankingConfig, search: Search, distinct: list[Genotype]) -> list[list[int]]:
    """The P pairs as they were drawn, each two positions in the distinct genotypes."""
    position = {genotype: number for number, genotype in enumerate(distinct)}
    drawn = draw(search, config.pair_source, 2 * config.pairs)
    places = [position[search.space.genotype(architecture)] for architecture in drawn]
    return [places[number : number + 2] for number in range(0, len(places), 2)]


def train_networks(
    bench: Bench,
    genotypes: list[Genotype],
    run: Run,
    journal: str,
    observe: Observer = lambda progress: None,
    workers: Workers = HERE,
) -> list[dict[str, Any]]:
    """Train each network from scratch, those that the journal has not yet, spread over `workers`.

    A line a network, as they finish: `network` (its number), genotype, parameters, multiply_adds, and accuracy, loss
    and seconds, or `failed`, the reason why its training stopped. Returns the lines in the order of the genotypes.
    Raises RunError where the journal holds other networks.
    """
    lines = {record["network"]: record for record in run.read(journal)}
    for place, record in lines.items():
        if not 0 <= place < len(genotypes) or Genotype.from_darts(record["genotype"]) != genotypes[place]:
            raise RunError(
                f"{run.folder / journal}.jsonl: holds a network that this study does not draw ({record['genotype']}); "
                "it was edited or belongs to another run: move it away to train again"
            )
    missing = [number for number in range(len(genotypes)) if number not in lines]
    tasks = [genotypes[number] for number in missing]
    if genotypes and not missing:
        observe(Progress("networks", len(lines), len(genotypes)))
    with closing(spread(workers, _arrive, bench, _train_one, tasks)) as results:
        for task, result in results:
            record = {"network": missing[task], **result}
            run.append(journal, record)
            lines[missing[task]] = record
            observe(Progress("networks", len(lines), len(genotypes), record))
    return [lines[number] for number in range(len(genotypes))]


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks that were scored and trained, n of them.

    predictors: (n,) each, where higher predicts better. true: (n,) accuracy acc_r after training from scratch, on D_val
    or as the table says. pairs: (P, 2) positions among the n, None: all pairs of different ones, n (n - 1) / 2.
    failed: the reason by network, of those whose training stopped; left_out: how
    many drawn pairs have a network that failed, is not trained yet or has no finite one-shot loss; itself: how many
    pair a network with itself, which says nothing. not_finite: how many networks have no finite one-shot loss.
    """

    predictors: dict[str, NDArray[np.float64]]
    true: NDArray[np.float64]
    pairs: NDArray[np.int64] | None
    failed: dict[int, str]
    left_out: int
    itself: int
    not_finite: int

    @property
    def compared(self) -> int:
        """The number of pairs."""
        return len(self.true) * (len(self.true) - 1) // 2 if self.pairs is None else len(self.pairs)


def networks(folder: Path) -> Networks:
    """What the run folder holds so far."""
    scored, lines = read_journal(folder / "scored.jsonl"), read_journal(folder / "trained.jsonl")
    done = {
        record["network"]: record
        for record in lines
        if "accuracy" in record and np.isfinite(scored[record["network"]]["loss"])
    }
    order = sorted(done)
    place = {number: position for position, number in enumerate(order)}
    drawn = json.loads((folder / "pairs.json").read_text(encoding="utf-8")) if (folder / "pairs.json").exists() else []
    different = [(a, b) for a, b in drawn if a != b]
    whole = [[place[a], place[b]] for a, b in different if a in place and b in place]
    columns = {
        "accuracy": [scored[number]["accuracy"] for number in order],
        "loss": [-scored[number]["loss"] for number in order],
        "parameters": [done[number]["parameters"] for number in order],
        "multiply_adds": [done[number]["multiply_adds"] for number in order],
        "separable_convolutions": [_separable_convolutions(done[number]["genotype"]) for number in order],
        "log_probability": [scored[number]["log_probability"] for number in order],
    }
    return Networks(
        {name: np.array(values, dtype=float) for name, values in columns.items()},
        np.array([done[number]["accuracy"] for number in order], dtype=float),
        None if _of_table(folder) else np.array(whole, dtype=np.int64).reshape(-1, 2),
        {record["network"]: record["failed"] for record in lines if "failed" in record},
        len(different) - len(whole),
        len(drawn) - len(different),
        sum(not np.isfinite(record["loss"]) for record in scored),
    )


def _of_table(folder: Path) -> bool:
    """Whether the study's cells are those of a table."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("table") is not None


def _separable_convolutions(genotype: str) -> int:
    """How many separable convolutions the normal cell has."""
    edges = (edge for node in Genotype.from_darts(genotype).normal for edge in node)
    return sum(operation.startswith("sep_conv_") for operation, _ in edges)


def two_seeds(folder: Path) -> NDArray[np.float64]:
    """The accuracies of networks that were trained twice: (m, 2), none where the study has no such table."""
    path = folder / TWICE
    return np.array(json.loads(path.read_text(encoding="utf-8")) if path.exists() else []).reshape(-1, 2)


def finalists(folder: Path) -> list[dict[str, Any]]:
    """The best one-shot candidates and what training them for longer came to, in the order of their one-shot loss."""
    path = folder / "best.json"
    if not path.exists():
        return []
    trained = {record["network"]: record for record in read_journal(folder / "finalists.jsonl")}
    keys = "accuracy", "loss", "parameters", "failed"
    return [
        {"one_shot": record, "trained": {key: trained[number][key] for key in keys if key in trained[number]}}
        for number, record in enumerate(json.loads(path.read_text(encoding="utf-8")))
        if number in trained
    ]


def _arrive(bench: Bench) -> Bench:
    """The bench on the device of the worker that it was sent to."""
    bench.extensions.register()
    config = bench.config
    device = ready_device(config.device, config.precision, config.deterministic)
    return replace(bench, source=bench.source.to(device))


def _train_one(bench: Bench, genotype: Genotype) -> dict[str, Any]:
    device = bench.source.training.images.device
    setup = Retraining(bench.config, device, "drawn", genotype, bench.source)
    size = setup.cost
    about = {"genotype": genotype.to_darts(), "parameters": size.parameters, "multiply_adds": size.multiply_adds}
    try:
        result = retrain_once(setup)
    except RetrainError as error:
        return {**about, "failed": str(error)}
    return {**about, "accuracy": 1 - result.test_error, "loss": result.test_loss, "seconds": result.seconds}
