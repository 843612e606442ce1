"""The parameters of a search, the paper's values as defaults."""

from dataclasses import dataclass
from typing import Literal, get_args

from setn_lab.config import ConfigError, bounded, choice, unhashed, validate
from setn_lab.evaluator.gradients import GRADIENTS
from setn_lab.kits import KITS

Strategy = Literal["setn", "setn-lr", "setn-non"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(frozen=True, kw_only=True)
class TemplateConfig:
    """The parameters of training a template and its evaluator, section 5.1's values as defaults. Raises ConfigError."""

    # images
    dataset: str = "cifar10"  # cifar10, cifar100, digits, or a folder of images
    data_dir: str | None = unhashed(None)  # where CIFAR lies or is downloaded to
    train_fraction: float = bounded(0.5, above=0, below=1)  # of the images, for D_train; the others are D_val
    limit_train: int | None = bounded(None, at_least=2)  # images of D_train, None: all
    limit_valid: int | None = bounded(None, at_least=2)  # images of D_val, None: all
    image_size: int | None = bounded(None, at_least=1)  # a smaller side in pixels to average them down to, None: theirs
    image_range: int | None = bounded(None, at_least=1, at_most=65535, added=True)  # white of 16 bits, None: 65535
    crop_padding: int = bounded(4, at_least=0)  # pixels
    flip: bool = True  # mirror half of the images
    cutout: int = bounded(0, at_least=0)  # side in pixels, 0: off

    # search space
    space: str = choice("small", KITS)  # with 6 operations, 8, or NAS-Bench-201's own cell
    nodes: int = bounded(4, at_least=1)  # B

    # template
    channels: int = bounded(16, at_least=1)  # C
    repeats: int = bounded(2, at_least=1)  # N
    epochs: int = bounded(400, at_least=1)
    batch_size: int = bounded(64, at_least=2)
    sampling: Literal["uniform", "fair", "connected"] = "uniform"  # fair: each operation of an edge once in every step
    weight_lr: float = bounded(0.025, above=0, at_most=1e30)
    weight_lr_end: float = bounded(0.0, at_least=0)  # to which the rate is annealed; as much as weight_lr keeps it
    weight_momentum: float = bounded(0.9, at_least=0, below=1)
    weight_decay: float = bounded(3e-4, at_least=0)
    gradient_clip: float = bounded(10.0, above=0)  # norm, of the evaluator's gradient too
    path_dropout: float = bounded(0.1, at_least=0, below=1)  # rate

    # evaluator
    evaluator_gradient: str = choice("mixture", GRADIENTS, added=True)  # how it is updated, mixture: by Eq. 10
    evaluator_start: int = bounded(0, at_least=0)  # epochs of the template alone before the evaluator joins
    evaluator_lr: float = bounded(3e-3, above=0, at_most=1e30)
    evaluator_weight_decay: float = bounded(1e-3, at_least=0)
    cost_weight: float = bounded(0.0, at_least=0)  # of the expected cost in the evaluator's loss, footnote 3
    cost_metric: Literal["parameters", "multiply_adds", "latency"] = "parameters"

    # candidates
    scoring_batch_size: int = bounded(256, at_least=2)
    batch_norm: Literal["batch", "recalibrated"] = "batch"  # statistics when candidates are scored

    # machine
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps

    # run
    seed: int = bounded(0, at_least=0)

    def __post_init__(self) -> None:
        """Check every field."""
        validate(self)
        try:
            KITS[self.space].space(self.nodes)
        except ValueError as error:
            raise ConfigError(f"nodes: {error}") from error
        if self.weight_lr_end > self.weight_lr:
            raise ConfigError(
                f"weight_lr_end: {self.weight_lr_end} given; a number from 0 to weight_lr ({self.weight_lr}) is "
                "allowed, since the rate falls or stays"
            )
        if self.evaluator_start >= self.epochs:
            raise ConfigError(
                f"evaluator_start: {self.evaluator_start} given; an integer below epochs ({self.epochs}) is allowed, "
                "or the evaluator would never be trained"
            )


@dataclass(frozen=True, kw_only=True)
class SearchConfig(TemplateConfig):
    """The parameters of a search: Algorithm 1 from the start to the selected cell. Raises ConfigError."""

    # template
    strategy: Strategy = "setn"  # or a variant of section 4.4

    # candidates
    candidate_source: Literal["evaluator", "uniform", "argmax"] = "evaluator"
    candidates: int = bounded(1000, at_least=1)  # T
    baseline_candidates: int = bounded(0, at_least=0)  # uniform ones, scored with the same template to compare
    select_by: Literal["loss", "accuracy"] = "loss"
    scoring: Literal["full", "racing"] = "full"  # all candidates on all of D_val, or only those not yet beaten

    # run
    run_dir: str | None = unhashed(None)  # None: named from the config's digest
    interactive: bool = unhashed(True)  # widgets, where the notebook has any

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if self.scoring == "racing" and self.batch_norm == "recalibrated":
            raise ConfigError(
                "scoring: 'racing' given with batch_norm 'recalibrated', which measures statistics anew for each batch "
                "of a race; batch_norm 'batch' is allowed with it, or scoring 'full'"
            )
