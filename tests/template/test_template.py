"""The template against Eq. 1 and Eq. 10 written out literally, and against discrete networks built by hand."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import pixels, random_evaluator

from setn_lab.compute.streams import generator
from setn_lab.evaluator.setn import Evaluator
from setn_lab.kits import KITS
from setn_lab.network.costs import cost_table
from setn_lab.space.setn import LARGE, SMALL, SearchSpace
from setn_lab.template.cell import ConcatReLU
from setn_lab.template.norm import BatchNorm
from setn_lab.template.setn import Template

CLASSES = 3


HEADS = "norm", "mean"


def template_of(space, channels=2, repeats=1, seed=0, head="norm", stem="cifar"):
    return Template(space, channels, repeats, 3, CLASSES, generator(seed, "template weights"), head, stem)


def features(x, head):
    """What the classifier reads of the last cell's output: means, with the norm those of what is above 0."""
    if head == "norm":
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
        x = ((x - mean) / (variance + 1e-5).sqrt()).clamp(min=0)
    return x.flatten(2).mean(2)


def equation_8(r):
    """r1 and r2 as the paper prints them, everything counted from 1."""
    n = 1
    while sum(range(1, n + 1)) < r:
        n += 1
    return n, r - sum(range(1, n))


def equation_10(template, evaluator, images, head="norm"):
    """Logits by the paper's double sum: over r from 1, then over t, then over u."""
    space = template.space
    before = previous = template.stem(images)
    if template.second_stem is not None:
        previous = template.second_stem(before.relu())
    for spot, cell in zip(template.plan, template.cells, strict=True):
        states = [cell.preprocess0(before), cell.preprocess1(previous)]
        for node in range(space.nodes):
            inputs = len(states)
            f = torch.softmax(evaluator.f[spot.cell_type, node, :inputs], 0)  # Eq. 4
            g = torch.softmax(evaluator.g[spot.cell_type, node, :inputs], 0)
            h = torch.softmax(evaluator.h[spot.cell_type, node], 0)  # Eq. 7
            total = 0
            pairs = len(space.operations) * (len(space.operations) + 1) // 2
            for r in range(1, pairs + 1):
                r1, r2 = equation_8(r)
                inner = 0
                for t in range(1, inputs + 1):
                    inner = inner + f[t - 1] * cell.edges[node][t - 1][r1 - 1](states[t - 1])
                for u in range(1, inputs + 1):
                    inner = inner + g[u - 1] * cell.edges[node][u - 1][r2 - 1](states[u - 1])
                total = total + h[r - 1] * inner
            states.append(total)
        before, previous = previous, torch.cat(states[2:], 1)
    return template.classifier(features(previous, head))


def relative(one, other):
    return float((one - other).detach().norm() / other.detach().norm())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("nodes", "head", "stem"),
    [(2, "norm", "cifar"), (4, "norm", "cifar"), (2, "mean", "cifar"), (2, "norm", "imagenet")],
)
def test_mixed_is_equation_10(nodes, head, stem, dtype, tolerance):
    space = SearchSpace(SMALL, nodes)
    template, evaluator = template_of(space, head=head, stem=stem).to(dtype), random_evaluator(space).to(dtype)
    images, labels = pixels(size=8 if stem == "cifar" else 40).to(dtype), torch.tensor([0, 1, 2, 1])
    alpha = [evaluator.f, evaluator.g, evaluator.h]
    results = []
    mixed, literal = (
        template.mixed(images, evaluator.mixing_weights()),
        equation_10(template, evaluator, images, head),
    )
    for logits in (mixed, literal):
        results.append([logits, *torch.autograd.grad(F.cross_entropy(logits, labels), alpha)])
    names = ("logits", "gradient of f", "gradient of g", "gradient of h")
    for name, one, other in zip(names, *results, strict=True):
        assert float(other.detach().norm()) > 0, name
        assert relative(one, other) < tolerance, name


def test_mixed_gives_the_template_equation_10s_gradients():
    space = SearchSpace(LARGE, 1)
    template, evaluator = template_of(space).double(), random_evaluator(space).double()
    images, labels = pixels().double(), torch.tensor([0, 1, 2, 1])
    parameters = list(template.parameters())
    mixed = template.mixed(images, evaluator.mixing_weights())
    literal = equation_10(template, evaluator, images)
    ones, others = (torch.autograd.grad(F.cross_entropy(logits, labels), parameters) for logits in (mixed, literal))
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


class Discrete:
    """One candidate as its authors would write it: ReLU, convolution, norm, pool, sum, concatenation.

    Weights are looked up by the names of the template's state dict; no method of the template is called.
    """

    def __init__(self, template, genotypes, drop_path=None, head="norm"):
        self.head = head
        self.weights = dict(template.state_dict())
        self.operations, self.nodes = template.space.operations, template.space.nodes
        self.architectures, self.drop_path = genotypes, drop_path

    def conv(self, x, name, **options):
        return F.conv2d(x, self.weights[f"{name}.weight"], **options)

    @staticmethod
    def norm(x):
        return F.batch_norm(x, None, None, training=True)

    def halved(self, x, name):
        x = F.relu(x)
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        return self.norm(
            torch.cat(
                [self.conv(x, f"{name}.body.even", stride=2), self.conv(shifted, f"{name}.body.odd", stride=2)], 1
            )
        )

    def operation(self, x, operation, name, stride):
        channels = x.shape[1]
        if operation == "max_pool_3x3":
            return self.norm(F.max_pool2d(x, 3, stride, 1))
        if operation == "avg_pool_3x3":
            return self.norm(F.avg_pool2d(x, 3, stride, 1, count_include_pad=False))
        if operation == "skip_connect":
            return x if stride == 1 else self.halved(x, name)
        if operation == "conv_3x1_1x3":
            y = self.conv(F.relu(x), f"{name}.body.0", stride=(1, stride), padding=(0, 1))
            return self.norm(self.conv(y, f"{name}.body.1", stride=(stride, 1), padding=(1, 0)))
        kernel, dilation = int(operation[-1]), 2 if operation.startswith("dil") else 1
        options = {"padding": dilation * (kernel // 2), "dilation": dilation, "groups": channels}
        y = self.conv(F.relu(x), f"{name}.body.0", stride=stride, **options)
        y = self.norm(self.conv(y, f"{name}.body.1"))
        if dilation == 1:
            y = self.conv(F.relu(y), f"{name}.body.4", **options)
            y = self.norm(self.conv(y, f"{name}.body.5"))
        return y

    def __call__(self, images):
        before_halved = "second_stem.0.weight" in self.weights
        if before_halved:  # as DARTS' network for ImageNet begins
            x = F.relu(self.norm(self.conv(images, "stem.0", stride=2, padding=1)))
            before = self.norm(self.conv(x, "stem.3", stride=2, padding=1))
            previous = self.norm(self.conv(F.relu(before), "second_stem.0", stride=2, padding=1))
            assert previous.shape[2] == -(-images.shape[2] // 8)
        else:
            before = previous = self.norm(self.conv(images, "stem.0", padding=1))
        kinds = "NRNRN"  # section 3 with N = 1
        for c, kind in enumerate(kinds):
            cell = f"cells.{c}"
            if (c and kinds[c - 1] == "R") or (c == 0 and before_halved):
                first = self.halved(before, f"{cell}.preprocess0")
            else:
                first = self.norm(self.conv(F.relu(before), f"{cell}.preprocess0.body"))
            states = [first, self.norm(self.conv(F.relu(previous), f"{cell}.preprocess1.body"))]
            for node, (r1, r2, t, u) in enumerate(self.architectures[c]):
                total = 0
                for side, (r, state) in enumerate(((r1, t), (r2, u))):
                    stride = 2 if kind == "R" and state < 2 else 1
                    name = f"{cell}.edges.{node}.{state}.{r}"
                    term = self.operation(states[state], self.operations[r], name, stride)
                    if self.drop_path is not None and (self.operations[r] != "skip_connect" or stride == 2):
                        term = term * self.drop_path[c, node, side].reshape(-1, 1, 1, 1)
                    total = total + term
                states.append(total)
            before, previous = previous, torch.cat(states[2:], 1)
        return F.linear(
            features(previous, self.head), self.weights["classifier.weight"], self.weights["classifier.bias"]
        )


@pytest.mark.parametrize(
    ("size", "head", "stem"),
    [
        (8, "norm", "cifar"),
        (9, "norm", "cifar"),
        (8, "mean", "cifar"),
        (64, "norm", "imagenet"),
        (35, "mean", "imagenet"),
    ],
)
def test_sampled_is_the_discrete_network_with_the_same_weights(size, head, stem):
    space = SearchSpace(LARGE, 3)
    template, images = template_of(space, head=head, stem=stem).double(), pixels(3, size).double()
    rng = np.random.default_rng(4)
    used = set()
    for _ in range(6):
        quadruples = space.sample(rng, 5)
        used.update(quadruples[..., :2].ravel().tolist())
        keep = torch.from_numpy(rng.random((5, 3, 2, 3)))
        for dropout in (None, keep):
            logits = template.sampled(images, quadruples, dropout)
            torch.testing.assert_close(
                logits, Discrete(template, quadruples.tolist(), dropout, head)(images), rtol=1e-9, atol=1e-10
            )
    assert used == set(range(len(LARGE)))


def test_sampled_is_mixed_with_all_probability_on_one_architecture():
    space = SearchSpace(SMALL, 3)
    template, images = template_of(space).double(), pixels().double()
    architecture = space.sample(np.random.default_rng(6), 2)
    weights = torch.zeros(2, len(space.edges), len(SMALL), dtype=torch.float64)
    for kind in (0, 1):
        for node, (r1, r2, t, u) in enumerate(architecture[kind].tolist()):
            weights[kind, space.edges.index((node, t)), r1] += 1
            weights[kind, space.edges.index((node, u)), r2] += 1
    # a factor of 0 inside a batch norm is exactly 0, so the other operations add nothing
    torch.testing.assert_close(
        template.mixed(images, weights),
        template.sampled(images, template.per_cell(architecture)),
        rtol=1e-9,
        atol=1e-10,
    )


def test_per_cell_gives_reduction_cells_the_second_architecture():
    space = SearchSpace(SMALL, 2)
    template = template_of(space, repeats=2)
    normal, reduce = pair = space.sample(np.random.default_rng(0), 2)
    expected = [normal, normal, reduce, normal, normal, reduce, normal, normal]
    assert np.array_equal(template.per_cell(pair), np.array(expected))


def test_sampled_gives_gradients_to_exactly_what_it_samples():
    space = SearchSpace(LARGE, 4)
    rng = np.random.default_rng(8)  # no draw of this seed leaves an input of a cell, or a cell, that nothing reads
    for _ in range(4):
        template = template_of(space)
        quadruples = space.sample(rng, 5)
        logits = template.sampled(pixels(), quadruples)
        F.cross_entropy(logits, torch.tensor([0, 1, 2, 1])).backward()
        used = {
            f"cells.{c}.edges.{node}.{state}.{r}."
            for c in range(5)
            for node, (r1, r2, t, u) in enumerate(quadruples[c].tolist())
            for r, state in ((r1, t), (r2, u))
        }
        with_gradient = {name for name, p in template.named_parameters() if p.grad is not None}
        expected = {
            name
            for name, _ in template.named_parameters()
            if ".edges." not in name or any(name.startswith(prefix) for prefix in used)
        }
        assert with_gradient == expected
        assert 0 < len(expected) < len(list(template.parameters()))


@torch.no_grad()
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_what_architectures_share_changes_nothing_and_is_computed_once(monkeypatch, stem):
    space = SearchSpace(SMALL, 3)
    template = template_of(space, repeats=2, stem=stem)
    real, calls = torch.nn.Conv2d.forward, Counter()

    def counted(convolution, x):
        calls[convolution] += 1
        return real(convolution, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", counted)
    architectures, known = [space.sample(np.random.default_rng(n), len(template.cells)) for n in range(20)], {}
    for quadruples in architectures:
        assert torch.equal(template.sampled(pixels(), quadruples, cache=known), template.sampled(pixels(), quadruples))
    alone = Counter(calls)
    calls.clear()
    for quadruples in architectures:
        template.sampled(pixels(), quadruples)
    first, second = template.cells[:2]
    inputs = [
        edge[state] for cell, states in ((first, (0, 1)), (second, (0,))) for edge in cell.edges for state in states
    ]
    operations = [module for edge in inputs for module in edge]
    stems = [part for part in (template.stem, template.second_stem) if part is not None]
    modules = [*stems, first.preprocess0, first.preprocess1, second.preprocess0, *operations]
    shared = {part for module in modules for part in module.modules()}
    assert any(part in calls for operation in operations for part in operation.modules())
    for convolution, count in calls.items():
        assert alone[convolution] - count == (1 if convolution in shared else count)


def outputs_of_cell(template, quadruples, keep, cell):
    """What one cell gives for fixed inputs."""
    spot = template.plan[cell]
    rng = np.random.default_rng(3)
    size = 4
    before = torch.from_numpy(
        rng.normal(size=(3, spot.before_previous, *[size * (2 if spot.after_reduction else 1)] * 2))
    )
    previous = torch.from_numpy(rng.normal(size=(3, spot.previous, size, size)))
    return torch.cat(template.cells[cell].sampled(before, previous, quadruples, keep), dim=1)


@pytest.mark.parametrize("cell", [0, 1, 2])
def test_path_dropout_scales_every_operation_but_the_identity(cell):
    space = SearchSpace(SMALL, 2)
    template = template_of(space).double()
    identity = SMALL.index("skip_connect")
    other = SMALL.index("sep_conv_3x3")
    quadruples = np.array([[other, identity, 0, 1], [other, identity, 1, 0]])
    ones = torch.ones(2, 2, 3, dtype=torch.float64)
    full = outputs_of_cell(template, quadruples, None, cell)
    assert torch.equal(outputs_of_cell(template, quadruples, ones, cell), full)
    for node in (0, 1):
        for side in (0, 1):
            for sample in range(3):
                keep = ones.clone()
                keep[node, side, sample] = 0
                dropped = outputs_of_cell(template, quadruples, keep, cell)
                differs = (dropped != full).reshape(3, 2, -1).any(2)  # by sample and node
                expected = torch.zeros(3, 2, dtype=torch.bool)
                # at stride 2 the skip connection has weights, so it is no identity
                expected[sample, node] = side == 0 or template.plan[cell].cell_type == 1
                assert torch.equal(differs, expected)
    nothing = outputs_of_cell(template, quadruples, torch.zeros_like(ones), cell)
    if template.plan[cell].cell_type == 0:
        both = np.array([[identity, identity, 0, 1], [identity, identity, 1, 0]])
        pair = outputs_of_cell(template, both, torch.zeros_like(ones), cell)
        torch.testing.assert_close(pair, outputs_of_cell(template, both, None, cell), rtol=0, atol=0)
        # of conv(0) + 1 and conv(1) + 0 the identities are left, which sum to the pair's
        torch.testing.assert_close(sum(nothing.chunk(2, 1)), pair.chunk(2, 1)[0], rtol=1e-12, atol=1e-12)
    else:
        assert torch.equal(nothing, torch.zeros_like(nothing))


@pytest.mark.parametrize(("operations", "most"), [(SMALL, 84), (LARGE, 112)])
def test_mixed_computes_every_operation_of_an_edge_at_most_once(operations, most):
    """84 for 14 edges of 6 operations: a pool and the identity, which have no weights, count once for each state.

    They are shared by the edges that read a state: of 14 edges only 5 compute them (states 0 to 4).
    """
    space = SearchSpace(operations, 4)
    template = template_of(space)
    calls = []
    for c, cell in enumerate(template.cells):
        for node, states in enumerate(cell.edges):
            for state, edge in enumerate(states):
                for r, module in enumerate(edge):
                    key = c, node, state, r
                    name = "from_relu" if hasattr(module, "from_relu") else "forward"
                    forward = getattr(module, name)

                    def counted(*args, key=key, forward=forward):
                        calls.append(key)
                        return forward(*args)

                    setattr(module, name, counted)
    with torch.no_grad():
        template.mixed(pixels(), random_evaluator(space).mixing_weights())
    assert len(set(calls)) == len(calls)
    for c, spot in enumerate(template.plan):
        here = [key for key in calls if key[0] == c]
        assert len(here) <= most
        weightless = {"max_pool_3x3", "avg_pool_3x3", "skip_connect"}
        for r, name in enumerate(operations):
            reads = [(node, state) for _, node, state, index in here if index == r]
            if name not in weightless:
                assert len(reads) == 14
            elif name != "skip_connect" or spot.cell_type == 0:
                assert sorted(state for _, state in reads) == [0, 1, 2, 3, 4]
            else:  # in a reduction cell the skips that read its two inputs have weights: 4 nodes times 2, and 3
                assert len(reads) == 11


@pytest.mark.parametrize(("channels", "stem"), [(2, "cifar"), (3, "cifar"), (4, "imagenet")])
def test_parameters_are_those_of_the_cost_table_and_linear_in_the_operations(channels, stem):
    def count(operations):
        space = SearchSpace(operations, 4)
        total = sum(parameter.numel() for parameter in template_of(space, channels, stem=stem).parameters())
        layout = KITS["small"].layout_with(stem)
        table = cost_table(space, channels, 1, 3, 8, CLASSES, "parameters", layout=layout, norm=BatchNorm)
        assert table.everything() == total
        return total

    fixed = count(("max_pool_3x3",))  # a pool has no weights, so this is the rest of the network
    assert count(("avg_pool_3x3", "max_pool_3x3")) == fixed
    for operations in (SMALL, LARGE):
        assert count(operations) - fixed == sum(count((name,)) - fixed for name in operations)


def test_the_heads_have_the_same_weights():
    space = SearchSpace(SMALL, 2)
    one, other = (template_of(space, head=head).state_dict() for head in HEADS)
    assert list(one) == list(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_weights_are_a_function_of_the_generator():
    space = SearchSpace(SMALL, 2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, same, other = (dict(template_of(space, seed=seed).named_parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, parameter in first.items():
        assert torch.equal(parameter, same[name])
        assert not torch.equal(parameter, other[name]), name
        assert parameter.device.type == "cpu"
        assert parameter.is_contiguous(memory_format=torch.channels_last) or parameter.dim() < 4
        assert bool(torch.isfinite(parameter).all())


def test_forward_passes_leave_the_template_as_it_was():
    space = SearchSpace(LARGE, 2)
    template = template_of(space)
    before = {name: value.clone() for name, value in template.state_dict().items()}
    quadruples = space.sample(np.random.default_rng(0), 5)
    first = template.sampled(pixels(), quadruples), template.mixed(pixels(), Evaluator(space).mixing_weights())
    again = template.sampled(pixels(), quadruples), template.mixed(pixels(), Evaluator(space).mixing_weights())
    assert all(map(torch.equal, first, again))
    assert before.keys() == template.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in template.state_dict().items())


def test_joined_is_relu_of_the_concatenation():
    nodes = [torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    nodes = [node.contiguous(memory_format=torch.channels_last).requires_grad_(True) for node in nodes]
    output, expected = ConcatReLU.apply(*nodes), F.relu(torch.cat(nodes, dim=1))
    assert torch.equal(output, expected)
    incoming = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    incoming = incoming.contiguous(memory_format=torch.channels_last)
    for got, wanted in zip(
        torch.autograd.grad(output, nodes, incoming), torch.autograd.grad(expected, nodes, incoming), strict=True
    ):
        assert torch.equal(got, wanted)
        assert got.is_contiguous(memory_format=torch.channels_last)


def test_joined_nodes_keep_the_wider_type():
    """As path dropout makes them under autocast: a normalized node is float32, one of identities is not."""
    nodes = [torch.randn(2, 3, 4, 4).bfloat16(), torch.randn(2, 3, 4, 4)]
    for given in (nodes, nodes[::-1]):
        assert torch.equal(ConcatReLU.apply(*given), F.relu(torch.cat(given, dim=1)))
        leaves = [node.requires_grad_(True) for node in given]
        for gradient, leaf in zip(torch.autograd.grad(ConcatReLU.apply(*leaves).sum(), leaves), leaves, strict=True):
            assert torch.equal(gradient, (leaf > 0).to(leaf.dtype))


@pytest.mark.parametrize("operations", [SMALL, LARGE])
def test_what_is_remembered_changes_nothing(operations):
    space = SearchSpace(operations, 4)
    template = template_of(space, channels=4).double()
    images, known = pixels().double().contiguous(memory_format=torch.channels_last), {}
    for quadruples in space.sample(np.random.default_rng(4), 6, len(template.cells)):
        expected = template.sampled(images, quadruples).detach()
        with torch.no_grad():
            for memory in (None, known, known):
                torch.testing.assert_close(template.sampled(images, quadruples, cache=memory), expected)
    assert len(known) > 10
