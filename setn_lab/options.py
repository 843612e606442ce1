"""A config from the words of a command line: a preset, files of parameters over it, then options of the same names."""

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

from setn_lab.config import build
from setn_lab.parameters import Parameter, describe
from setn_lab.presets import PARAMETER, filled, read_parameters

METAVARS = {int: "INTEGER", float: "NUMBER", bool: "True|False", str: "TEXT"}
SWITCHES = {"True": True, "true": True, "False": False, "false": False}


def option_parser(cls: type, prog: str, text: str, positional: str | None = None) -> argparse.ArgumentParser:
    """The parser of a subcommand with the parameters of a config class, a group for each heading.

    positional: the parameter that may be given without its name, or "file" for the file of parameters.
    """
    parser = argparse.ArgumentParser(
        prog,
        usage=f"{prog} {f'[{positional.upper()}] ' if positional else ''}[OPTIONS]",
        description=text,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    file_help = "parameters in YAML or JSON, such as a preset or a run's config.json; an option overrides it"
    parser.add_argument("-f", "--file", action="append", metavar="FILE", help=file_help)
    if positional == "file":
        parser.add_argument("file", nargs="?", action="append", metavar="FILE", help="the same as -f FILE")
    groups: dict[str, Any] = {}
    for parameter in describe(cls):
        name, heading = parameter.name, parameter.heading
        text = f"{parameter.text} (default: {parameter.default!r})".strip().replace("%", "%%")
        about: dict[str, Any] = {"type": partial(typed, parameter), "help": text}
        if name == positional:
            parser.add_argument(name, nargs="?", metavar=name.upper(), **about)
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading or "parameters")
        groups[heading].add_argument(f"--{name}", metavar=METAVARS[parameter.type], **about)
    return parser


def typed(parameter: Parameter, text: str) -> Any:
    """The value that a text stands for, by the parameter's type; the text itself where it is none of that type."""
    if text == "None":
        return None
    if parameter.type is bool:
        return SWITCHES.get(text, text)
    if parameter.type is str:
        return text
    for number in (int, float):  # an integer may stand for a float, and a float is told what is wrong with it
        try:
            return number(text)
        except ValueError:
            continue
    return text


def parse(cls: type, parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[Any, argparse.Namespace]:
    """The config that the words say, `-` and `_` alike in the names of options, and what else they say.

    Raises ConfigError as `build` does, also for options that there are not, and for a file that cannot be read.
    """
    given, unknown = parser.parse_known_args([_underscored(word) for word in words])
    values: dict[str, Any] = {}
    for file in vars(given).pop("file", []):
        values |= read_parameters(file)
    for name in (PARAMETER, *(field.name for field in dataclasses.fields(cls))):
        if name in given:
            values[name] = vars(given).pop(name)
    while unknown:
        name, is_pair, value = unknown.pop(0).partition("=")
        if not name.startswith("--"):
            parser.error(f"unrecognized argument: {name}")
        if not is_pair and unknown and not unknown[0].startswith("--"):
            value = unknown.pop(0)
        values[name[2:]] = value
    return build(cls, filled(cls, values, values)), given


def _underscored(word: str) -> str:
    """The word with the name of an option as the parameter is called: --run_dir=a-b for --run-dir=a-b."""
    name, is_pair, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{is_pair}{value}" if name.startswith("--") else word
