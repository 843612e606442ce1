"""The operations against plain transcriptions of their definitions, in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import noise
from scipy.stats import kstest
from torch import nn

from setn_lab.compute.streams import generator
from setn_lab.network.operations import (
    Pool,
    ReLUConvBN,
    affine_norm,
    build_operation,
    depthwise,
    factorized_reduction,
    initialize,
    pointwise_conv,
)
from setn_lab.space.setn import LARGE
from setn_lab.template.norm import BatchNorm
from setn_lab.template.operations import TemplatePool, template_operation

EPSILON = 1e-5  # of batch norms, torch's default and that of DARTS
SIZES = ((8, 8), (7, 7), (7, 8))


def built(name, channels, stride, affine=False, seed=0):
    """The operation in float64 with random weights, those of its norms too."""
    module = build_operation(name, channels, stride) if affine else template_operation(name, channels, stride)
    rng = np.random.default_rng(seed)
    initialize(module, rng)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and affine:
            for parameter in (part.weight, part.bias):
                parameter.data.copy_(torch.from_numpy(rng.normal(size=channels)))
    return module.double()


def normalized(x):
    """Batch norm without parameters, from its definition."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + EPSILON).sqrt()


def convolved(x, weight, stride=(1, 1), dilation=1, depthwise=False):
    """A convolution as a sum over the kernel's taps of shifted images; zeros outside, the size kept at stride 1."""
    height, width = x.shape[2:]
    rows, columns = weight.shape[2:]
    above, left = dilation * (rows // 2), dilation * (columns // 2)
    padded = F.pad(x, (left, left, above, above))
    total = 0
    for row in range(rows):
        for column in range(columns):
            shifted = padded[:, :, row * dilation :, column * dilation :][:, :, :height, :width]
            shifted = shifted[:, :, :: stride[0], :: stride[1]]
            tap = weight[:, :, row, column]
            total = total + (
                shifted * tap[:, 0, None, None] if depthwise else torch.einsum("bihw,oi->bohw", shifted, tap)
            )
    return total


def pooled(x, kind, stride):
    """3x3 pooling window by window, over the pixels that lie in the image."""
    batch, channels, height, width = x.shape
    out = torch.empty(batch, channels, -(-height // stride), -(-width // stride), dtype=x.dtype)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            top, left = i * stride, j * stride
            window = x[:, :, max(top - 1, 0) : top + 2, max(left - 1, 0) : left + 2]
            out[:, :, i, j] = window.amax((2, 3)) if kind == "max" else window.mean((2, 3))
    return out


def every_second(x, weight_even, weight_odd):
    """The factorized reduction pixel by pixel: one half reads (2i, 2j), the other (2i+1, 2j+1), 0 beyond."""
    batch, _, height, width = x.shape
    outputs = len(weight_even) + len(weight_odd)
    out = torch.zeros(batch, outputs, -(-height // 2), -(-width // 2), dtype=x.dtype)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, : len(weight_even), i, j] = x[:, :, 2 * i, 2 * j] @ weight_even[:, :, 0, 0].T
            if 2 * i + 1 < height and 2 * j + 1 < width:
                out[:, len(weight_even) :, i, j] = x[:, :, 2 * i + 1, 2 * j + 1] @ weight_odd[:, :, 0, 0].T
    return out


def transcription(name, module, x, stride):
    """What section 3's operation is, without scale and shift; weights in the order of `parameters`."""
    w = list(module.parameters())
    if name.endswith("pool_3x3"):
        return normalized(pooled(x, name[:3], stride))
    active = x * (x > 0)
    if name == "skip_connect":
        return x if stride == 1 else normalized(every_second(active, *w))
    if name == "conv_3x1_1x3":
        assert w[0].shape[2:] == (1, 3)
        assert w[1].shape[2:] == (3, 1)
        return normalized(convolved(convolved(active, w[0], (1, stride)), w[1], (stride, 1)))
    kernel = int(name[-1])
    assert w[0].shape[1:] == (1, kernel, kernel)
    if name.startswith("dil"):
        return normalized(convolved(convolved(active, w[0], (stride, stride), 2, True), w[1]))
    once = normalized(convolved(convolved(active, w[0], (stride, stride), depthwise=True), w[1]))
    return normalized(convolved(convolved(once * (once > 0), w[2], depthwise=True), w[3]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", LARGE)
def test_operation_is_its_transcription(name, stride):
    for channels in (3, 4):
        for height, width in SIZES:
            module = built(name, channels, stride)
            x = noise(3, channels, height, width)
            given = x.clone()
            y = module(x)
            assert torch.equal(x, given), "an operation changed its input"
            assert y.shape == (3, channels, math.ceil(height / stride), math.ceil(width / stride))
            torch.testing.assert_close(y, transcription(name, module, x, stride), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_dilated_and_strided_convolution_is_torchs_with_its_gradients(kernel, height, width):
    module = depthwise(4, kernel, 2, dilation=2).double()
    x = noise(2, 4, height, width).requires_grad_(True)
    plain = F.conv2d(x, module.weight, None, 2, 2 * (kernel // 2), 2, groups=4)
    gradient = noise(*plain.shape, seed=2)
    expected = torch.autograd.grad(plain, (x, module.weight), gradient)
    ours = torch.autograd.grad(module(x), (x, module.weight), gradient)
    torch.testing.assert_close(module(x), plain, rtol=1e-12, atol=1e-12)
    for got, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LARGE)
def test_gradients_of_channels_last_images_are_channels_last(name):
    x = noise(2, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    module = built(name, 4, 2).to(memory_format=torch.channels_last)
    y = module(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", LARGE)
def test_a_factor_in_the_norm_multiplies_the_result(name, stride):
    for channels, size in ((3, 7), (4, 8)):
        module = built(name, channels, stride)
        if not isinstance(module, ReLUConvBN):
            assert name.endswith("pool_3x3") or (name == "skip_connect" and stride == 1)
            continue
        x = noise(3, channels, size, size).requires_grad_()
        factor = torch.tensor(-0.37, dtype=torch.float64, requires_grad=True)
        mixed, plain = module.from_relu(F.relu(x), factor), factor * module(x)
        torch.testing.assert_close(mixed, plain, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(module.from_relu(F.relu(x)), module(x), rtol=0, atol=0)
        direction = noise(*mixed.shape, seed=2)
        everything = (x, factor, *module.parameters())
        for one, other in zip(
            torch.autograd.grad((mixed * direction).sum(), everything),
            torch.autograd.grad((plain * direction).sum(), everything),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_pools_of_final_networks_are_not_normalized():
    x = noise(2, 3, 7, 8)
    for kind in ("max", "avg"):
        for stride in (1, 2):
            module = build_operation(f"{kind}_pool_3x3", 3, stride)
            torch.testing.assert_close(module(x), pooled(x, kind, stride))


def test_only_affine_norms_have_parameters():
    for name in LARGE:
        for stride in (1, 2):
            for affine in (False, True):
                module = built(name, 4, stride, affine)
                norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
                assert sum(len(list(norm.parameters())) for norm in norms) == 2 * len(norms) * affine


def test_pointwise_conv_and_factorized_reduction_change_channels():
    x = noise(3, 5, 7, 8)
    for outputs in (3, 4):
        for module, reference in (
            (pointwise_conv(5, outputs, BatchNorm), lambda a, w: convolved(a, w[0])),
            (factorized_reduction(5, outputs, BatchNorm), lambda a, w: every_second(a, *w)),
        ):
            initialize(module, np.random.default_rng(3))
            module.double()
            expected = normalized(reference(x * (x > 0), list(module.parameters())))
            assert expected.shape[1] == outputs
            torch.testing.assert_close(module(x), expected, rtol=1e-9, atol=1e-9)


def test_unknown_operation_is_a_key_error():
    with pytest.raises(KeyError, match="sep_conv_9x9"):
        build_operation("sep_conv_9x9", 4, 1)


def test_initialize_is_a_function_of_its_generator():
    modules = [nn.ModuleList([*(build_operation(name, 6, 2) for name in LARGE), nn.Linear(9, 4)]) for _ in range(3)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for module, seed in zip(modules, (0, 0, 1), strict=True):
        initialize(module, generator(seed, "weights"))
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = ([parameter.detach() for parameter in module.parameters()] for module in modules)
    assert all(map(torch.equal, first, same))
    drawn = [not bool((p == 1).all() or (p == 0).all()) for p in first]
    assert any(drawn)
    assert all(not torch.equal(p, q) for p, q, random in zip(first, other, drawn, strict=True) if random)


def test_initialize_is_uniform_within_one_over_root_of_fan_in():
    grouped = depthwise(400, 5, 1)
    dense = nn.Conv2d(30, 40, (1, 3))
    linear = nn.Linear(50, 60)
    for module, fan_in in ((grouped, 25), (dense, 90), (linear, 50)):
        initialize(module, np.random.default_rng(7))
        bound = 1 / math.sqrt(fan_in)
        for parameter in module.parameters():
            values = parameter.detach().flatten().double()
            assert float(values.abs().max()) <= bound * (1 + 1e-6)
            assert kstest(values.numpy(), "uniform", (-bound, 2 * bound)).pvalue > 1e-4


def test_initialize_resets_norms_to_one_and_zero():
    module = built("sep_conv_3x3", 4, 1, affine=True)
    initialize(module, np.random.default_rng(0))
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 2
    for norm in norms:
        assert bool((norm.weight == 1).all())
        assert bool((norm.bias == 0).all())


def test_the_templates_batch_norm_reads_the_batch_in_training_and_in_evaluation():
    norm = BatchNorm(3).double()
    x = noise(4, 3, 5, 5) * 3 + 2
    for mode in (True, False):
        norm.train(mode)
        torch.testing.assert_close(norm(x), normalized(x), rtol=1e-9, atol=1e-9)
    assert norm.running_mean is None
    assert not [name for name in norm.state_dict() if "running" in name or "tracked" in name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_templates_batch_norm_takes_a_factor(dtype):
    """By the definition, value by value, gradients too: torch's kernel is wrong on a scale that is not contiguous."""
    x = (noise(4, 3, 5, 5) * 3 + 2).to(dtype).contiguous(memory_format=torch.channels_last)
    given, wanted = x.clone().requires_grad_(True), x.double().requires_grad_(True)
    factor, factor_wanted = (torch.tensor(-0.7, dtype=part).requires_grad_(True) for part in (dtype, torch.float64))
    incoming = noise(4, 3, 5, 5, seed=1)
    (BatchNorm(3)(given, factor) * incoming.to(dtype)).sum().backward()
    (factor_wanted * normalized(wanted) * incoming).sum().backward()
    torch.testing.assert_close(given.grad, wanted.grad.to(dtype), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(factor.grad, factor_wanted.grad.to(dtype), rtol=1e-4, atol=1e-4)


def test_a_final_networks_batch_norm_keeps_running_averages():
    norm = affine_norm(3).double()
    x = noise(4, 3, 5, 5) * 3 + 2
    torch.testing.assert_close(norm(x), normalized(x), rtol=1e-9, atol=1e-9)
    norm.eval()
    mean, variance = 0.1 * x.mean((0, 2, 3)), 0.9 + 0.1 * x.var((0, 2, 3))  # one step from (0, 1)
    expected = (x - mean[:, None, None]) / (variance[:, None, None] + EPSILON).sqrt()
    torch.testing.assert_close(norm(x), expected, rtol=1e-9, atol=1e-9)


def test_collected_statistics_are_averages_over_batches():
    norm = BatchNorm(3)
    batches = [(noise(4, 3, 5, 5, seed=seed) * (seed + 1) + seed).float() for seed in range(3)]
    norm.collect(torch.device("cpu"))
    for batch in batches:
        torch.testing.assert_close(norm(batch), normalized(batch), rtol=1e-4, atol=1e-4)
    mean = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    unbiased = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    norm.eval()
    held_out = (noise(2, 3, 5, 5, seed=9) * 5).float()
    expected = (held_out - mean[:, None, None]) / (unbiased + EPSILON).sqrt()[:, None, None]
    for _ in range(2):  # reading does not change what was collected
        torch.testing.assert_close(norm(held_out), expected, rtol=1e-4, atol=1e-5)
    norm.forget()
    for mode in (False, True):
        norm.train(mode)
        torch.testing.assert_close(norm(held_out), normalized(held_out), rtol=1e-4, atol=1e-5)
    assert norm.running_mean is norm.running_var is norm.num_batches_tracked is None
    norm.collect(torch.device("cpu"))  # afresh: nothing of the first collection is left
    norm(batches[0])
    torch.testing.assert_close(norm.running_mean, batches[0].mean((0, 2, 3)))


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 2)])
def test_a_template_pool_gives_what_a_pool_gives(kind, stride, size):
    x = torch.randn(3, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    plain, fast = Pool(kind, stride)(x), TemplatePool(kind, stride)(x)
    torch.testing.assert_close(fast, plain)
    gradient = torch.randn(plain.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(*(torch.autograd.grad(y, x, gradient)[0] for y in (fast, plain)))
    with torch.no_grad():
        torch.testing.assert_close(TemplatePool(kind, stride)(x), plain)
        assert TemplatePool(kind, stride)(x).is_contiguous(memory_format=torch.channels_last)
