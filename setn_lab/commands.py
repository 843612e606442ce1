"""What the subcommands call: the functions that the notebooks call, in the same order.

Each imports what it needs, since nobody who trains a network waits for the inspectors.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setn_lab.config import ConfigError
from setn_lab.extras import needs
from setn_lab.parameters import notebooks
from setn_lab.runs.environment import checkout
from setn_lab.runs.errors import RunError
from setn_lab.runs.files import replace_file
from setn_lab.runs.place import found, run_folder
from setn_lab.runs.progress import Observer
from setn_lab.runs.run import Run, default_folder
from setn_lab.terminal import Terminal

if TYPE_CHECKING:
    from setn_lab.figures.genotype import CellsConfig
    from setn_lab.inspection.reading import InspectConfig
    from setn_lab.retrain.config import RetrainConfig
    from setn_lab.search.config import SearchConfig
    from setn_lab.studies.ablation import AblationConfig
    from setn_lab.studies.groundtruth.study import GroundTruthConfig
    from setn_lab.studies.ranking import RankingConfig


def search(config: "SearchConfig", observe: Terminal, notebook: Path | None = None) -> None:
    """Algorithm 1, from the newest checkpoint, by this process or by all that `torchrun` started.

    Together they train; the first one does all else. notebook: where the executed notebook is to lie, which then does
    it, for one process alone.
    """
    from setn_lab.compute.distributed import process_group
    from setn_lab.search import report
    from setn_lab.search.candidates import search_candidates
    from setn_lab.search.description import describe_search
    from setn_lab.search.setup import check_processes, prepare_search
    from setn_lab.search.training import train
    from setn_lab.search.verdict import verdict

    with contextlib.ExitStack() as open_run:
        with process_group(config.device) as processes:
            if notebook is not None:
                if processes.share.processes > 1:
                    raise ConfigError(f"--notebook: {notebook} given for several processes; leave it out")
                _search_in_notebook(config, observe, notebook)
                return
            check_processes(config, processes)  # before there is a run folder
            run = open_run.enter_context(Run.open(config, "search")) if processes.first else None
            prepared = processes.first_here(lambda: prepare_search(config, run, processes))
            if run is not None:
                print(describe_search(prepared))
            train(prepared, run, observe, processes)
        if run is None:
            return
        search_candidates(prepared, run, observe)  # alone: the others have ended
    done = report.SearchRun.read(run.folder)
    report.save(done)
    genotype = done.genotype()
    if config.finalists:
        _print(report.finalists_table(run.folder))
    _print(report.summary_table(done), done.space.write(genotype), report.sizes_table(done.sizes(genotype)))
    _print(report.contents(done), verdict(run.folder).text(), f"run folder: {run.folder}")


def _search_in_notebook(config: "SearchConfig", observe: Terminal, notebook: Path) -> None:
    from setn_lab.headless import run_notebook
    from setn_lab.search.verdict import verdict

    run_notebook("search", config, notebook, observe.screen)
    folder = default_folder(config, "search") if config.run_dir is None else run_folder(config.run_dir, "run_dir")
    _print(verdict(folder).text(), f"run folder: {folder}\nnotebook: {notebook.absolute()}")


def retrain(config: "RetrainConfig", observe: Observer) -> None:
    """Section 5.2, by this process or by all that `torchrun` started, of which the first one prints."""
    from setn_lab.compute.distributed import process_group
    from setn_lab.retrain import report
    from setn_lab.retrain.setup import prepare_retraining
    from setn_lab.retrain.training import retrain

    with process_group(config.device) as processes:
        setup = processes.first_here(lambda: prepare_retraining(config, processes))
        if not processes.first:
            retrain(setup, None, processes)
            return
        print(report.describe_retraining(setup))
        with Run.open(config, "retrain") as run:
            retrain(setup, run, processes, observe)
        report.save(run.folder)
        _print(report.table(run.folder), report.contents(run.folder))


def ablation(config: "AblationConfig", observe: Observer) -> None:
    """Figure 2 and what the search costs."""
    from setn_lab.studies import ablation, ablation_report

    print(ablation_report.describe(config))
    with Run.open(config, "ablation") as run:
        ablation.collect(config, run, observe)
        ablation.measure_costs(config, run)
    ablation_report.save(run.folder)
    _print(ablation_report.table(run.folder), ablation_report.contents(run.folder))


def ranking(config: "RankingConfig", observe: Observer) -> None:
    """The pairs of section 5.3, and progressive selection."""
    from setn_lab.studies import ranking, ranking_report

    print(ranking_report.describe(config))
    with Run.open(config, "ranking") as run:
        ranking.collect(config, run, observe)
    ranking_report.save(run.folder)
    _print(ranking_report.table(run.folder), ranking_report.finalists_table(run.folder))
    _print(ranking_report.contents(run.folder))


def groundtruth(config: "GroundTruthConfig", observe: Observer) -> None:
    """Every strategy against the table of true accuracies."""
    from setn_lab.studies.groundtruth import report, results, study

    config.truth()  # before hours of training: there is a table
    print(report.describe(config))
    with Run.open(config, "groundtruth") as run:
        study.collect(config, run, observe)
    done = results.read(run.folder, config.table)
    report.save(done)
    _print(report.quality_table(done), report.ranking_table(done), report.contents(run.folder))


def cells(config: "CellsConfig", observe: Observer, every: bool = False) -> None:
    """Draw a genotype, or all published ones."""
    from setn_lab.figures import genotype

    if every:
        from setn_lab.figures.overview import save_all

        print(save_all(config))
        return
    figures = genotype.figures(config)
    _print(genotype.describe(figures), genotype.contents(genotype.save(figures, config)))


def inspect(config: "InspectConfig", observe: Observer, static: Path | None = None) -> None:
    """Serve the inspectors' notebook as a page, for this machine only and behind a token, until it is stopped.

    static: a folder to write what the notebook shows a reader without widgets into, and no page is served. Raises
    InspectionError for a folder that is no run of a search, MissingExtraError without the packages for notebooks.
    """
    from setn_lab.inspection.reading import folder_of, read_config

    read_config(config.folder)
    if static is not None:
        from setn_lab.widgets.static import write_figures

        print(*write_figures(config, static), sep="\n")
        return
    with needs("notebooks", "setn-lab inspect"):
        import papermill
        import voila  # noqa: F401, served from below

    if checkout() is None:
        raise ConfigError(
            "inspect: the page is made of the checkout's inspect.ipynb, and this is none: use --static FOLDER"
        )
    (notebook,) = (path for path in notebooks() if path.name == "inspect.ipynb")
    given: dict[str, Any] = {
        name: value for name, value in vars(config).items() if value != getattr(type(config), name)
    }
    given["run_dir"] = str(config.folder.absolute())  # the page's kernel works in another folder
    if config.others:
        given["compare"] = ",".join(str(folder_of(other).absolute()) for other in config.others)
    with tempfile.TemporaryDirectory() as folder:
        page = str(Path(folder) / notebook.name)
        papermill.execute_notebook(str(notebook), page, given, prepare_only=True, progress_bar=False)
        subprocess.run([sys.executable, "-m", "voila", page, "--token", "--Voila.ip=localhost"], check=False)


def export(run: Path, form: str, target: Path | None = None) -> Iterator[Path]:
    """Write each network of a training, or the one of a file, for other programs; yields the paths as they are written.

    form: of `portable.FORMATS`. target: a folder, by default that of the network. Raises RunError where no network is,
    TrainedError for a file that is none, MissingExtraError without the packages for ONNX.
    """
    from setn_lab.network.export import load
    from setn_lab.network.portable import FORMATS

    run = found(run, "RUN")
    networks = [run] if run.is_file() else sorted(run.glob("network-*.safetensors"))
    if not networks:
        raise RunError(
            f"{run} holds no network-SEED.safetensors, which a training leaves at the end of each seed: give the run "
            "folder of a finished training, or let this one go on"
        )
    ending, convert = FORMATS[form]
    for network in networks:
        path = (target or network.parent) / f"{network.stem}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, convert(load(network)))
        yield path


def report(folder: Path, target: Path, table: str | None = None) -> Path:
    """Write the page of a run folder, with its figures, into `target`; returns the page.

    table: the true accuracies of a ground-truth study, where they are not where its config says. Raises RunError for a
    folder of no known kind and for a run that is not far enough, and what the reports of the kind raise.
    """
    folder = found(folder, "RUN")
    try:
        kind = json.loads((folder / "environment.json").read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} is no run folder, whose environment.json says what it holds: {error!r}") from error
    if kind not in REPORTS:
        raise RunError(f"{folder} holds a run of the kind {kind!r}; there are reports of {', '.join(REPORTS)}")
    if table is not None and kind != "groundtruth":
        raise ConfigError(f"table: {table!r} given for a run of the kind {kind!r}; leave it out")
    if target.resolve() == folder.resolve():
        raise ConfigError(f"target: {target} given, the run folder; give another, since the page has a config.json too")
    try:
        return REPORTS[kind](folder, target, table)
    except FileNotFoundError as error:
        raise RunError(f"{folder}: {error.filename} is missing; a report needs a finished run: let it go on") from error
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise RunError(
            f"{folder} cannot be reported: {error!r}. A file of it is damaged, or of another version of setn_lab"
        ) from error


def _report_search(folder: Path, target: Path, table: str | None) -> Path:
    from setn_lab.search import report

    return report.write(folder, target)


def _report_retrain(folder: Path, target: Path, table: str | None) -> Path:
    from setn_lab.retrain import report

    return report.write(folder, target)


def _report_ablation(folder: Path, target: Path, table: str | None) -> Path:
    from setn_lab.studies import ablation_report

    return ablation_report.write(folder, target)


def _report_ranking(folder: Path, target: Path, table: str | None) -> Path:
    from setn_lab.studies import ranking_report

    return ranking_report.write(folder, target)


def _report_groundtruth(folder: Path, target: Path, table: str | None) -> Path:
    from setn_lab.studies.groundtruth import report, results

    return report.write(results.read(folder, table), target)


REPORTS: dict[str, Callable[[Path, Path, str | None], Path]] = {
    "search": _report_search,
    "retrain": _report_retrain,
    "ablation": _report_ablation,
    "ranking": _report_ranking,
    "groundtruth": _report_groundtruth,
}


def _print(*parts: Any) -> None:
    """Print each part behind an empty line."""
    for part in parts:
        print(f"\n{part}")
