"""The pairwise study of section 5.3: does one-shot accuracy rank networks as training from scratch does?

And progressive selection, from the same section: train the best one-shot candidates for longer, choose by the result.
Where a table holds cells that are trained already, those are scored, and no network is trained.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from setn_lab.compute.spread import session
from setn_lab.config import ConfigError, bounded, choice, contents, later, unhashed
from setn_lab.kits import KITS, Kit
from setn_lab.network.costs import CostTable
from setn_lab.retrain.config import RetrainConfig
from setn_lab.runs.progress import Observer, of_part
from setn_lab.runs.run import Run
from setn_lab.search.candidates import score
from setn_lab.search.config import Strategy
from setn_lab.search.leaders import best
from setn_lab.search.setup import Search, prepare_search
from setn_lab.search.sources import Given, draw
from setn_lab.search.training import train
from setn_lab.space.genotype import Genotype
from setn_lab.studies.config import StudyConfig
from setn_lab.studies.networks import Bench, train_networks
from setn_lab.studies.trained_table import DEFAULT_COLUMN, TrainedCells, load_cells, load_two_seeds
from setn_lab.studies.zero_cost import score_untrained

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
    zero_cost_images: int = bounded(0, at_least=0, added=True)  # of D_val, for scores before training; 0: none

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
        own |= {"epochs": epochs, "network": self.stem}
        return RetrainConfig(**same, **own, test_batch_size=self.scoring_batch_size)


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
        if config.zero_cost_images:
            score_untrained(search, run, cells.architectures, config.zero_cost_images, observe)
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
    layout = search.kit.layout_with(config.stem)
    return {
        "parameters": search.kit.cost_table(search.space, *size, "parameters", layout=layout),
        "multiply_adds": search.kit.cost_table(search.space, *size, "multiply_adds", layout=layout),
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
        if config.zero_cost_images:
            distinct = np.stack([search.space.encode(candidate.genotype) for candidate in scored])
            score_untrained(search, run, distinct, config.zero_cost_images, of_part(observe, "pairs"))
        chosen: list[Genotype] = []
        if config.finalists:
            told = of_part(observe, "candidates")
            candidates = score(search, run, "evaluator", config.candidates, "candidates", told, config.pool)
            ranked = best(candidates, config.finalists, "loss")
            chosen = [candidate.genotype for candidate in ranked]
            kept = (
                {"genotype": candidate.genotype.to_darts(), "loss": candidate.loss, "accuracy": candidate.accuracy}
                for candidate in ranked
            )
            run.write("best.json", json.dumps(list(kept), indent=1) + "\n")
        run.write("runs.json", json.dumps({config.strategy: own.folder.name}) + "\n")
    run.write("pairs.json", json.dumps(pairs(config, search, [candidate.genotype for candidate in scored])) + "\n")
    told = of_part(observe, "networks of the pairs")
    train_networks(bench, [candidate.genotype for candidate in scored], run, "trained", told, config.pool)
    trained = train_networks(longer, chosen, run, "finalists", of_part(observe, "finalists"), config.pool)
    if successful := [record for record in trained if "accuracy" in record]:  # progressive selection: by the result
        winner = max(successful, key=lambda candidate: candidate["accuracy"])
        run.write("genotype.json", Genotype.from_darts(winner["genotype"]).to_json() + "\n")


def pairs(config: RankingConfig, search: Search, distinct: list[Genotype]) -> list[list[int]]:
    """The P pairs as they were drawn, each two positions in the distinct genotypes."""
    position = {genotype: number for number, genotype in enumerate(distinct)}
    drawn = draw(search, config.pair_source, 2 * config.pairs)
    places = [position[search.space.genotype(architecture)] for architecture in drawn]
    return [places[number : number + 2] for number in range(0, len(places), 2)]
