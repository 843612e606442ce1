"""The three results of a search, each made from the one before: template, evaluator, candidates.

The identity of each is a digest of its own parameters and of the stage before it, the images among the first's. What a
run folder holds carries the digest of what made it, so that nothing made from something else is taken for it.
"""

from typing import Any, NamedTuple

from setn_lab.config import contents, identity, redone, short_hash, values_of
from setn_lab.search.config import SearchConfig

SCORED_BY = "scoring_batch_size", "batch_norm"  # what a one-shot score depends on, besides the template
EVALUATOR = "cost_weight", "cost_metric"  # and all that begin with evaluator_


class Stages(NamedTuple):
    """The digests of a search's stages.

    scores: what one-shot scores of whole candidates are made from, whoever drew them: of the template and SCORED_BY.
    """

    template: str
    evaluator: str
    candidates: str
    scores: str


def template_parameters(config: SearchConfig) -> dict[str, Any]:
    """The parameters that the weights of the template depend on, but for those that say where something lies."""
    return {
        name: value
        for name, value in identity(config).items()
        if name != "dataset" and name not in EVALUATOR and not name.startswith("evaluator_")
    }


def stages(config: SearchConfig) -> Stages:
    """Of a search on the images that lie there now. Raises what `contents` raises."""
    found = {name: facts["digest"] for name, facts in contents(config).items()}
    trained: dict[str, Any] = {**identity(config), **found}
    template = {**template_parameters(config), "dataset": found["dataset"]}
    evaluator = {name: value for name, value in trained.items() if name not in template}
    # the weights of SETN-NON are trained through its evaluator: there the first two stages are one
    first = short_hash(["template", trained if config.strategy == "setn-non" else template])
    second = short_hash(["evaluator", first, evaluator])
    last = redone(SearchConfig, values_of(config))
    return Stages(
        template=first,
        evaluator=second,
        candidates=short_hash(["candidates", second, last]),
        scores=short_hash(["scores", first, {name: last[name] for name in SCORED_BY}]),
    )
