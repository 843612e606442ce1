"""The searches of a study, trained several at once by workers of this machine."""

from collections.abc import Sequence
from contextlib import closing

from setn_lab.compute.spread import spread
from setn_lab.compute.workers import Workers
from setn_lab.config import expanded
from setn_lab.kits import Extensions
from setn_lab.runs import identity
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run, default_folder
from setn_lab.search.config import TEMPLATE, SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.stages import stages
from setn_lab.search.training import train


def train_together(
    searches: Sequence[SearchConfig], workers: Workers, observe: Observer = lambda progress: None
) -> None:
    """Train those that are not finished, each in its own run folder, as many at once as there are workers.

    A search that was killed goes on in its folder. On the CPU the last bits depend on the workers' threads, not on
    their number. One worker has nothing to share out, and those of a cluster may not see the run folders: with these
    the study trains one search after the other, when it comes to it. Raises what `train` and `spread` raise.
    """
    if workers.count == 1 or workers.address is not None:
        return
    unfinished = [search for search in searches if not _is_finished(search)]
    with closing(spread(workers, _arrive, Extensions.here(), _train, unfinished)) as results:
        for done, _ in enumerate(results, 1):
            observe(Progress("train", done, len(unfinished)))


def _is_finished(config: SearchConfig) -> bool:
    """Whether its run folder says so: the template is noted there when all of the training is over."""
    folder = default_folder(config, "search") if config.run_dir is None else expanded(config.run_dir, "run_dir")
    stored = identity.read(folder)
    return stored is not None and stored["products"].get(TEMPLATE) == stages(config).template


def _arrive(extensions: Extensions) -> None:
    extensions.register()


def _train(state: None, config: SearchConfig) -> None:
    with Run.open(config, "search") as run:
        train(prepare_search(config, run), run)
