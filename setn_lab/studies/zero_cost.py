"""Zero-cost predictors: scores of a network with its first weights, on one batch of images (Abdelfattah et al. 2021).

Higher is better in each. Batch norms have the statistics of the batch, as in the sources. The networks give logits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run
from setn_lab.search.setup import Search

JOURNAL = "zero-cost"
JACOBIAN_OFFSET = 1e-5  # keeps the logarithm of an eigenvalue of 0 finite
_ATEN = torch.ops.aten
RELUS = (
    _ATEN.relu.default,
    _ATEN.relu_.default,
    _ATEN.clamp_min.out,
    _ATEN.clamp_min_.default,
)  # the last two: ConcatReLU


def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The sum over the weights (tensors of two dimensions or more) of the norm of the cross entropy's gradient."""
    weights = _weights(network)
    loss = F.cross_entropy(functional_call(network, weights, images), labels)
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return float(sum(gradient.norm() for gradient in gradients if gradient is not None))


def synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The logarithm of the sum of |w| dR/d|w| over the weights (Tanaka et al. 2020), free of data.

    R is the sum of the outputs for an image of ones, with the weights' absolute values, without biases and batch norms.
    -inf where nothing flows.
    """
    weights = {name: weight.detach().double().abs().requires_grad_() for name, weight in _weights(network).items()}
    rest = {name: torch.zeros_like(bias).double() for name, bias in network.named_parameters() if name not in weights}
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        setattr(norm, "forward", lambda x: x)  # noqa: B010, as types have it a method is not assigned to
    try:
        flow = functional_call(network, weights | rest, torch.ones_like(images[:1], dtype=torch.float64)).sum()
        gradients = torch.autograd.grad(flow, list(weights.values()), allow_unused=True)
    finally:
        for norm in norms:
            del norm.forward
    terms = [
        (weight * gradient).sum()
        for weight, gradient in zip(weights.values(), gradients, strict=True)
        if gradient is not None
    ]
    return float(torch.stack(terms).sum().detach().log())


def nwot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """log |det K|: K_ij is the number of ReLUs that images i and j switch alike (Mellor et al. 2021).

    -inf where two images switch all of them alike.
    """
    with torch.no_grad(), _ReLUs() as relus:
        network(images)
    return float(np.linalg.slogdet(relus.alike.cpu().numpy())[1])


def jacob_cov(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How little the outputs' gradients at different images correlate (Mellor et al. 2020, `jacob_cov`).

    -sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the correlations; NaN where a gradient is constant.
    """
    images = images.detach().requires_grad_()
    (jacobian,) = torch.autograd.grad(network(images).sum(), images)
    jacobians = jacobian.flatten(1).double().cpu().numpy()
    if (np.ptp(jacobians, axis=1) == 0).any():
        return float("nan")
    correlations = np.corrcoef(jacobians)
    eigenvalues = np.linalg.eigvalsh(correlations).clip(0) + JACOBIAN_OFFSET  # of a correlation none is negative
    return float(-(np.log(eigenvalues) + 1 / eigenvalues).sum())


ZERO_COST: dict[str, Callable[[nn.Module, Tensor, Tensor], float]] = {
    "gradient norm": grad_norm,
    "synflow": synflow,
    "nwot": nwot,
    "jacobian covariance": jacob_cov,
}


def score_untrained(
    search: Search,
    run: Run,
    architectures: NDArray[np.int64],
    images: int,
    observe: Observer = lambda progress: None,
) -> None:
    """Score architectures (n, cell types, ...) with the template's first weights, on the first `images` of D_val.

    A line each in the journal JOURNAL, which an interrupted study goes on with: the genotype and the predictors by
    name. Raises RunError where the journal holds other architectures.
    """
    texts = [search.space.write(search.space.genotype(architecture)) for architecture in architectures]
    done = [record["genotype"] for record in run.read(JOURNAL)]
    if done != texts[: len(done)]:
        raise RunError(f"{run.folder / JOURNAL}.jsonl: holds other architectures: move it away to score them again")
    chosen = search.valid.take(torch.arange(min(images, len(search.valid))))
    batch = search.seen(chosen), chosen.labels
    template = search.first_template()
    for place in range(len(done), len(architectures)):
        network = Untrained(template, architectures[place])
        scores = {name: predictor(network, *batch) for name, predictor in ZERO_COST.items()}
        run.append(JOURNAL, {"genotype": texts[place], **scores})
        observe(Progress("score", place + 1, len(architectures)))


def read_untrained(folder: Path) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """The genotypes of the journal JOURNAL and by predictor its scores, each (n,); nothing without the journal.

    A score that is not a number is the worst there is: -inf.
    """
    records = read_journal(folder / f"{JOURNAL}.jsonl")
    scores = {name: np.array([record[name] for record in records], dtype=float) for name in ZERO_COST if records}
    return [record["genotype"] for record in records], {
        name: np.where(np.isnan(values), -np.inf, values) for name, values in scores.items()
    }


class Untrained(nn.Module):
    """One architecture of a template as a network of its own: images (b, c, h, w), normalised, to logits."""

    def __init__(self, template: Any, architecture: np.ndarray) -> None:
        super().__init__()
        self.template, self.architectures = template, template.per_cell(architecture)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (b, classes)."""
        return self.template.sampled(images, self.architectures)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.ndim > 1}


class _ReLUs(TorchDispatchMode):
    """Counts, over all ReLUs computed within it, which images switch one alike: `alike` (b, b)."""

    alike: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.alike = torch.zeros(())

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operation in RELUS:
            on = (result > 0).flatten(1).double()
            self.alike = self.alike + on @ on.T + (1 - on) @ (1 - on).T
        return result
