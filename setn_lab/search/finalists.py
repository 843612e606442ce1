"""Finalists: the best candidates are trained from scratch, and the best of these is the winner.

Successive halving (Jamieson and Talwalkar 2016): all are trained for a few epochs, the best third of them goes on for
three times as many, until those that are left have had all. It is progressive selection (section 5.3) that spends
little on what is clearly beaten.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setn_lab.config import contents, identity, short_hash
from setn_lab.data.batches import Augmentation
from setn_lab.data.sources import OnDevice
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.setup import Retraining
from setn_lab.retrain.training import Place, RetrainError, train_until
from setn_lab.runs.progress import Observer, of_part
from setn_lab.runs.run import Run
from setn_lab.search.config import SearchConfig
from setn_lab.search.drawn import Candidate
from setn_lab.search.setup import Search
from setn_lab.search.training import SearchError
from setn_lab.search.verdict import FINALISTS

ETA = 3  # one in so many goes on, for so many times the epochs
FEWEST = 2  # networks that are trained for all epochs, so that the winner is compared with another one
JOURNAL = "finalists"  # of a run: a line per epoch of each
SPLIT = "image_range", "image_size", "train_fraction", "limit_train", "limit_valid"  # what D_train and D_val depend on


def rungs(networks: int, epochs: int) -> list[tuple[int, int]]:
    """How many networks are trained up to which epoch, step by step: [(9, 9), (3, 27)] of 9 networks and 27 epochs."""
    steps = 0
    while networks // ETA ** (steps + 1) >= FEWEST and epochs // ETA ** (steps + 1) >= 1:
        steps += 1
    return [(networks // ETA**step, epochs // ETA ** (steps - step)) for step in range(steps + 1)]


def planned_epochs(networks: int, epochs: int) -> int:
    """The epochs of all of them, of which those that go on are not trained again."""
    total, before = 0, 0
    for count, end in rungs(networks, epochs):
        total, before = total + count * (end - before), end
    return total


def recipe(config: SearchConfig) -> RetrainConfig:
    """How a finalist is trained on D_train: section 5.2 without what pays in long trainings alone.

    That is path dropout, the auxiliary head and cutout; the images are augmented as the template's, and the network has
    its stem.
    """
    shared = ("dataset", "data_dir", "image_range", "crop_padding", "flip", "cutout", "precision", "deterministic")
    return RetrainConfig(
        **{name: getattr(config, name) for name in (*shared, "device", "seed")},
        network=config.stem,
        channels=config.finalist_channels or max(2, config.channels),
        repeats=config.finalist_repeats or config.repeats,
        epochs=config.finalist_epochs,
        batch_size=config.finalist_batch_size,
        test_batch_size=config.scoring_batch_size,
        weight_lr=config.finalist_lr,
        path_dropout=0.0,
        auxiliary_weight=0.0,
    )


def halves(config: RetrainConfig, search: Search) -> OnDevice:
    """The search's images for a training from scratch: D_train to train on, D_val to test on."""
    augmentation = Augmentation(config.crop_padding, config.flip, config.cutout, search.config.crop)
    sizes = config.batch_size, config.test_batch_size
    return OnDevice(search.train, search.valid, search.normalization, augmentation, *sizes)


@dataclass(frozen=True)
class _Finalist:
    """A candidate in training. number: its rank by one-shot score, from 1. of: what its lines and checkpoints carry.

    That is the genotype as journals have it, and the digest of all that its training depends on.
    """

    number: int
    candidate: Candidate
    setup: Retraining
    of: dict[str, str]


def train_finalists(
    search: Search, run: Run, best: list[Candidate], observe: Observer = lambda progress: None
) -> Candidate:
    """Train the best candidates by successive halving; returns that of the highest accuracy on D_val at the end.

    The one of the better one-shot score among equals. Epochs go to the journal `finalists`, checkpoints to
    finalists/DIGEST until a network is beaten: a training that was killed goes on. What it came to is in
    finalists.json. A network whose loss is not finite drops out; raises SearchError where none is left, and
    ShortMemoryError.
    """
    config = recipe(search.config)
    source = halves(config, search)
    left = [_finalist(search, config, source, number, candidate) for number, candidate in enumerate(best, 1)]
    everyone = list(left)
    for places, epochs in rungs(len(best), config.epochs):
        for beaten in left[places:]:
            _forget(run, beaten)
        trained = [(one, _accuracy(run, one, epochs, observe)) for one in left[:places]]
        finished = [(accuracy, one) for one, accuracy in trained if accuracy is not None]
        left = [one for _, one in sorted(finished, key=lambda pair: -pair[0])]
    if not left:
        raise SearchError("finalists: none has a finite loss; lower finalist_lr")
    run.write(FINALISTS, json.dumps(_summary(run, everyone, config.epochs), indent=1) + "\n")
    for one in everyone:
        _forget(run, one)
    return left[0].candidate


def _finalist(search: Search, config: RetrainConfig, source: OnDevice, number: int, candidate: Candidate) -> _Finalist:
    text = search.space.write(candidate.genotype)
    images = {name: getattr(search.config, name) for name in SPLIT}
    images |= {} if search.config.resize is None else {"resize": search.config.resize}  # as versions without it wrote
    images["dataset"] = contents(search.config)["dataset"]["digest"]
    made_from = {name: value for name, value in identity(config).items() if name not in ("dataset", "genotype")}
    of = {"genotype": text, "of": short_hash(["finalist", text, made_from, images])}
    setup = Retraining(config, search.device, f"finalist {number}", candidate.genotype, source)
    return _Finalist(number, candidate, setup, of)


def _accuracy(run: Run, finalist: _Finalist, epochs: int, observe: Observer) -> float | None:
    """On D_val after so many epochs, trained now unless the journal has them; None where the training failed."""
    lines = _lines(run, finalist)
    if epochs not in lines and not any("failed" in line for line in lines.values()):
        place = Place(run, _checkpoints(run, finalist), JOURNAL, finalist.of)
        try:
            train_until(finalist.setup, place, epochs, of_part(observe, f"finalist {finalist.number}"))
        except RetrainError as error:
            run.append(JOURNAL, {**finalist.of, "epoch": 0, "failed": str(error)})
        lines = _lines(run, finalist)
    return 1 - lines[epochs]["test_error"] if epochs in lines else None


def _lines(run: Run, finalist: _Finalist) -> dict[int, dict[str, Any]]:
    """The finalist's lines of the journal by epoch; one that says why it failed is of epoch 0."""
    return {line["epoch"]: line for line in run.read(JOURNAL) if line["of"] == finalist.of["of"]}


def _checkpoints(run: Run, finalist: _Finalist) -> Path:
    return run.folder / JOURNAL / finalist.of["of"]


def _forget(run: Run, finalist: _Finalist) -> None:
    """Delete the checkpoints of a network that is trained no further."""
    shutil.rmtree(_checkpoints(run, finalist), ignore_errors=True)


def _summary(run: Run, everyone: list[_Finalist], epochs: int) -> dict[str, Any]:
    """What finalists.json holds: epochs in all, those of training each to the end, and of each network the last line.

    accuracy, loss: on D_val, None where it failed. one_shot: its loss with the template's weights.
    """
    networks = []
    for one in everyone:
        lines = _lines(run, one)
        last = lines[max(lines)]
        networks.append(
            {
                "genotype": one.of["genotype"],
                "one_shot": {"loss": one.candidate.loss, "accuracy": one.candidate.accuracy},
                "epochs": last["epoch"],
                "accuracy": 1 - last["test_error"] if "test_error" in last else None,
                "loss": last.get("test_loss"),
                "seconds": sum(line.get("seconds", 0.0) for line in lines.values()),
                **({"failed": lines[0]["failed"]} if 0 in lines else {}),
            }
        )
    return {
        "trained": sum(network["epochs"] for network in networks),
        "epochs": epochs,
        "each": len(everyone) * epochs,
        "networks": networks,
    }
