"""The parameters of a search, the paper's values as defaults."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from setn_lab.config import ConfigError, bounded, build, choice, completed, later, unhashed, validate
from setn_lab.data.contents import image_contents, listed_contents
from setn_lab.data.files import CHANNELS
from setn_lab.data.images import BUILT_IN
from setn_lab.evaluator.gradients import GRADIENTS
from setn_lab.kits import KITS
from setn_lab.runs import identity
from setn_lab.runs.place import find, found, places, run_folder

Strategy = Literal["setn", "setn-lr", "setn-non"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
CandidateSource = Literal["evaluator", "uniform", "argmax", "evolution", "refit"]
BY_SCORES: tuple[CandidateSource, ...] = "evolution", "refit"  # whose draws depend on the scores of earlier ones
WITHOUT_EVALUATOR: tuple[CandidateSource, ...] = "uniform", "evolution"  # which need none that is trained
WINNER = "genotype.json"  # of a run folder, what the search has chosen
TEMPLATE = "template"  # of a run folder, what `runs.identity` calls the finished one


def _head_before(values: Mapping[str, Any]) -> str:
    """The head of the template in versions without the parameter."""
    return KITS.get(str(values.get("space")), KITS["small"]).heads[0]


@dataclass(frozen=True, kw_only=True)
class TemplateConfig:
    """The parameters of training a template and its evaluator, section 5.1's values as defaults. Raises ConfigError."""

    # images
    dataset: str = "cifar10"  # cifar10, cifar100, digits, or a folder of images
    data_dir: str | None = unhashed(None)  # where CIFAR lies or is downloaded to
    train_fraction: float = bounded(0.5, above=0, below=1)  # of the images, for D_train; the others are D_val
    limit_train: int | None = bounded(None, at_least=2)  # images of D_train, None: all
    limit_valid: int | None = bounded(None, at_least=2)  # images of D_val, None: all
    image_size: int | None = bounded(None, at_least=1)  # side in pixels, smaller than theirs, None: theirs
    resize: int | None = bounded(None, at_least=1, added=True)  # side of images of any size, cropped to image_size
    image_memory: float = bounded(4.0, at_least=0, identity=False)  # GiB that they may take, or are decoded as needed
    image_workers: int = bounded(4, at_least=0, identity=False)  # processes that decode then, for D_train and for D_val
    image_range: int | None = bounded(None, at_least=1, at_most=65535, added=True)  # white of 16 bits, None: 65535
    crop_padding: int = bounded(4, at_least=0)  # pixels
    flip: bool = True  # mirror half of the images
    cutout: int = bounded(0, at_least=0)  # side in pixels, 0: off

    # search space
    space: str = choice("small", KITS)  # with 6 operations, 8, or NAS-Bench-201's own cell
    nodes: int = bounded(4, at_least=1)  # B

    # template
    stem: Literal["cifar", "imagenet"] = later("cifar", before="cifar")  # imagenet: cells see an 8th of the side
    channels: int = bounded(16, at_least=1)  # C
    repeats: int = bounded(2, at_least=1)  # N
    template_head: Literal["norm", "mean"] = later("norm", before=_head_before)  # mean: no norm before the classifier
    template_init: Literal["uniform", "looks-linear"] = later("uniform", before="uniform")  # the latter for depth
    epochs: int = bounded(400, at_least=1)
    batch_size: int = bounded(64, at_least=2)
    batch_parts: int = bounded(1, at_least=1, added=True)  # of a batch, each through an architecture of its own
    sampling: Literal["uniform", "fair", "connected"] = "uniform"  # fair: each operation of an edge once in every step
    weight_lr: float = bounded(0.025, above=0, at_most=1e30)
    weight_lr_end: float = bounded(0.0, at_least=0)  # to which the rate is annealed; as much as weight_lr keeps it
    weight_momentum: float = bounded(0.9, at_least=0, below=1)
    weight_decay: float = bounded(3e-4, at_least=0)
    weight_averaging: float = bounded(0.0, at_least=0, below=1, added=True)  # decay a step of averages to score, 0: off
    gradient_clip: float = bounded(10.0, above=0)  # norm, of the evaluator's gradient too
    path_dropout: float = bounded(0.1, at_least=0, below=1)  # rate

    # evaluator
    evaluator_gradient: str = choice("mixture", GRADIENTS, added=True)  # how it is updated, mixture: by Eq. 10
    evaluator_samples: int = bounded(4, at_least=2, added=True)  # architectures drawn for a step of rloo
    evaluator_start: int = bounded(0, at_least=0)  # epochs of the template alone before the evaluator joins
    evaluator_epochs: int = bounded(0, at_least=0, added=True)  # of the evaluator alone, after the template's last one
    evaluator_lr: float = bounded(3e-3, above=0, at_most=1e30)
    evaluator_weight_decay: float = bounded(1e-3, at_least=0)
    cost_weight: float = bounded(0.0, at_least=0)  # of the expected cost in the evaluator's loss, footnote 3
    cost_metric: Literal["parameters", "multiply_adds", "latency"] = "parameters"

    # candidates
    scoring_batch_size: int = bounded(256, at_least=2)
    batch_norm: Literal["batch", "recalibrated"] = "batch"  # statistics when candidates are scored

    # machine
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"  # tf32: on CUDA alone
    deterministic: bool = unhashed(True)  # on CUDA the same bits each time; the CPU gives them anyway
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps

    # run
    seed: int = bounded(0, at_least=0)
    tracker: Literal["tensorboard", "mlflow"] | None = unhashed(None)  # draws the curves too, as they come

    def __post_init__(self) -> None:
        """Check every field."""
        validate(self)
        try:
            KITS[self.space].space(self.nodes)
        except ValueError as error:
            raise ConfigError(f"nodes: {error}") from error
        if self.template_head not in KITS[self.space].heads:
            allowed = " or ".join(repr(head) for head in KITS[self.space].heads)
            raise ConfigError(
                f"template_head: {self.template_head!r} given; {allowed} is allowed for {self.space}, whose template "
                "has no other"
            )
        if self.template_init == "looks-linear" and KITS[self.space].look_linear is None:
            raise ConfigError(
                f"template_init: 'looks-linear' given; 'uniform' is allowed for {self.space}, whose template has no "
                "other"
            )
        self._check_images()
        if self.evaluator_gradient == "mixture" and self.evaluator_samples != TemplateConfig.evaluator_samples:
            raise ConfigError(
                f"evaluator_samples: {self.evaluator_samples} given with evaluator_gradient 'mixture', which draws "
                "nothing; it is allowed with 'rloo': give that, or leave evaluator_samples out"
            )
        if self.weight_lr_end > self.weight_lr:
            raise ConfigError(
                f"weight_lr_end: {self.weight_lr_end} given; a number from 0 to weight_lr ({self.weight_lr}) is "
                "allowed, since the rate falls or stays"
            )
        if self.batch_size % self.batch_parts or self.batch_size < 2 * self.batch_parts:
            raise ConfigError(
                f"batch_parts: {self.batch_parts} given for batch_size {self.batch_size}; a number is allowed that "
                "divides it into parts of at least 2 images each: a batch norm needs them"
            )
        if self.evaluator_start >= self.epochs:
            raise ConfigError(
                f"evaluator_start: {self.evaluator_start} given; an integer below epochs ({self.epochs}) is allowed, "
                "or the evaluator would never be trained"
            )

    def _check_images(self) -> None:
        """What stem and sizes do not allow. Raises ConfigError."""
        if self.stem not in KITS[self.space].stems:
            allowed = " or ".join(repr(stem) for stem in KITS[self.space].stems)
            raise ConfigError(
                f"stem: {self.stem!r} given; {allowed} is allowed for {self.space}, whose networks have no other"
            )
        if self.stem == "imagenet" and self.channels == 1:
            raise ConfigError("channels: 1 given; at least 2 is allowed with stem 'imagenet', which begins with half")
        if self.resize is None:
            return
        if self.dataset in BUILT_IN:
            raise ConfigError(
                f"resize: {self.resize} given for {self.dataset}, whose images have one size; None is allowed: "
                "image_size makes them smaller"
            )
        if self.image_size is not None and self.image_size > self.resize:
            raise ConfigError(
                f"image_size: {self.image_size} given; at most resize ({self.resize}) is allowed, of which it is a crop"
            )

    @property
    def crop(self) -> int | None:
        """The side of the crops in pixels; None where images are seen whole."""
        return None if self.resize is None else self.image_size or self.resize

    def contents(self) -> dict[str, dict[str, Any]]:
        """The images that the data set holds, see `config.contents`. Raises DataError."""
        if self.crop is not None:  # whether they fit in memory or not
            facts = listed_contents(self.dataset, with_test=False)
            return {"dataset": {**facts, "side": self.crop, "channels": CHANNELS}}
        return {"dataset": image_contents(self.dataset, self.data_dir, self.image_range)}


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
