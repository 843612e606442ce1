"""A search before it starts, as Markdown: what it works on, and what it will take."""

from setn_lab.data.files import ImageFiles
from setn_lab.figures import page
from setn_lab.runs.progress import duration
from setn_lab.search.estimate import Estimate
from setn_lab.search.finalists import planned_epochs
from setn_lab.search.setup import Search


def describe_search(search: Search) -> str:
    """The split, the space and the template as Markdown."""
    config, train, valid = search.config, search.train, search.valid
    template = sum(parameter.numel() for parameter in search.template.parameters())
    space = search.space
    return page.facts(
        {
            "images": f"{search.image_size} x {search.image_size}, {train.channels} channels, "
            f"{len(train.classes)} classes",
            **({} if config.resize is None else {"of any size": _where(search)}),
            "D_train": f"{len(train):,} images, {search.steps} steps of {config.batch_size} an epoch"
            + (f", in {config.batch_parts} parts" if config.batch_parts > 1 else ""),
            "D_val": f"{len(valid):,} images",
            "search space": f"{len(space.operations)} operations, {space.nodes} nodes, "
            f"{space.count_architectures():.3g} distinct architectures",
            "template": f"C = {config.channels}, N = {config.repeats}, {len(search.template.cells)} cells, "
            f"{template:,} parameters" + (", ImageNet's stem" if config.stem == "imagenet" else ""),
            "strategy": f"{config.strategy}, candidates from {config.candidate_source}",
            **({} if search.caps is None else {"caps": f"{search.caps.text}, as {search.caps.size.text}"}),
            **(
                {}
                if not config.finalists
                else {
                    "finalists": f"{config.finalists} are trained, for "
                    f"{planned_epochs(config.finalists, config.finalist_epochs)} epochs in all"
                }
            ),
            "device": f"{search.device}",
            **(
                {"without effect": "path_dropout and sampling, since SETN-NON's weight step takes every operation"}
                if config.strategy == "setn-non"
                else {}
            ),
        }
    )


def _where(search: Search) -> str:
    """What becomes of images of any size, and whether they are kept in memory."""
    config, images = search.config, search.train
    how = f"brought to {config.resize} pixels a side, of which crops are seen" if config.crop != config.resize else ""
    if isinstance(images, ImageFiles):
        who = f"{images.workers} processes for each half" if images.workers else "this process"
        place = f"decoded again each time, by {who}: all of the folder's would take more than image_memory"
    else:
        place = "decoded once and kept in memory: all of the folder's take no more than image_memory"
    return ", ".join(part for part in (how, f"{place}, {config.image_memory:g} GiB") if part)


def describe_estimate(search: Search, estimate: Estimate) -> str:
    """How long the whole run takes and what memory it needs, as Markdown."""
    config = search.config
    more = ", and finalists are not counted" if config.finalists else ""
    total = duration(estimate.training + estimate.scoring)
    memory = "" if estimate.memory is None else f" It needs about **{estimate.memory / 2**30:.1f} GiB** of memory."
    epochs = [] if config.template_run is not None else [f"{config.epochs} epochs"]
    epochs += [f"{config.evaluator_epochs} of the evaluator alone"] if config.evaluator_epochs else []
    return (
        f"A run from the start takes about **{total}**: {duration(estimate.training)} to train "
        f"{' and '.join(epochs) or 'nothing'} ({1000 * estimate.weight_step:.0f} ms a weight step, "
        f"{1000 * estimate.evaluator_step:.0f} ms an evaluator step) and {duration(estimate.scoring)} to score "
        f"{config.candidates + config.baseline_candidates} candidates ({estimate.candidate:.2f} s each){more}.{memory}"
    )
