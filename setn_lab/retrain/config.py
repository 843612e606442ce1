"""The parameters of a training, section 5.2's for CIFAR as defaults."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from setn_lab.config import ConfigError, bounded, unhashed, validate
from setn_lab.data.contents import image_contents, listed_contents
from setn_lab.data.images import BUILT_IN
from setn_lab.runs.place import bases
from setn_lab.space.named import resolve

SMALLEST = {"cifar": 29, "imagenet": 193}  # side in pixels for which the auxiliary head's pool and convolution fit


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """The parameters of a training, section 5.2's for CIFAR as defaults. Raises ConfigError."""

    presets: ClassVar[str] = "retrain"
    once_named: ClassVar[tuple[str, ...]] = ("workers",)

    # network
    genotype: str = "SETN"  # a published name, a search's run folder, a file, or a DARTS text
    network: Literal["cifar", "imagenet"] = "cifar"  # imagenet also reads a folder of images of any size
    channels: int = bounded(36, at_least=2)  # C
    repeats: int = bounded(6, at_least=1)  # N
    num_classes: int | None = bounded(None, at_least=2)  # None: as many as the data has

    # images
    dataset: str = "cifar10"  # cifar10, cifar100, digits, or a folder of images
    data_dir: str | None = unhashed(None)  # where CIFAR lies or is downloaded to
    image_size: int = bounded(224, at_least=32)  # side in pixels of the imagenet network's crops
    image_range: int | None = bounded(None, at_least=1, at_most=65535, added=True)  # white of 16 bits, None: 65535
    crop_padding: int = bounded(4, at_least=0)  # pixels
    flip: bool = True  # mirror half of the images
    cutout: int = bounded(16, at_least=0)  # side in pixels, 0: off
    limit_train: int | None = bounded(None, at_least=2)  # None: all
    limit_test: int | None = bounded(None, at_least=1)  # None: all
    bad_images: Literal["fail", "skip"] = "fail"  # what an image that cannot be read does

    # training
    epochs: int = bounded(600, at_least=1)
    warmup_epochs: int = bounded(0, at_least=0)  # the rate rises in a line
    batch_size: int = bounded(96, at_least=2)  # of all processes together
    test_batch_size: int = bounded(256, at_least=1)
    weight_lr: float = bounded(0.025, above=0, at_most=1e30)
    weight_momentum: float = bounded(0.9, at_least=0, below=1)
    weight_decay: float = bounded(5e-4, at_least=0)
    gradient_clip: float = bounded(5.0, above=0)  # norm
    path_dropout: float = bounded(0.2, at_least=0, below=1)  # rate at the end, in a line from 0
    auxiliary_weight: float = bounded(0.4, at_least=0)  # of the auxiliary head's loss
    label_smoothing: float = bounded(0.0, at_least=0, below=1)

    # machine
    workers: int = bounded(4, at_least=0, identity=False)  # processes that decode images
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"  # tf32: on CUDA alone
    deterministic: bool = unhashed(True)  # on CUDA the same bits each time; the CPU gives them anyway
    channels_last: bool = True
    synchronized_batch_norm: bool = False  # over the processes, on CUDA
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps

    # run
    seed: int = bounded(0, at_least=0)
    seeds: int = bounded(1, at_least=1)  # how many trainings, from seed on
    tracker: Literal["tensorboard", "mlflow"] | None = unhashed(None)  # draws the curves too, as they come
    run_dir: str | None = unhashed(None)  # None: named from the config's digest
    interactive: bool = unhashed(True)  # widgets, where the notebook has any

    def __post_init__(self) -> None:
        """Check every field."""
        validate(self)
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(
                f"warmup_epochs: {self.warmup_epochs} given; an integer below epochs ({self.epochs}) is allowed"
            )

    @property
    def decodes(self) -> bool:
        """Whether the images are decoded step by step, of any size, by worker processes."""
        return self.network == "imagenet" and self.dataset not in BUILT_IN

    def contents(self) -> dict[str, dict[str, Any]]:
        """The genotype and the images, of both splits, see `config.contents`. Raises GenotypeError and DataError."""
        text = resolve(self.genotype, bases())[1].to_darts()
        images = (
            listed_contents(self.dataset)
            if self.decodes
            else image_contents(self.dataset, self.data_dir, self.image_range, with_test=True)
        )
        return {"genotype": {"digest": text, "where": text, "genotype": text}, "dataset": images}
