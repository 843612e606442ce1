"""The command line, `setn-lab` or `python -m setn_lab`: thin doors to what the notebooks call.

A subcommand that runs something takes the parameters of its notebook as options, so that a run started here and one
started by papermill with the same parameters are the same run. Errors of this package are one message, without a trace.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from setn_lab.runs.errors import RunError
from setn_lab.runs.files import replace_file
from setn_lab.terminal import Terminal


class Command(NamedTuple):
    """A subcommand that works on a config of `config` ("module:class"), by `function` (config, observer).

    function: of `commands` by its name, or "module:function". A study of your own is a row of `COMMANDS` under the name
    "study NAME", and one of `commands.REPORTS` for its kind of run.
    positional: the parameter, or the file of parameters, that may be given without its name.
    """

    text: str
    config: str
    function: str
    positional: str | None = None


COMMANDS = {
    "search": Command("Search for a cell: Algorithm 1.", "setn_lab.search.config:SearchConfig", "search"),
    "retrain": Command(
        "Train the network of a cell from scratch.", "setn_lab.retrain.config:RetrainConfig", "retrain", "file"
    ),
    "study ablation": Command(
        "Figure 2: ways to generate candidates.", "setn_lab.studies.ablation:AblationConfig", "ablation"
    ),
    "study ranking": Command(
        "Does one-shot accuracy rank networks as training does?", "setn_lab.studies.ranking:RankingConfig", "ranking"
    ),
    "study groundtruth": Command(
        "Strategies against true accuracies, in NAS-Bench-201's space.",
        "setn_lab.studies.groundtruth.study:GroundTruthConfig",
        "groundtruth",
    ),
    "inspect": Command(
        "What a search has learned, as a page for this machine or in static figures.",
        "setn_lab.inspection.reading:InspectConfig",
        "inspect",
        "run_dir",
    ),
    "cells": Command(
        "Draw the cells and the network of a genotype.", "setn_lab.figures.genotype:CellsConfig", "cells", "genotype"
    ),
}
OTHERS = {
    "export": "Write the networks of a finished training for other programs: ONNX, or torch.export.",
    "report": "Write the page, figures and tables of a run folder of any kind.",
    "runs": "List all run folders: what, when, state, best, cost.",
    "lab": "Open JupyterLab on copies of the notebooks, in work/.",
    "parameters": "Make the notebooks' parameter cells anew from the config classes.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say, by default those of the process; returns the exit code.

    That is 2 after an error in what was given, and 1 where something failed while it ran, as a training or the disk.
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as stop:  # argparse has printed its help, or what it cannot read
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None and not _is_ours(error):
            what = f"{error.filename}: {error.strerror or error}"
            print(f"{what}; free space there, correct its permissions or give another place", file=sys.stderr)
            return 1
        if not _is_ours(error):
            raise
        text = re.sub(r"(?<!\S)-[pr] (?=\w)", "--", str(error))  # papermill's way to give a parameter, in this one's
        print(text, file=sys.stderr)
        return 1 if isinstance(error, RuntimeError | OSError) and not isinstance(error, RunError) else 2


def _is_ours(error: Exception) -> bool:
    return type(error).__module__.startswith("setn_lab.")


def _draw_into_files() -> None:
    """Figures are drawn into files, whatever $MPLBACKEND of a notebook or a screen this process was started with."""
    import matplotlib

    matplotlib.use("agg")


def _run(words: list[str]) -> int:
    texts = {name: command.text for name, command in COMMANDS.items()}
    command, rest = _first(words, "setn-lab", texts | OTHERS)
    if command == "study":
        studies = {name.partition(" ")[2]: text for name, text in texts.items() if name.startswith("study ")}
        study, rest = _first(rest, "setn-lab study", studies)
        command = f"study {study}"
    if command in COMMANDS:
        return _with_config(command, rest)
    return {"export": _export, "report": _report, "runs": _runs, "lab": _lab, "parameters": _parameters}[command](rest)


def _first(words: list[str], prog: str, texts: dict[str, str]) -> tuple[str, list[str]]:
    """The command, which comes first, and the words behind it."""
    parser = argparse.ArgumentParser(
        prog,
        usage=f"{prog} COMMAND [OPTIONS]",
        description="COMMAND --help shows its options. Commands:\n\n"
        + "\n".join(f"  {name:<19}{text}" for name, text in texts.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices={name.split()[0]: None for name in texts}, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    return given.command, given.words


def _with_config(name: str, words: list[str]) -> int:
    from setn_lab import commands, options

    command = COMMANDS[name]
    module, _, cls_name = command.config.partition(":")
    cls = getattr(importlib.import_module(module), cls_name)
    parser = options.option_parser(cls, f"setn-lab {name}", command.text, command.positional)
    if name == "inspect":
        parser.add_argument("--static", type=Path, metavar="FOLDER", help="write static figures there, show no page")
    if name == "cells":
        text = "draw all published cells instead, with a page of their sizes and sources (minutes)"
        parser.add_argument("--all", action="store_true", default=False, dest="every", help=text)
    if name == "search":
        text = "run search.ipynb, and leave it there with its figures"
        parser.add_argument("--notebook", type=Path, metavar="FILE", help=text)
    config, others = options.parse(cls, parser, words)
    _draw_into_files()
    module, _, function = command.function.rpartition(":")
    getattr(importlib.import_module(module) if module else commands, function)(config, Terminal(), **vars(others))
    return 0


def _export(words: list[str]) -> int:
    from setn_lab.network.portable import FORMATS

    parser = argparse.ArgumentParser("setn-lab export", description=OTHERS["export"])
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="the run folder of a training, or a .safetensors file of it"
    )
    parser.add_argument("target", type=Path, nargs="?", metavar="TARGET", help="where to (default: beside the network)")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="onnx (the default) or torch")
    given = parser.parse_args(words)
    from setn_lab import commands

    for path in commands.export(given.run, given.format, given.target):
        print(path)
    return 0


def _report(words: list[str]) -> int:
    parser = argparse.ArgumentParser("setn-lab report", description=OTHERS["report"])
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder of a search, a training or a study")
    parser.add_argument("target", type=Path, nargs="?", metavar="TARGET", help="where to (default: RUN/report)")
    parser.add_argument("--table", help="the true accuracies, where not those named by the parameters of the study")
    given = parser.parse_args(words)
    from setn_lab import commands

    _draw_into_files()
    print(commands.report(given.run, given.target or given.run / "report", given.table))
    return 0


def _runs(words: list[str]) -> int:
    from setn_lab import listing
    from setn_lab.runs.place import root_folder

    parser = argparse.ArgumentParser("setn-lab runs", description=OTHERS["runs"])
    parser.add_argument("root", type=Path, nargs="?", help="where they lie (default: $SETN_LAB_RUNS or reports/runs)")
    text = "delete those in which nothing was ever recorded"
    parser.add_argument("--remove-failed", action="store_true", help=text)
    given = parser.parse_args(words)
    root = given.root or root_folder()
    if given.remove_failed:
        for folder in listing.remove_failed(root):
            print(f"removed {folder}")
    rows = listing.listing(root)
    print(listing.as_text(rows) if rows else f"{root} holds no run folder")
    return 0


def _lab(words: list[str]) -> int:
    parser = argparse.ArgumentParser("setn-lab lab", description=OTHERS["lab"] + " Options are those of JupyterLab.")
    _, options = parser.parse_known_args(words)
    from setn_lab.config import ConfigError
    from setn_lab.extras import needs
    from setn_lab.runs.environment import checkout
    from setn_lab.workbench import open_lab

    with needs("notebooks", "setn-lab lab"):
        importlib.import_module("jupyterlab")
    root = checkout()
    if root is None:
        raise ConfigError("lab: the notebooks are those of the checkout, and setn_lab was installed without one")
    open_lab(root, options)
    return 0


def _parameters(words: list[str]) -> int:
    from setn_lab.parameters import notebooks, with_parameters

    parser = argparse.ArgumentParser("setn-lab parameters", description=OTHERS["parameters"])
    parser.add_argument("notebooks", type=Path, nargs="*", metavar="NOTEBOOK", help="(default: all of the checkout)")
    parser.add_argument("--write", action="store_true", help="without it those to be changed are named, exit code 1")
    given = parser.parse_args(words)
    changed = False
    for path in given.notebooks or notebooks():
        before = path.read_text(encoding="utf-8")
        after = with_parameters(before)
        if after != before:
            changed = True
            print(f"{path}: {'written' if given.write else 'its cell is not what its config class says'}")
            if given.write:
                replace_file(path, after.encode())
    return 1 if changed and not given.write else 0
