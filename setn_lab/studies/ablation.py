"""Figure 2: ways to generate candidates (section 5.3), and those that the field would compare them with.

Besides the paper's four there is an evaluator that is trained by sampled losses, and two sources that go by scores.
"""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

from setn_lab.compute.spread import session
from setn_lab.config import ConfigError, unhashed
from setn_lab.runs.progress import Observer, of_part
from setn_lab.runs.run import Run
from setn_lab.search.candidates import score
from setn_lab.search.config import CandidateSource, SearchConfig, Strategy
from setn_lab.search.setup import prepare_search
from setn_lab.search.training import train
from setn_lab.studies import scalability
from setn_lab.studies.config import StudyConfig
from setn_lab.studies.searches import sharing, train_together


class Searched(NamedTuple):
    """A search of the study: its strategy and its way to update the evaluator, None: as the study's parameters say."""

    strategy: Strategy
    evaluator_gradient: str | None = None


class Variant(NamedTuple):
    """One sub-figure: whose template and evaluator, and where the candidates come from."""

    search: str
    source: CandidateSource


SEARCHES = {
    "setn": Searched("setn"),
    "setn-rloo": Searched("setn", "rloo"),
    "setn-lr": Searched("setn-lr"),
    "setn-non": Searched("setn-non"),
}
REFERENCE = "setn"  # with which the others are compared, and whose template most of them share
VARIANTS = {
    "setn": Variant("setn", "evaluator"),
    "setn-rloo": Variant("setn-rloo", "evaluator"),
    "setn-rand": Variant("setn", "uniform"),
    "setn-lr": Variant("setn-lr", "evaluator"),
    "setn-non": Variant("setn-non", "evaluator"),
    "evolution": Variant("setn", "evolution"),
    "refit": Variant("setn", "refit"),
}


@dataclass(frozen=True, kw_only=True)
class AblationConfig(StudyConfig):
    """The parameters of the ablation study. Raises ConfigError."""

    presets: ClassVar[str] = "ablation"

    # searches to take
    setn_run: str | None = unhashed(None)  # a search's run folder, None: the study's own
    setn_rloo_run: str | None = unhashed(None)
    setn_lr_run: str | None = unhashed(None)
    setn_non_run: str | None = unhashed(None)
    leave_out: str = unhashed("")  # searches that are not made, with commas: setn-rloo, setn-lr, setn-non

    # report
    thresholds: str = unhashed("80, 85, 90")  # accuracies in %, above which candidates are counted

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        try:
            valid = all(0 <= limit <= 100 for limit in self.limits)
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(
                f"thresholds: {self.thresholds!r} given; numbers from 0 to 100 with commas between them are allowed, "
                "as in '80, 85, 90'"
            )
        others = [name for name in SEARCHES if name != REFERENCE]
        if unknown := [name for name in self._left_out if name not in others]:
            raise ConfigError(f"leave_out: {', '.join(unknown)} given; {', '.join(others)} are allowed")

    @property
    def searches(self) -> dict[str, SearchConfig]:
        """The searches of SEARCHES, without those that are left out and one that another row is already.

        Raises what `StudyConfig.search` does.
        """
        given = (self.setn_run, self.setn_rloo_run, self.setn_lr_run, self.setn_non_run)
        return {
            name: self.search(row.strategy, run, evaluator_gradient=row.evaluator_gradient or self.evaluator_gradient)
            for (name, row), run in zip(SEARCHES.items(), given, strict=True)
            if row.evaluator_gradient != self.evaluator_gradient and name not in self._left_out
        }

    @property
    def _left_out(self) -> list[str]:
        return [name.strip() for name in self.leave_out.split(",") if name.strip()]

    @property
    def limits(self) -> list[float]:
        """The thresholds in percent."""
        return [float(part) for part in self.thresholds.split(",")]


def collect(config: AblationConfig, run: Run, observe: Observer = lambda progress: None) -> None:
    """Train the searches that are not finished, score the T candidates of each variant and the argmax of each search.

    The trainings are kept in the searches' own run folders, which the search notebook shares, and what was scored there
    is taken; templates are shared as `sharing` says. The scores go to the journals of `run`, VARIANT and
    argmax-SEARCH (T = 1), from where an interrupted study goes on, as does one that had left searches out; runs.json
    names the folders of all that were made. Raises what `train` and `score` raise, and ConfigError as
    `StudyConfig.search` does.
    """
    with session(config.pool):
        _collect(config, run, observe)


def _collect(config: AblationConfig, run: Run, observe: Observer) -> None:
    noted = run.folder / "runs.json"
    folders = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
    searches = dict(zip(config.searches, sharing(config.searches.values()), strict=True))
    train_together(searches.values(), config.pool, observe)
    for number, (searched, search_config) in enumerate(searches.items(), 1):
        place = number, len(searches)
        with Run.open(search_config, "search") as own:
            search = prepare_search(search_config, own)
            train(search, own, of_part(observe, searched, place))
            for name, variant in VARIANTS.items():
                if variant.search == searched:
                    told = of_part(observe, name, place)
                    score(search, run, variant.source, config.candidates, name, told, config.pool)
            told = of_part(observe, f"argmax of {searched}", place)
            score(search, run, "argmax", 1, f"argmax-{searched}", told, config.pool)
            folders[searched] = own.folder.name
    ordered = {name: folders[name] for name in SEARCHES if name in folders}
    run.write("runs.json", json.dumps(ordered, indent=1) + "\n")


def measure_costs(config: AblationConfig, run: Run) -> None:
    """Measure what the search costs with 6 and with 8 operations, once, into the run folder's costs.json."""
    if not (run.folder / "costs.json").exists():
        costs = scalability.measure(config.search("setn"))
        run.write("costs.json", json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
