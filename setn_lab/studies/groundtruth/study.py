"""The question that section 5.3 leaves open: are the evaluator's candidates good, and is one-shot accuracy right?

On the space of NAS-Bench-201 the true accuracy of every architecture is known. A row of the study is a strategy, or a
switch that changes one choice of the method, each over several seeds.
"""

import ast
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from setn_lab.compute.spread import session
from setn_lab.config import ConfigError, bounded, build, later, unhashed, values_of
from setn_lab.runs.progress import Observer, of_part
from setn_lab.runs.run import Run
from setn_lab.search.candidates import score
from setn_lab.search.config import STRATEGIES, SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw
from setn_lab.search.template_config import TemplateConfig
from setn_lab.search.training import train
from setn_lab.studies.config import StudyConfig, copy_journal
from setn_lab.studies.groundtruth.table import DEFAULT_COLUMN, BenchmarkTable, TableError, load_table
from setn_lab.studies.searches import sharing, train_together
from setn_lab.studies.zero_cost import score_untrained

FIXED = "dataset", "data_dir", "space", "nodes", "device", "seed"  # the same in every row
SWITCHED = "strategy", *(field.name for field in dataclasses.fields(TemplateConfig) if field.name not in FIXED)
JOURNALS = "candidates", "uniform", "evaluator", "argmax"  # of a row and seed, which is complete with the last one


class StudyRow(NamedTuple):
    """One row of the study: its name, what it changes of SETN's search, and its number of seeds."""

    name: str
    changes: dict[str, Any]
    seeds: int


@dataclass(frozen=True, kw_only=True)
class GroundTruthConfig(StudyConfig):
    """The parameters of the study with true accuracies. Raises ConfigError."""

    presets: ClassVar[str] = "groundtruth"

    space: Literal["nasbench201"] = "nasbench201"  # whose true accuracies are known

    # true accuracies
    table: str | None = unhashed(None)  # a CSV file of them, see docs/studies.md; needed to report, not to train
    table_column: str = unhashed(DEFAULT_COLUMN)
    ranked: int = bounded(1000, at_least=3)  # uniform architectures whose one-shot scores are compared with the truth
    zero_cost_images: int = bounded(0, at_least=0, added=True)  # of D_val, for scores before training; 0: none

    # rows
    strategies: str = later(", ".join(STRATEGIES), before=", ".join(STRATEGIES))  # one or several of these
    seeds: int = bounded(3, at_least=1)  # of each strategy, from seed on
    switches: str = ""  # further rows, SETN with parameters changed, see docs/studies.md
    switch_seeds: int = bounded(1, at_least=1)

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.ranked < self.candidates:
            raise ConfigError(
                f"ranked: {self.ranked} given; candidates ({self.candidates}) or more are allowed, since the best of "
                "the first ones is what uniform candidates come to"
            )
        names = [name.strip() for name in self.strategies.split(",")]
        if not set(names) <= set(STRATEGIES) or len(set(names)) < len(names):
            raise ConfigError(
                f"strategies: {self.strategies!r} given; one or several of {', '.join(STRATEGIES)} are allowed, each "
                "once, with commas between them"
            )
        try:
            searches = {name: values_of(search) for name, seed, search in self.searches() if seed == self.seed}
        except ConfigError as error:
            raise ConfigError(f"switches: {self.switches!r} given; {error}") from error
        for place, (name, search) in enumerate(searches.items()):
            if search in list(searches.values())[:place] or len(searches) < len(self.rows):
                raise ConfigError(
                    f"switches: {self.switches!r} given; {name!r} changes nothing: rows that differ are allowed"
                )

    @property
    def rows(self) -> list[StudyRow]:
        """The strategies, then the switches."""
        names = [name.strip() for name in self.strategies.split(",")]
        main = [StudyRow(strategy, {"strategy": strategy}, self.seeds) for strategy in names]
        texts = [text.strip() for text in self.switches.split(",")] if self.switches.strip() else []
        return main + [StudyRow(text.replace(" ", ""), _changes(text), self.switch_seeds) for text in texts]

    def searches(self) -> Iterator[tuple[str, int, SearchConfig]]:
        """(row, seed, search) of every search of the study."""
        own = vars(self.search("setn"))
        for row in self.rows:
            for seed in range(self.seed, self.seed + row.seeds):
                yield row.name, seed, build(SearchConfig, {**own, "seed": seed, **row.changes})

    def truth(self) -> BenchmarkTable:
        """The table of true accuracies. Raises TableError."""
        if self.table is None:
            raise TableError("table: None given; the CSV file with the true accuracies is needed: -p table PATH")
        return load_table(self.table, self.table_column)


def _changes(text: str) -> dict[str, Any]:
    """What a switch such as "epochs=20+evaluator_start=10" changes. Raises ConfigError where it is not of this form."""
    changes: dict[str, Any] = {}
    for part in text.split("+"):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not value or name in changes or name not in SWITCHED:
            raise ConfigError(
                f"{part.strip()!r} in it is no switch; name=value is allowed, with + between parameters that change "
                f"together and commas between rows, each name once and one of {', '.join(SWITCHED)}"
            )
        try:
            changes[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[name] = value
    return changes


def collect(config: GroundTruthConfig, run: Run, observe: Observer = lambda progress: None) -> None:
    """Train every search that is not finished, and score its T candidates, its argmax and `ranked` uniform ones.

    Rows share templates as `sharing` says. The first search's uniform ones are scored before training too, where that
    is asked for. The trainings are kept in the searches' own run folders, and what was
    scored there is taken. The scores go to the journals of `run`, ROW-SEED.JOURNAL, from where an interrupted study
    goes on; runs.json names the folders. Raises what `train` and `score` raise.
    """
    folders: dict[str, str] = {}
    rows = list(config.searches())
    searches = list(sharing(search for _, _, search in rows))
    with session(config.pool):
        train_together(searches, config.pool, observe)
        for number, ((name, seed, _), search_config) in enumerate(zip(rows, searches, strict=True), 1):
            told = of_part(observe, f"{name}, seed {seed}", (number, len(searches)))
            with Run.open(search_config, "search") as own:
                search = prepare_search(search_config, own)
                train(search, own, told)
                score(search, run, "evaluator", config.candidates, f"{name}-{seed}.candidates", told, config.pool)
                score(search, run, "uniform", config.ranked, f"{name}-{seed}.uniform", told, config.pool)
                if number == 1 and config.zero_cost_images:
                    score_untrained(search, run, draw(search, "uniform", config.ranked), config.zero_cost_images, told)
                for journal in ("evaluator", "metrics"):
                    copy_journal(own, journal, run, f"{name}-{seed}.{journal}")
                score(search, run, "argmax", 1, f"{name}-{seed}.argmax", told, config.pool)
                folders[f"{name}-{seed}"] = own.folder.name
                run.write("runs.json", json.dumps(folders, indent=1) + "\n")
