"""The searches of a study, trained several at once by workers of this machine."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from setn_lab.compute.spread import spread
from setn_lab.compute.workers import Workers
from setn_lab.kits import Extensions
from setn_lab.runs import identity
from setn_lab.runs.place import run_folder
from setn_lab.runs.progress import Observer, Progress
from setn_lab.runs.run import Run, default_folder
from setn_lab.search.config import TEMPLATE, SearchConfig
from setn_lab.search.setup import prepare_search
from setn_lab.search.stages import stages
from setn_lab.search.training import train


def sharing(searches: Iterable[SearchConfig]) -> Iterator[SearchConfig]:
    """The searches of a study, so that none of their templates is trained twice where once is enough.

    One with `evaluator_epochs` takes the template of the first search that has the same: its evaluator is then trained
    from the start, on the finished template. One without trains its own, since its evaluator learns as the template
    does; so does one in a folder that is given.
    """
    folders: dict[str, Path] = {}  # of the first search, by the digest of its template
    for search in searches:
        first = folders.setdefault(stages(search).template, _folder(search))
        if search.evaluator_epochs and search.run_dir is None and first != _folder(search):
            search = replace(search, template_run=str(first))
        yield search


def train_together(
    searches: Iterable[SearchConfig], workers: Workers, observe: Observer = lambda progress: None
) -> None:
    """Train those that are not finished, each in its own run folder, as many at once as there are workers.

    Those that take a template come last, when all are there to be taken.
    A search that was killed goes on in its folder. On the CPU the last bits depend on the workers' threads, not on
    their number. One worker has nothing to share out, and those of a cluster may not see the run folders: with these
    the study trains one search after the other, when it comes to it. Raises what `train` and `spread` raise.
    """
    if workers.count == 1 or workers.address is not None:
        return
    searches = list(searches)
    for takes in (False, True):
        own = [search for search in searches if (search.template_run is not None) == takes]
        unfinished = [search for search in own if not _is_finished(search)]
        if not unfinished:
            continue
        with closing(spread(workers, _arrive, Extensions.here(), _train, unfinished)) as results:
            for done, _ in enumerate(results, 1):
                observe(Progress("train", done, len(unfinished)))


def _folder(config: SearchConfig) -> Path:
    """The search's run folder, which need not be there yet."""
    folder = default_folder(config, "search") if config.run_dir is None else run_folder(config.run_dir, "run_dir")
    return folder.absolute()


def _is_finished(config: SearchConfig) -> bool:
    """Whether its run folder says so: the template is noted there when all of the training is over."""
    stored = identity.read(_folder(config))
    return stored is not None and stored["products"].get(TEMPLATE) == stages(config).template


def _arrive(extensions: Extensions) -> None:
    extensions.register()


def _train(state: None, config: SearchConfig) -> None:
    with Run.open(config, "search") as run:
        train(prepare_search(config, run), run)
