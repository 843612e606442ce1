"""The parameters of a search, the paper's values as defaults."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from setn_lab.config import ConfigError, bounded, build, completed, later, unhashed
from setn_lab.kits import KITS
from setn_lab.runs import identity
from setn_lab.runs.place import find, found, places, run_folder
from setn_lab.search.template_config import TemplateConfig

Strategy = Literal["setn", "setn-lr", "setn-non"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
CandidateSource = Literal["evaluator", "uniform", "argmax", "evolution", "refit"]
BY_SCORES: tuple[CandidateSource, ...] = "evolution", "refit"  # whose draws depend on the scores of earlier ones
WITHOUT_EVALUATOR: tuple[CandidateSource, ...] = "uniform", "evolution"  # which need none that is trained
WINNER = "genotype.json"  # of a run folder, what the search has chosen
TEMPLATE = "template"  # of a run folder, what `runs.identity` calls the finished one


@dataclass(frozen=True, kw_only=True)
class SearchConfig(TemplateConfig):
    """The parameters of a search: Algorithm 1 from the start to the selected cell. Raises ConfigError."""

    presets: ClassVar[str] = "search"

    # another T or another way to score takes the same training
    redone: ClassVar[tuple[str, ...]] = (
        "candidate_source",
        "candidates",
        "baseline_candidates",
        "select_by",
        "scoring",
        "scoring_batch_size",
        "batch_norm",
        "max_parameters",
        "max_multiply_adds",
        "max_latency",
        "final_network",
        "final_channels",
        "final_repeats",
        "final_image_size",
        "final_classes",
        "finalists",
        "finalist_epochs",
        "finalist_channels",
        "finalist_repeats",
        "finalist_batch_size",
        "finalist_lr",
    )

    # template
    strategy: Strategy = "setn"  # or a variant of section 4.4
    template_run: str | None = unhashed(None)  # a search's run folder, whose finished template is taken; None: trained

    # candidates
    candidate_source: CandidateSource = "evaluator"
    candidates: int = bounded(1000, at_least=1)  # T
    baseline_candidates: int = bounded(0, at_least=0)  # uniform ones, scored with the same template to compare
    select_by: Literal["loss", "accuracy"] = "loss"
    scoring: Literal["full", "racing"] = "full"  # all candidates on all of D_val, or only those not yet beaten

    # caps on candidates
    max_parameters: float | None = bounded(None, above=0, added=True)  # millions of the final network, None: any number
    max_multiply_adds: float | None = bounded(None, above=0, added=True)  # millions for an image
    max_latency: float | None = bounded(None, above=0, added=True)  # milliseconds for an image, measured on this device
    final_network: Literal["cifar", "imagenet"] = later("cifar", before="cifar")  # what is meant by the final network
    final_channels: int | None = bounded(None, at_least=2, added=True)  # C, None: 36, or what the space has
    final_repeats: int | None = bounded(None, at_least=1, added=True)  # N, None: 6, or what the space has
    final_image_size: int | None = bounded(None, at_least=8, added=True)  # side in pixels, None: the images', or 224
    final_classes: int | None = bounded(None, at_least=1, added=True)  # None: as many as the images have, or 1000

    # finalists
    finalists: int = bounded(0, at_least=0, added=True)  # so many of the best are trained from scratch, 0: none
    finalist_epochs: int = bounded(27, at_least=1, added=True)  # at most, after a third of them a third goes on
    finalist_channels: int | None = bounded(None, at_least=2, added=True)  # C, None: the template's
    finalist_repeats: int | None = bounded(None, at_least=1, added=True)  # N, None: the template's
    finalist_batch_size: int = bounded(96, at_least=2, added=True)
    finalist_lr: float = bounded(0.025, above=0, at_most=1e30, added=True)

    # run
    run_dir: str | None = unhashed(None)  # None: named from the config's digest
    interactive: bool = unhashed(True)  # widgets, where the notebook has any

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.template_run is not None and self.strategy == "setn-non":
            raise ConfigError(
                f"template_run: {self.template_run!r} given with strategy 'setn-non', whose template is trained "
                "through its evaluator: None is allowed with it"
            )
        needs = self.evaluator_epochs == 0 and self.candidate_source not in WITHOUT_EVALUATOR
        if self.template_run is not None and needs:
            raise ConfigError(
                "evaluator_epochs: 0 given with template_run, so that the evaluator would never be trained; 1 or more "
                "is allowed with it, or candidate_source 'uniform' or 'evolution'"
            )
        if self.scoring == "racing" and self.candidate_source in BY_SCORES:
            raise ConfigError(
                f"scoring: 'racing' given with candidate_source {self.candidate_source!r}, which needs every score; "
                "scoring 'full' is allowed with it, or another candidate_source"
            )
        if self.scoring == "racing" and self.batch_norm == "recalibrated":
            raise ConfigError(
                "scoring: 'racing' given with batch_norm 'recalibrated', which measures statistics anew for each batch "
                "of a race; batch_norm 'batch' is allowed with it, or scoring 'full'"
            )
        self._check_networks()

    def _check_networks(self) -> None:
        """What the discrete networks of the space do not allow. Raises ConfigError."""
        kit = KITS[self.space]
        if self.final_network == "imagenet" and kit.imagenet_layout is None:
            raise ConfigError(
                f"final_network: 'imagenet' given; 'cifar' is allowed for {self.space}, which has no other networks"
            )
        if self.finalists and kit.networks is None:
            raise ConfigError(
                f"finalists: {self.finalists} given; 0 is allowed for {self.space}, whose networks are not trained here"
            )
        if self.finalists == 1:
            raise ConfigError(
                "finalists: 1 given, which would be compared with nothing; 0 is allowed, or an integer of at least 2"
            )

    def contents(self) -> dict[str, dict[str, Any]]:
        """The images, and the template that is taken. Raises DataError, and ConfigError for no finished template."""
        contents = super().contents()
        if self.template_run is not None:
            contents["template_run"] = self._taken_before() or _template(
                found(self.template_run, "template_run").resolve()
            )
        return contents

    def _taken_before(self) -> dict[str, Any] | None:
        """The facts of a template whose folder is gone, where this search's own folder has taken it already."""
        text = str(self.template_run)
        if self.run_dir is None or find(text, "template_run") is not None:
            return None
        with suppress(identity.IdentityError):
            stored = identity.read(run_folder(self.run_dir, "run_dir")) or {"contents": {}}
            facts = stored["contents"].get("template_run", {})
            return (
                facts if facts.get("where") in [str(path.resolve()) for path in places(text, "template_run")] else None
            )
        return None


def _template(folder: Path) -> dict[str, Any]:
    """The facts of the finished template in a run folder."""
    try:
        stored = identity.read(folder)
    except identity.IdentityError as error:
        raise ConfigError(f"template_run: {error}") from error
    if not (folder / "config.json").exists():
        what = "no run folder of a search"
    elif stored is None:
        what = "it is of an older version; resume it once, so that it says what it is made of"
    else:
        what = "its training is not over"
    digest = None if stored is None else stored["products"].get(TEMPLATE)
    if digest is None:
        raise ConfigError(f"template_run: {str(folder)!r} given: {what}; a folder with a finished template is allowed")
    return {"digest": digest, "where": str(folder)}


def read_config(folder: Path) -> SearchConfig:
    """The config of a search's run folder, with the folder as its run_dir. Raises ConfigError."""
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return build(SearchConfig, {**completed(SearchConfig, stored), "run_dir": str(folder)})
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder} was given as a search's run folder; its config.json cannot be read: {error}"
        ) from error
