"""Training one genotype: the loop against a plain one, resume, seeds, errors; then several processes."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from groups import run_group
from PIL import Image
from references import DIGITS, StopError, write_folder

from setn_lab.compute.device import ShortMemoryError
from setn_lab.compute.distributed import ALONE
from setn_lab.compute.streams import generator
from setn_lab.config import ConfigError, build, to_json
from setn_lab.data.batches import augment, batch_indices, normalize_images
from setn_lab.data.folders import DataError
from setn_lab.network.export import load
from setn_lab.retrain import __main__ as command
from setn_lab.retrain.config import RetrainConfig
from setn_lab.retrain.report import describe_retraining
from setn_lab.retrain.results import results, summary
from setn_lab.retrain.setup import prepare_retraining
from setn_lab.retrain.training import RetrainError, learning_rate, retrain
from setn_lab.runs import checkpoint
from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import epoch_line
from setn_lab.runs.run import Run
from setn_lab.space.genotype import GenotypeError
from setn_lab.space.zoo import ZOO

ONE_NODE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('dil_conv_3x3', 1)], reduce_concat=[2])"
)
TINY = {
    **DIGITS,
    "genotype": ONE_NODE,
    "channels": 4,
    "epochs": 3,
    "batch_size": 32,
    "limit_train": 100,
    "limit_test": 50,
    "auxiliary_weight": 0.0,
    "cutout": 2,
}


# Of operations whose tensors have the layout of the images all the way
CONVOLUTIONS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], normal_concat=[2], "
    "reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], reduce_concat=[2])"
)


def train(folder, observe=lambda progress: None, **values):
    config = build(RetrainConfig, {**TINY, "run_dir": str(folder), **values})
    job = prepare_retraining(config)
    with Run.open(config, "retrain") as run:
        return retrain(job, run, ALONE, observe)


def outcome(folder):
    """All that a run came to, but the times."""
    lines = [{**line, "seconds": 0} for line in read_journal(folder / "metrics.jsonl")]
    return lines, {path.name: path.read_bytes() for path in sorted(folder.glob("network-*"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrain") / "run"
    return folder, train(folder, seeds=2)


def test_the_rate_rises_in_a_line_and_falls_along_a_half_cosine():
    config = RetrainConfig(epochs=10, warmup_epochs=2, weight_lr=0.5)
    rates = [learning_rate(config, step, 5) for step in range(50)]
    np.testing.assert_allclose(rates[:10], 0.05 * np.arange(1, 11))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    for rate in rates[10:]:
        assert rate == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_the_loop_is_a_plain_one(tmp_path):
    """Two epochs against a loop written out, with path dropout, label smoothing, momentum, decay and clipping."""
    values = {"epochs": 2, "path_dropout": 0.4, "label_smoothing": 0.1, "gradient_clip": 0.5}
    train(tmp_path, **values)
    config = build(RetrainConfig, {**TINY, **values})
    job = prepare_retraining(config)
    images, network = job.source.training, job.network(0)
    momentum = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    losses = []
    for step in range(6):
        indices = batch_indices(100, 32, 0, "training order", step)
        rng = generator(0, "training augmentation", step)
        chosen = images.take(indices)
        pixels = augment(chosen.images, job.source.normalization, job.source.augmentation, rng)
        rate = 0.4 * (step // 3) / 2
        kept = generator(0, "path dropout", step).random((32, 5, 1, 2)) >= rate
        keep = torch.from_numpy(kept / (1 - rate)).float().permute(1, 2, 3, 0)
        logits = network(pixels, keep if rate else None).logits
        log = logits.log_softmax(1)
        loss = -(0.9 * log.gather(1, chosen.labels[:, None])[:, 0] + 0.1 * log.mean(1)).mean()
        losses.append(loss.item())
        parameters = dict(network.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        norm = math.sqrt(sum((gradient**2).sum().item() for gradient in gradients))
        assert norm > 0.5, "nothing was clipped"
        lr = 0.025 * (1 + math.cos(math.pi * step / 6)) / 2
        with torch.no_grad():
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
                momentum[name] = 0.9 * momentum[name] + gradient * 0.5 / norm + 5e-4 * value
                value -= lr * momentum[name]
    stored = load(tmp_path / "network-0.safetensors").network
    for name, value in network.state_dict().items():
        torch.testing.assert_close(stored.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    lines = read_journal(tmp_path / "metrics.jsonl")
    np.testing.assert_allclose([line["loss"] for line in lines], np.mean(np.reshape(losses, (2, 3)), axis=1), rtol=1e-3)
    with torch.no_grad():
        logits = stored(normalize_images(job.source.testing.images, job.source.normalization)).logits
    labels = job.source.testing.labels
    assert lines[-1]["test_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert lines[-1]["test_error"] == pytest.approx((logits.argmax(1) != labels).float().mean().item())
    fifth = logits.sort(1, descending=True).values[:, 4]
    top5 = logits.gather(1, labels[:, None])[:, 0] < fifth
    assert lines[-1]["test_error_top5"] == pytest.approx(top5.float().mean().item())


def test_the_auxiliary_head_adds_its_weighted_loss(tmp_path):
    write_folder(tmp_path / "images", {"a": 8, "b": 8}, 32)
    write_folder(tmp_path / "images", {"a": 2, "b": 2}, 32, split="test", seed=1)
    values = {"dataset": str(tmp_path / "images"), "limit_train": None, "limit_test": None, "batch_size": 16}
    values |= {"epochs": 1, "weight_momentum": 0.0, "weight_decay": 0.0, "gradient_clip": 1e9, "weight_lr": 1.0}
    train(tmp_path / "run", **values, auxiliary_weight=0.3)
    job = prepare_retraining(build(RetrainConfig, {**TINY, **values, "auxiliary_weight": 0.3}))
    network = job.network(0)
    (batch,) = job.source.train(0, range(1), ALONE.share)
    outputs = network(batch.images)
    loss = F.cross_entropy(outputs.logits, batch.labels) + 0.3 * F.cross_entropy(outputs.auxiliary, batch.labels)
    loss.backward()
    stored = load(tmp_path / "run" / "network-0.safetensors").network
    for name, value in network.named_parameters():
        if not name.startswith("auxiliary."):
            torch.testing.assert_close(stored.get_parameter(name), value - value.grad, rtol=1e-3, atol=1e-4)


def test_a_stopped_training_goes_on_bitwise(tmp_path, finished):
    for seed, stop in ((0, 1), (0, 4), (0, 7), (1, 1), (1, 4), (1, 7)):  # steps, three an epoch

        def observe(progress, done=9 * seed + stop):
            if progress.done == done and progress.record is None:
                raise StopError

        with pytest.raises(StopError):
            train(tmp_path, observe, seeds=2)
    train(tmp_path, seeds=2)
    assert outcome(tmp_path) == outcome(finished[0])


@pytest.mark.parametrize("number", [2, 5])  # the second epoch of each seed
def test_a_training_killed_between_journal_and_checkpoint_goes_on_bitwise(tmp_path, finished, monkeypatch, number):
    real, calls = checkpoint.save, []

    def save(*arguments):
        calls.append(1)
        if len(calls) == number:
            raise StopError
        return real(*arguments)

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(StopError):
        train(tmp_path, seeds=2)
    assert len(read_journal(tmp_path / "metrics.jsonl")) == number
    train(tmp_path, seeds=2)
    assert outcome(tmp_path) == outcome(finished[0])


def test_a_seed_that_falls_back_leaves_the_lines_of_later_ones(tmp_path, finished):
    train(tmp_path, seeds=2)
    newest = max((tmp_path / "checkpoints" / "seed-0").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.warns(UserWarning, match="bad checkpoint"):
        assert [one.seed for one in train(tmp_path, seeds=2)] == [0, 1]
    lines, networks = outcome(tmp_path)
    expected, same = outcome(finished[0])
    assert sorted(lines, key=lambda line: (line["seed"], line["epoch"])) == expected
    assert networks == same


def test_a_finished_training_is_left_as_it_is(finished):
    folder, found = finished
    before = outcome(folder)
    assert train(folder, seeds=2) == found
    assert outcome(folder) == before


def test_seeds_are_trainings_of_their_own(tmp_path, finished):
    folder, found = finished
    train(tmp_path, seed=1)
    lines, networks = outcome(tmp_path)
    whole, both = outcome(folder)
    assert lines == [line for line in whole if line["seed"] == 1]
    assert networks["network-1.safetensors"] == both["network-1.safetensors"] != both["network-0.safetensors"]
    errors = [100 * one.test_error for one in found]
    assert f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f} %" in summary(found)
    assert found == results(folder)


def test_the_data_order_does_not_depend_on_the_global_generators(tmp_path, finished):
    torch.manual_seed(5)
    np.random.default_rng(5)
    state = torch.get_rng_state()
    train(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    lines, _ = outcome(tmp_path)
    assert lines == [line for line in outcome(finished[0])[0] if line["seed"] == 0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_precision_and_layout_are_those_asked_for(tmp_path, monkeypatch, precision, channels_last):
    seen = set()
    real = F.conv2d

    def watched(x, *arguments):
        y = real(x, *arguments)
        seen.add((y.is_contiguous(memory_format=torch.channels_last), y.dtype))
        return y

    monkeypatch.setattr(torch.nn.modules.conv.F, "conv2d", watched)
    for split, label in ("train", "a"), ("train", "b"), ("test", "a"), ("test", "b"):
        (tmp_path / "images" / split / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), "#123456").save(tmp_path / "images" / split / label / "0.png")
        Image.new("RGB", (8, 8), "#789abc").save(tmp_path / "images" / split / label / "1.png")
    values = {"dataset": str(tmp_path / "images"), "batch_size": 4, "genotype": CONVOLUTIONS, "epochs": 1}
    train(tmp_path / "run", precision=precision, channels_last=channels_last, **values)
    assert seen == {(channels_last, getattr(torch, precision))}


def test_another_genotype_is_refused_and_nothing_is_lost(tmp_path):
    train(tmp_path, epochs=1)
    before = outcome(tmp_path)
    (tmp_path / "genotype.json").write_text(ZOO["GDAS"].genotype.to_json(), encoding="utf-8")
    with pytest.raises(RunError, match=r"genotype\.json: holds .* choose another run_dir"):
        train(tmp_path, epochs=1)
    (tmp_path / "genotype.json").unlink()
    (path,) = (tmp_path / "checkpoints" / "seed-0").glob("*.pt")
    _, state = checkpoint.load_latest(path.parent)
    path.unlink()
    checkpoint.save(path.parent, 1, {**state, "genotype": ZOO["GDAS"].genotype.to_json()})
    with pytest.raises(RunError, match="checkpoints are of another genotype"):
        train(tmp_path, epochs=1)
    assert outcome(tmp_path) == before


def test_a_loss_that_is_not_finite_names_step_and_rate_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    real = prepare_retraining(build(RetrainConfig, TINY)).source.train
    config = build(RetrainConfig, {**TINY, "run_dir": str(tmp_path)})
    job = prepare_retraining(config)

    def broken(self, seed, steps, share):
        for step, batch in zip(steps, real(seed, steps, share), strict=True):
            yield batch._replace(images=batch.images * math.nan) if step == 4 else batch

    monkeypatch.setattr(type(job.source), "train", broken)
    rate = learning_rate(config, 4, 3)
    with (
        Run.open(config, "retrain") as run,
        pytest.raises(RetrainError, match=rf"step 5 \(epoch 2\).*rate of {rate:.3g}"),
    ):
        retrain(job, run)
    assert checkpoint.load_latest(tmp_path / "checkpoints" / "seed-0")[0] == 1
    assert len(read_journal(tmp_path / "metrics.jsonl")) == 1


def test_weights_that_the_last_step_broke_are_not_kept(tmp_path, monkeypatch):
    real = torch.optim.SGD.step
    calls = []

    def step(self, *arguments):
        real(self, *arguments)
        calls.append(1)
        if len(calls) == 6:  # the last one of the second epoch: its loss was finite
            self.param_groups[0]["params"][0].data.fill_(math.nan)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(RetrainError, match=r"test images.* step 6 .*epoch 1"):
        train(tmp_path)
    assert checkpoint.load_latest(tmp_path / "checkpoints" / "seed-0")[0] == 1
    assert len(read_journal(tmp_path / "metrics.jsonl")) == 1


@pytest.mark.parametrize(
    ("what", "classes", "mode", "size"),
    [
        ("classes", "bc", "L", 8),
        ("channels", "ab", "RGB", 8),
        ("image_size", "ab", "L", 9),
    ],
)
def test_test_images_that_differ_from_the_training_images_are_refused(tmp_path, what, classes, mode, size):
    for split, labels, kind, side in (("train", "ab", "L", 8), ("test", classes, mode, size)):
        for label in labels:
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(3):
                Image.new(kind, (side, side), 40 * number).save(tmp_path / split / label / f"{number}.png")
    with pytest.raises(DataError, match=f"has the {what} .* must be the same"):
        prepare_retraining(build(RetrainConfig, {**TINY, "dataset": str(tmp_path), "batch_size": 2}))


BAD = [
    ({"genotype": "SETM"}, GenotypeError, "did you mean 'SETN'"),
    ({"genotype": "Genotype(normal=[__import__('os').system('x')])"}, GenotypeError, "Genotype|fields|names in quotes"),
    ({"num_classes": 100}, ConfigError, "num_classes: 100 given; digits has 10 classes"),
    ({"batch_size": 101}, DataError, "batch_size: 101 given, but there are only 100 images"),
    ({"auxiliary_weight": 0.4}, ConfigError, "auxiliary_weight: 0.4 given for images of 8 pixels"),
    ({"warmup_epochs": 3}, ConfigError, "warmup_epochs: 3 given"),
    ({"device": "cuda:99"}, ConfigError, "device"),
    ({"dataset": "cifar11"}, DataError, "cifar11"),
]


@pytest.mark.parametrize(("values", "error", "text"), BAD, ids=[next(iter(values)) for values, _, _ in BAD])
def test_bad_parameters_are_refused_before_anything_is_written(tmp_path, values, error, text):
    with pytest.raises(error, match=text):
        train(tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()


# Images of any size, and folders that are called otherwise


@pytest.fixture
def pictures(tmp_path):
    """A folder of images of any size: of 40 pixels a side, and some of 50 x 60."""
    folder = tmp_path / "pictures"
    write_folder(folder, {"a": 4, "b": 4}, 40)
    write_folder(folder, {"a": 3, "b": 2}, 40, split="val", seed=1)
    for path in folder.glob("*/b/*.png"):
        Image.open(path).resize((50, 60)).save(path)
    return folder


def of_pictures(folder, **values):
    """The parameters of a short training on a folder of images of any size, beside TINY's."""
    own = {"dataset": str(folder), "network": "imagenet", "image_size": 32, "workers": 0, "epochs": 1, "batch_size": 4}
    own |= {"crop_padding": 4, "flip": True, "cutout": 0, "limit_train": None, "limit_test": None, "test_batch_size": 1}
    return {**own, **values}


def test_a_photo_is_classified_as_the_test_images_are(pictures, tmp_path):
    config = build(RetrainConfig, {**TINY, **of_pictures(pictures)})
    job = prepare_retraining(config)
    network = job.network(0).eval()
    path = tmp_path / "network.safetensors"
    path.write_bytes(job.trained(network).to_bytes())
    read, tested = load(path), list(job.source.test(ALONE.share))
    assert (read.resize, read.image_size, len(tested)) == (36, 32, 5)
    for number, batch in enumerate(tested):
        with torch.no_grad():
            expected = network(batch.images).logits.softmax(1)[0]
        with Image.open(job.source.name("test", number)) as photo:
            torch.testing.assert_close(read.probabilities(photo), expected, rtol=1e-6, atol=1e-7)


def test_an_image_of_the_trained_size_is_classified_as_the_test_images_are(tmp_path):
    job = prepare_retraining(build(RetrainConfig, TINY))
    network = job.network(0).eval()
    path = tmp_path / "network.safetensors"
    path.write_bytes(job.trained(network).to_bytes())
    (batch,) = job.source.test(ALONE.share)
    with torch.no_grad():
        expected = network(batch.images).logits.softmax(1)
    for pixels, row in zip(job.source.testing.images, expected, strict=True):
        given = load(path).probabilities(pixels.permute(2, 0, 1))
        torch.testing.assert_close(given, row, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [{"crop_padding": 2}, {"flip": False}, {"cutout": 8}, {"cutout": 8, "flip": False}],
    ids=lambda values: "-".join(values),
)
def test_what_has_no_effect_on_images_of_any_size_is_refused(pictures, values):
    with pytest.raises(ConfigError) as error:
        prepare_retraining(build(RetrainConfig, {**TINY, **of_pictures(pictures, **values)}))
    lines = str(error.value).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == sorted(values)
    assert all("for images of any size, on which it has no effect" in line for line in lines)


def test_what_only_says_so_is_taken(pictures):
    config = build(RetrainConfig, {**TINY, **of_pictures(pictures, crop_padding=0, cutout=16)})
    text = describe_retraining(prepare_retraining(config))
    assert "random resized crops, flips and colour jitter, without crop_padding and cutout" in text
    assert "tested on `val`" in text


@pytest.mark.parametrize("values", [{"image_size": 32}, {"bad_images": "skip"}], ids=lambda values: "-".join(values))
@pytest.mark.parametrize("network", ["cifar", "imagenet"])
def test_what_has_no_effect_on_images_of_one_size_is_refused(values, network):
    with pytest.raises(ConfigError, match=rf"^{next(iter(values))}: .* for images of one size, on which it has no ef"):
        prepare_retraining(build(RetrainConfig, {**TINY, "network": network, **values}))


def test_a_folder_with_val_is_tested_on_it(tmp_path):
    write_folder(tmp_path, {"a": 4, "b": 4}, 8)
    pixels = write_folder(tmp_path, {"a": 1, "b": 2}, 8, split="val", seed=1)
    values = {**TINY, "dataset": str(tmp_path), "batch_size": 4, "limit_train": None, "limit_test": None}
    job = prepare_retraining(build(RetrainConfig, values))
    assert np.array_equal(job.source.testing.images, pixels)
    text = describe_retraining(job)
    assert "tested on `val`" in text
    assert "crops after 1 black pixels on each side, no flips, cutout of 2 pixels" in text
    write_folder(tmp_path, {"a": 1, "b": 1}, 8, split="test", seed=2)
    job = prepare_retraining(build(RetrainConfig, values))
    assert len(job.source.testing) == 2
    assert "tested on `test`" in describe_retraining(job)


def test_the_range_of_sixteen_bits_reaches_both_kinds_and_the_exported_network(tmp_path):
    levels = np.linspace(0, 4095, 1600).astype(np.uint16).reshape(40, 40)
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(levels).save(tmp_path / split / label / f"{number}.png")
    one_size = {"dataset": str(tmp_path), "batch_size": 4, "limit_train": None, "limit_test": None, "image_range": 4095}
    for values in (one_size, of_pictures(tmp_path, image_range=4095)):
        job = prepare_retraining(build(RetrainConfig, {**TINY, **values}))
        (batch, *_) = job.source.test(ALONE.share)
        seen = batch.images[0, 0] * job.source.std[0] + job.source.mean[0]
        assert seen.max() > 0.8
        assert job.trained(job.network(0)).image_range == 4095


def test_short_memory_names_the_batch_size(tmp_path, monkeypatch):
    def short(*arguments, **named):
        raise MemoryError("no")

    monkeypatch.setattr(F, "cross_entropy", short)
    with pytest.raises(ShortMemoryError, match="lower batch_size"):
        train(tmp_path)


# Several processes


def launch(folder, processes=2, wait=True, python=("-m",), **values):
    """The command of the documentation, in processes of one thread; what it printed and its exit code.

    python: what the command is to start the module with.
    """
    config = build(RetrainConfig, {**TINY, "run_dir": str(folder), **values})
    path = folder.with_suffix(".json")
    path.write_text(to_json(config), encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words += [*python, "setn_lab.retrain", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    return process if not wait else (process.communicate(timeout=120)[0], process.returncode)


def train_as_a_member(path, prepare):
    prepare()
    sys.argv[1:] = [str(path)]
    return command.main()


def nothing():
    pass


@pytest.fixture(scope="module")
def forked_group(fork_server):
    """What `launch` does without `torchrun`, in processes that are forked: seconds less for each."""

    def forked_group(folder, prepare=nothing, processes=2, **values):
        config = build(RetrainConfig, {**TINY, "run_dir": str(folder), **values})
        path, log = folder.with_suffix(".json"), folder.with_suffix(".log")
        path.write_text(to_json(config), encoding="utf-8")
        return run_group(fork_server, log, train_as_a_member, path, prepare, processes=processes)

    return forked_group


def without_statistics():
    torch.nn.BatchNorm2d.forward = lambda self, x, factor=None: (
        x * self.weight[:, None, None] * 2 + self.bias[:, None, None]
    )


def test_two_processes_compute_the_gradients_of_one(tmp_path, forked_group):
    """Without batch statistics: the trained weights, and so all gradients on the way, are equal up to rounding."""
    values = {"epochs": 2, "path_dropout": 0.3, "weight_lr": 0.05}
    weights = []
    for processes in (1, 2):
        text, code = forked_group(tmp_path / f"run{processes}", without_statistics, processes, **values)
        assert code == 0, text
        weights.append(load(tmp_path / f"run{processes}" / "network-0.safetensors").network.state_dict())
    start = prepare_retraining(build(RetrainConfig, TINY)).network(0).state_dict()
    moved = 0.0
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6)
        moved = max(moved, (value - start[name]).abs().max().item())
    assert moved > 1e-3, "nothing was learned, so nothing was compared"
    first, second = (read_journal(tmp_path / f"run{processes}" / "metrics.jsonl") for processes in (1, 2))
    for one, other in zip(first, second, strict=True):
        for name in ("loss", "error", "test_loss", "test_error"):
            assert other[name] == pytest.approx(one[name], rel=1e-4)


def test_a_killed_worker_ends_the_job_and_the_same_training_resumes(tmp_path, forked_group, light_python):
    values = {"epochs": 6, "limit_train": 64}
    text, code = forked_group(tmp_path / "whole", **values)
    assert code == 0, text
    process = launch(tmp_path / "killed", wait=False, python=["--no-python", *light_python], **values)
    journal = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 180
    while not journal.exists() or not journal.read_text(encoding="utf-8").count("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [child for child in psutil.Process(process.pid).children() if "setn_lab.retrain" in child.cmdline()]
    assert len(workers) == 2
    workers[1].send_signal(signal.SIGKILL)
    text = process.communicate(timeout=90)[0]
    assert process.returncode != 0
    assert "SIGKILL" in text
    assert 0 < len(read_journal(journal)) < 6
    text, code = forked_group(tmp_path / "killed", **values)
    assert code == 0, text
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path, forked_group):
    text, code = forked_group(tmp_path / "run", batch_size=33)
    assert code != 0
    assert "batch_size: 33 given for 2 processes; a multiple is allowed" in text
    assert not (tmp_path / "run").exists()


def test_processes_list_the_bad_images_of_all(tmp_path, forked_group):
    write_folder(tmp_path / "images", {"a": 8, "b": 8}, 40, suffix="JPEG")
    write_folder(tmp_path / "images", {"a": 3, "b": 3}, 40, split="val", suffix="JPEG", seed=1)
    names = "train/a/001", "train/b/006", "train/b/007", "val/b/002"
    bad = [tmp_path / "images" / f"{name}.JPEG" for name in names]
    for path in bad:
        path.write_bytes(path.read_bytes()[:300])
    values = of_pictures(tmp_path / "images", batch_size=16, test_batch_size=2)
    text, code = forked_group(tmp_path / "failing", **values)
    assert code != 0
    assert any(f"the image {path} cannot be read" in text for path in bad)
    text, code = forked_group(tmp_path / "run", **values, bad_images="skip")
    assert code == 0, text
    (line,) = read_journal(tmp_path / "run" / "metrics.jsonl")
    assert line["skipped"] == sorted(map(str, bad))


def test_the_command_line_trains_and_prints(tmp_path, finished):
    text, code = launch(tmp_path / "run", processes=1, seeds=2)
    assert code == 0, text
    assert summary(finished[1]) in text
    printed = [line for line in text.splitlines() if line.startswith("seed ")]
    assert printed == [epoch_line(record) for record in read_journal(tmp_path / "run" / "metrics.jsonl")]
    assert asdict(finished[1][0])["seed"] == 0
