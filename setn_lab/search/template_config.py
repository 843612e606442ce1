"""The parameters that searches and studies share: images, space, template and evaluator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from setn_lab.config import ConfigError, bounded, choice, later, unhashed, validate
from setn_lab.data.contents import image_contents, listed_contents
from setn_lab.data.files import CHANNELS
from setn_lab.data.images import BUILT_IN
from setn_lab.evaluator.gradients import GRADIENTS
from setn_lab.kits import KITS


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
