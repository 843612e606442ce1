"""Final networks against a hand-written macro-structure in float64, formulas for their cost, and the printed sizes."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import cost_by_hand, kinds_of, noise, parameters_by_hand, pixels
from torch import nn

from setn_lab.compute.streams import generator
from setn_lab.network import operations
from setn_lab.network.costs import cost
from setn_lab.network.discrete import CifarNetwork, ImageNetNetwork
from setn_lab.network.operations import build_operation
from setn_lab.space.genotype import OPERATIONS, Genotype
from setn_lab.space.zoo import ZOO

CLASSES = 3
NETWORKS = {"cifar": CifarNetwork, "imagenet": ImageNetNetwork}
DEFAULT_SIZE = {"cifar": 32, "imagenet": 224}

# Five nodes, of which the reduction cell concatenates three: NASNet-A, as DARTS writes it.
NASNET = Genotype.from_darts(
    "Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),"
    " ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1),"
    " ('skip_connect', 1)], normal_concat=[2, 3, 4, 5, 6], reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0),"
    " ('max_pool_3x3', 1), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3),"
    " ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1)], reduce_concat=[4, 5, 6])"
)
# Five nodes in the normal cell and four in the reduction cell; concatenated in another order than that of the states.
UNEQUAL = Genotype(
    (
        (("avg_pool_3x3", 0), ("max_pool_3x3", 1)),
        (("sep_conv_3x3", 0), ("sep_conv_5x5", 2)),
        (("skip_connect", 3), ("dil_conv_3x3", 1)),
        (("sep_conv_3x3", 1), ("skip_connect", 1)),
        (("skip_connect", 0), ("none", 4)),
    ),
    (6, 4, 5),
    (
        (("skip_connect", 0), ("skip_connect", 1)),
        (("max_pool_3x3", 0), ("sep_conv_7x7", 2)),
        (("conv_7x1_1x7", 0), ("skip_connect", 2)),
        (("dil_conv_5x5", 1), ("sep_conv_3x3", 3)),
    ),
    (3, 5),
)
# Every operation, and in the reduction cell each with stride 2. Nothing reads the second node.
EVERY = Genotype(
    tuple(
        ((first, 0), (second, 1)) for first, second in zip(OPERATIONS[::2], (*OPERATIONS[1::2], "none"), strict=True)
    ),
    (2, 4, 5, 6, 7),
    tuple(
        ((first, 1), (second, 0)) for first, second in zip(OPERATIONS[::2], (*OPERATIONS[1::2], "none"), strict=True)
    ),
    (2, 4, 5, 6, 7),
)
GENOTYPES = {
    "NASNet": NASNET,
    "unequal": UNEQUAL,
    "every": EVERY,
    **{name: ZOO[name].genotype for name in ("SETN", "GDAS", "DARTS_V1", "DARTS_V2")},
}


def built(kind, genotype, channels=3, repeats=1, auxiliary=False, image_channels=3):
    """A network in float64 whose norms have weights and running averages as training leaves them."""
    network = NETWORKS[kind](genotype, channels, repeats, CLASSES, auxiliary, image_channels)
    rng = np.random.default_rng(1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            size = part.num_features
            part.weight.data.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, size)))
            part.bias.data.copy_(torch.from_numpy(rng.normal(size=size)))
            part.running_mean.copy_(torch.from_numpy(rng.normal(size=size)))
            part.running_var.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, size)))
    return network.double()


class ByHand:
    """The network as DARTS describes it. Weights are looked up by name; no module of the network is called."""

    def __init__(self, network, kind, repeats, drop_path=None):
        self.weights = dict(network.state_dict())
        self.kind, self.kinds, self.genotype = kind, kinds_of(repeats), network.genotype
        self.training, self.drop_path = network.training, drop_path

    def conv(self, x, name, **options):
        return F.conv2d(x, self.weights[f"{name}.weight"], **options)

    def norm(self, x, name):
        w = self.weights
        if self.training:
            mean = x.mean((0, 2, 3))
            variance = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
        else:
            mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        scale = w[f"{name}.weight"] / (variance + 1e-5).sqrt()
        return x * scale[:, None, None] + (w[f"{name}.bias"] - mean * scale)[:, None, None]

    def pointwise(self, x, name):
        return self.norm(self.conv(x.clamp(min=0), f"{name}.body"), f"{name}.norm")

    def halved(self, x, name):
        """Even pixels by one convolution, odd ones by the other; an odd side is continued by zeros."""
        x = x.clamp(min=0)
        larger = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        even = self.conv(x[:, :, ::2, ::2], f"{name}.body.even")
        odd = self.conv(larger[:, :, 1::2, 1::2], f"{name}.body.odd")
        return self.norm(torch.cat([even, odd], 1), f"{name}.norm")

    def operation(self, x, operation, name, stride):
        channels = x.shape[1]
        if operation == "none":
            return torch.zeros_like(x[:, :, ::stride, ::stride])
        if operation == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if operation == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        if operation == "skip_connect":
            return x if stride == 1 else self.halved(x, name)
        kernel = int(operation[-1])
        half = kernel // 2
        active = x.clamp(min=0)
        if operation.startswith("conv"):
            rows = self.conv(active, f"{name}.body.0", stride=(1, stride), padding=(0, half))
            columns = self.conv(rows, f"{name}.body.1", stride=(stride, 1), padding=(half, 0))
            return self.norm(columns, f"{name}.norm")
        if operation.startswith("dil"):
            y = self.conv(active, f"{name}.body.0", stride=stride, padding=2 * half, dilation=2, groups=channels)
            return self.norm(self.conv(y, f"{name}.body.1"), f"{name}.norm")
        y = self.conv(active, f"{name}.body.0", stride=stride, padding=half, groups=channels)
        y = self.norm(self.conv(y, f"{name}.body.1"), f"{name}.body.2").clamp(min=0)
        y = self.conv(y, f"{name}.body.4", padding=half, groups=channels)
        return self.norm(self.conv(y, f"{name}.body.5"), f"{name}.norm")

    def stems(self, images):
        if self.kind == "cifar":
            both = self.norm(self.conv(images, "stem.0", padding=1), "stem.1")
            return both, both
        half = self.norm(self.conv(images, "stem.0", stride=2, padding=1), "stem.1").clamp(min=0)
        quarter = self.norm(self.conv(half, "stem.3", stride=2, padding=1), "stem.4")
        eighth = self.conv(quarter.clamp(min=0), "second_stem.0", stride=2, padding=1)
        return quarter, self.norm(eighth, "second_stem.1")

    def cell(self, index, before, previous):
        name, kind = f"cells.{index}", self.kinds[index]
        nodes, concat = (
            (self.genotype.normal, self.genotype.normal_concat)
            if kind == "N"
            else (self.genotype.reduce, self.genotype.reduce_concat)
        )
        after_reduction = self.kinds[index - 1] == "R" if index else self.kind == "imagenet"
        first = (self.halved if after_reduction else self.pointwise)(before, f"{name}.preprocess0")
        states = [first, self.pointwise(previous, f"{name}.preprocess1")]
        for node, pair in enumerate(nodes):
            total = 0
            for side, (operation, state) in enumerate(pair):
                stride = 2 if kind == "R" and state in (0, 1) else 1
                term = self.operation(states[state], operation, f"{name}.edges.{node}.{side}", stride)
                if self.drop_path is not None and (operation, stride) != ("skip_connect", 1):
                    term = term * self.drop_path[index, node, side].reshape(-1, 1, 1, 1)
                total = total + term
            states.append(total)
        return torch.cat([states[state] for state in concat], 1)

    def head(self, x):
        y = F.avg_pool2d(x.clamp(min=0), 5, {"cifar": 3, "imagenet": 2}[self.kind], count_include_pad=False)
        for conv, norm in (("0", "1"), ("3", "4")):
            conv, norm = (f"auxiliary.features.{int(number) + 1}" for number in (conv, norm))
            y = self.norm(self.conv(y, conv), norm).clamp(min=0)
        return self.linear(y, "auxiliary.classifier")

    def linear(self, x, name):
        return F.linear(x.mean((2, 3)), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def __call__(self, images):
        """Logits, and those of the auxiliary head where there is one."""
        before, previous = self.stems(images)
        auxiliary = None
        for index in range(len(self.kinds)):
            before, previous = previous, self.cell(index, before, previous)
            if index == 2 * len(self.kinds) // 3 and "auxiliary.classifier.bias" in self.weights:
                auxiliary = self.head(previous)
        return self.linear(previous, "classifier"), auxiliary


# --- the printed sizes ------------------------------------------------------------------------------------

# network, data, C, N, parameters in millions, multiply-adds in millions, as they are printed
PRINTED = [
    ("SETN", "CIFAR-10", 36, 6, "4.6", None),
    ("SETN", "ImageNet", 73, 1, "5.2", "597"),
    ("SETN", "ImageNet", 58, 2, "5.3", "600"),
    ("SETN", "ImageNet", 49, 3, "5.3", "584"),
    ("SETN", "ImageNet", 44, 4, "5.4", "599"),
    ("GDAS", "CIFAR-10", 36, 6, "3.4", None),
    ("GDAS", "ImageNet", 50, 4, "5.3", "581"),
    ("DARTS_V2", "CIFAR-10", 36, 6, "3.3", None),
    ("DARTS_V2", "ImageNet", 48, 4, "4.7", None),
]


@pytest.mark.parametrize(("name", "data", "channels", "repeats", "parameters", "multiply_adds"), PRINTED)
def test_printed_size(name, data, channels, repeats, parameters, multiply_adds, monkeypatch):
    monkeypatch.setattr(
        operations, "initialize", lambda *_: None
    )  # it takes time, and the cost is not that of the weights
    kind, classes = ("cifar", 10) if data == "CIFAR-10" else ("imagenet", 1000)
    costs = []
    for auxiliary in (False, True):
        network = NETWORKS[kind](ZOO[name].genotype, channels, repeats, classes, auxiliary)
        assert (network.auxiliary is not None) == auxiliary
        costs.append(cost(network, DEFAULT_SIZE[kind]))
    assert costs[0] == costs[1], "the auxiliary head is left out"
    assert f"{costs[0].parameters / 1e6:.1f}" == parameters
    if multiply_adds is not None:
        assert f"{costs[0].multiply_adds / 1e6:.0f}" == multiply_adds
    (size,) = [
        size for size in ZOO[name].sizes if (size.data, size.channels, size.repeats) == (data, channels, repeats)
    ]
    assert f"{size.parameters:.1f}" == parameters
    if not size.remark:
        assert (None if size.multiply_adds is None else f"{size.multiply_adds:.0f}") == multiply_adds
    if size.exact is not None:
        assert costs[0].parameters == size.exact


def test_the_exact_number_of_parameters_and_the_one_that_is_not_reproduced():
    exact = [(name, size) for name, published in ZOO.items() for size in published.sizes if size.exact is not None]
    assert [(name, size.data, size.exact) for name, size in exact] == [("DARTS_V2", "CIFAR-10", 3_349_342)]
    remarked = [(name, size) for name, published in ZOO.items() for size in published.sizes if size.remark]
    ((name, size),) = [(name, size) for name, size in remarked if name == "DARTS_V2"]
    assert (size.data, size.channels, size.repeats, round(size.multiply_adds)) == ("ImageNet", 48, 4, 574)
    counted = cost(ImageNetNetwork(ZOO[name].genotype, 48, 4, 1000), 224).multiply_adds
    assert counted < 573_500_000


# --- parameters and multiply-adds by formula --------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_in_a_final_network(name, stride):
    for channels in (4, 5):
        module = build_operation(name, channels, stride)
        assert sum(p.numel() for p in module.parameters()) == parameters_by_hand(name, channels, stride)
        for size in (8, 7):
            x = noise(2, channels, size, size).float().requires_grad_()
            y = module(x)
            assert y.shape == (2, channels, math.ceil(size / stride), math.ceil(size / stride))
            y.square().sum().backward()
            assert all(float(p.grad.abs().sum()) > 0 for p in module.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", GENOTYPES)
def test_cost_is_the_formulas(name, kind):
    for channels, repeats, size, image_channels in ((4, 2, 32, 3), (5, 1, 57, 1)):
        network = NETWORKS[kind](GENOTYPES[name], channels, repeats, 7, image_channels=image_channels)
        given = cost(network, size)
        assert given == cost_by_hand(kind, GENOTYPES[name], channels, repeats, 7, size, image_channels)
        assert given.parameters == sum(p.numel() for p in network.parameters())


def test_multiply_adds_written_out():
    """C = 4, N = 1, 8x8 pixels, 10 classes: 8x8 in the first cell, 4x4 in the next two, 2x2 in the last two."""
    node = (("sep_conv_3x3", 0), ("skip_connect", 1))
    genotype = Genotype((node,), (2,), (node,), (2,))
    terms = [
        3 * 9 * 12 * 64,  # stem, to 12 channels
        (12 * 4 + 12 * 4) * 64,  # cell 0: both inputs are the stem's 12 channels
        2 * (9 * 4 + 4 * 4) * 64,
        (12 * 8 + 4 * 8) * 64,  # cell 1, a reduction to 8 channels: inputs are stem and cell 0, at full size
        2 * (9 * 8 + 8 * 8) * 16,
        8 * 8 * 16,  # its skip connection is a factorized reduction
        (4 * 8 + 8 * 8) * 16,  # cell 2: cell 0 is halved
        2 * (9 * 8 + 8 * 8) * 16,
        (8 * 16 + 8 * 16) * 16,  # cell 3, a reduction to 16 channels
        2 * (9 * 16 + 16 * 16) * 4,
        16 * 16 * 4,
        (8 * 16 + 16 * 16) * 4,  # cell 4
        2 * (9 * 16 + 16 * 16) * 4,
        16 * 10,  # classifier
    ]
    assert cost(CifarNetwork(genotype, 4, 1, 10), 8).multiply_adds == sum(terms)


def test_cost_leaves_the_network_as_it_is():
    network = CifarNetwork(UNEQUAL, 3, 1, CLASSES, auxiliary=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = cost(network, 32)
    assert network.training
    assert cost(network.eval(), 32) == first
    assert not network.training
    for name, value in network.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, before[name])


# --- the wiring -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", GENOTYPES)
def test_network_is_the_one_written_by_hand(name, kind):
    rng = np.random.default_rng(5)
    for channels, repeats, size in (
        (3, 1, {"cifar": 8, "imagenet": 32}[kind]),
        (2, 2, {"cifar": 9, "imagenet": 45}[kind]),
    ):
        genotype = GENOTYPES[name]
        network = built(kind, genotype, channels, repeats)
        images = noise(4, 3, size, size)
        nodes = max(len(genotype.normal), len(genotype.reduce))
        assert network.paths == (3 * repeats + 2, nodes, 2)
        keep = torch.from_numpy((rng.random((*network.paths, 4)) > 0.4) / 0.6)
        for training in (False, True):
            network.train(training)
            for factors in (None, keep):
                expected, _ = ByHand(network, kind, repeats, factors)(images)
                given = images.clone()
                outputs = copy.deepcopy(network)(given, factors)
                assert torch.equal(given, images), "the network changed its input"
                assert outputs.auxiliary is None
                torch.testing.assert_close(outputs.logits, expected, rtol=1e-7, atol=1e-8)


def test_by_hand_sees_the_path_dropout():
    """Else the comparison above proves nothing of it."""
    network, images = built("cifar", EVERY), pixels(2, 8).double()
    whole, _ = ByHand(network, "cifar", 1)(images)
    halves, _ = ByHand(network, "cifar", 1, torch.full((*network.paths, 2), 0.5))(images)
    assert not torch.allclose(whole, halves)


@pytest.mark.parametrize(("kind", "smallest"), [("cifar", 29), ("imagenet", 193)])
def test_auxiliary_head_is_the_one_written_by_hand(kind, smallest):
    for size in (smallest, DEFAULT_SIZE[kind]):
        network = built(kind, UNEQUAL, channels=2, auxiliary=True)
        images = noise(2, 3, size, size)
        expected, auxiliary = ByHand(network, kind, 1)(images)
        outputs = network(images)
        torch.testing.assert_close(outputs.logits, expected, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(outputs.auxiliary, auxiliary, rtol=1e-6, atol=1e-7)
        assert network.eval()(images).auxiliary is None
    with pytest.raises(RuntimeError):
        network.train()(noise(2, 3, smallest - 1, smallest - 1))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("size", [(32, 32), (33, 33), (35, 40)])
def test_shapes(kind, size):
    for genotype in (EVERY, NASNET):
        for image_channels in (1, 3):
            network = NETWORKS[kind](genotype, 5, 1, CLASSES, image_channels=image_channels)
            seen = []
            for cell in network.cells:
                cell.register_forward_hook(lambda _cell, _inputs, output, seen=seen: seen.append(tuple(output.shape)))
            images = noise(2, image_channels, *size).float()
            for training in (True, False):
                seen.clear()
                logits, auxiliary = network.train(training)(images)
                assert logits.shape == (2, CLASSES)
                assert auxiliary is None
                height, width = size
                for _ in range(3 if kind == "imagenet" else 0):
                    height, width = -(-height // 2), -(-width // 2)
                shapes, channels = [], 5
                for letter in kinds_of(1):
                    concat = genotype.normal_concat
                    if letter == "R":
                        channels, concat = 2 * channels, genotype.reduce_concat
                        height, width = -(-height // 2), -(-width // 2)
                    shapes.append((2, channels * len(concat), height, width))
                assert seen == shapes


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_changes_nothing(memory_format):
    network, images = built("cifar", EVERY).eval(), pixels(2, 9).double()
    expected = network(images).logits
    other = copy.deepcopy(network).to(memory_format=memory_format)(images.to(memory_format=memory_format)).logits
    torch.testing.assert_close(other, expected, rtol=1e-9, atol=1e-10)


# --- gradients --------------------------------------------------------------------------------------------


def live(genotype, letter, inputs_of):
    """The parts of a cell that its output depends on: (node, side) edges, and which of its two inputs."""
    nodes, concat = (
        (genotype.normal, genotype.normal_concat) if letter == "N" else (genotype.reduce, genotype.reduce_concat)
    )
    states, edges = set(concat), set()
    for node in reversed(range(len(nodes))):
        if node + 2 in states:
            for side, (operation, state) in enumerate(nodes[node]):
                if operation != "none":
                    edges.add((node, side))
                    states.add(state)
    return edges, [inputs_of[state] for state in (0, 1) if state in states], states


def used_parameters(network):
    """The names of the parameters that the logits depend on, by following the wiring backwards."""
    genotype, letters = network.genotype, kinds_of((len(network.cells) - 2) // 3)
    used, reached = {"classifier"}, {len(letters) - 1}
    for index in reversed(range(len(letters))):
        if index not in reached:
            continue
        edges, inputs, states = live(genotype, letters[index], (index - 2, index - 1))
        reached.update(inputs)
        used |= {f"cells.{index}.edges.{node}.{side}" for node, side in edges}
        used |= {f"cells.{index}.preprocess{state}" for state in (0, 1) if state in states}
    if reached & {-1, -2}:
        used.add("stem")
    if -1 in reached:  # input 1 of the first cell, input 0 of the second
        used.add("second_stem")
    return {name for name, _ in network.named_parameters() if any(name.startswith(f"{part}.") for part in used)}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", GENOTYPES)
def test_gradients_reach_what_is_used_and_nothing_else(name, kind):
    network = built(kind, GENOTYPES[name], channels=5)
    logits = network(pixels(4, {"cifar": 16, "imagenet": 64}[kind]).double()).logits
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 1])).backward()
    reached = {
        name for name, p in network.named_parameters() if p.grad is not None and float(p.grad.abs().max()) > 1e-12
    }
    assert reached == used_parameters(network)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    everything = {name for name, _ in network.named_parameters()}
    assert (reached == everything) == (name not in ("every", "unequal")), "these two have nodes that nothing reads"


@pytest.mark.parametrize(("kind", "size"), [("cifar", 29), ("imagenet", 193)])
@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_auxiliary_head_sits_after_two_thirds(kind, size, repeats):
    node = (("sep_conv_3x3", 0), ("dil_conv_3x3", 1))
    network = NETWORKS[kind](Genotype((node,), (2,), (node,), (2,)), 2, repeats, CLASSES, auxiliary=True)
    place = 2 * (3 * repeats + 2) // 3
    assert 0 < place < len(network.cells) - 1
    outputs = network(pixels(2, size))
    assert outputs.auxiliary.shape == (2, CLASSES)
    F.cross_entropy(outputs.auxiliary, torch.tensor([0, 1])).backward(retain_graph=True)
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    later = tuple(f"cells.{index}." for index in range(place + 1, len(network.cells)))
    expected = {
        name
        for name, _ in network.named_parameters()
        if not name.startswith((*later, "classifier."))  # and the head's own, and all before it
    }
    assert reached == expected
    network.zero_grad(set_to_none=True)
    F.cross_entropy(outputs.logits, torch.tensor([0, 1])).backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if not name.startswith("auxiliary.")}


# --- weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_come_from_the_rng_alone(kind):
    def weights(rng):
        state = NETWORKS[kind](EVERY, 3, 1, CLASSES, True, rng=rng).state_dict()
        return torch.cat([value.double().flatten() for value in state.values()])

    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = weights(generator(4, "network weights"))
    assert torch.equal(torch.get_rng_state(), before[0]), "the global generator was used"
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(2)
    assert torch.equal(weights(generator(4, "network weights")), first)
    assert not torch.equal(weights(generator(5, "network weights")), first)
    assert torch.equal(weights(None), weights(None))
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("kind", NETWORKS)
def test_how_weights_and_averages_start(kind):
    network = NETWORKS[kind](EVERY, 4, 1, CLASSES, auxiliary=True)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.affine
        assert norm.track_running_stats
        assert torch.equal(norm.running_mean, torch.zeros(norm.num_features))
        assert torch.equal(norm.running_var, torch.ones(norm.num_features))
        assert torch.equal(norm.weight, torch.ones(norm.num_features))
        assert torch.equal(norm.bias, torch.zeros(norm.num_features))
        assert int(norm.num_batches_tracked) == 0
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            bound = part.weight[0].numel() ** -0.5
            largest = float(part.weight.detach().abs().max())
            assert largest <= bound
            assert part.weight.numel() < 20 or largest > bound / 2
        if isinstance(part, nn.Conv2d):
            assert part.bias is None
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_running_averages_move_in_training_only():
    network, images = CifarNetwork(EVERY, 3, 1, CLASSES), pixels(4, 8)
    start = {name: value.clone() for name, value in network.named_buffers()}
    network.eval()(images)
    assert all(torch.equal(value, start[name]) for name, value in network.named_buffers())
    network.train()(images)
    stem = F.conv2d(images, network.stem[0].weight, padding=1)
    torch.testing.assert_close(network.stem[1].running_mean, 0.1 * stem.mean((0, 2, 3)))
    torch.testing.assert_close(network.stem[1].running_var, 0.9 + 0.1 * stem.var((0, 2, 3)))
    moved = {name for name, value in network.named_buffers() if not torch.equal(value, start[name])}
    assert moved == set(start)
