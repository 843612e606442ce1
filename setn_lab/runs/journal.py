"""Journals: one record a line, whose last line may be torn where its writer was killed."""

import json
import os
from pathlib import Path
from typing import Any

from setn_lab.runs.errors import RunError


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a journal, none when there is no such file; needs no lock and changes nothing.

    A torn last line, which a running or killed writer leaves, is passed over. Raises RunError for any other
    invalid line.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")
        records = json.loads(f"[{b','.join(lines).decode()}]")  # all at once: in two thirds of the time
        if len(records) == len(lines) and all(isinstance(record, dict) for record in records):
            return records
    except FileNotFoundError:
        return []
    except ValueError:
        pass  # line by line, which passes over a torn last one, or says which one is damaged
    return [record for _, record in parse(path)]


def parse(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines of a journal, each with its record, without a torn last line."""
    if not path.exists():
        return []
    *lines, tail = path.read_bytes().split(b"\n")
    parsed = []
    for index, line in enumerate(lines):
        try:
            record = json.loads(line.decode())
            if not isinstance(record, dict):
                raise ValueError("no JSON object")
        except ValueError as error:
            if index == len(lines) - 1 and not tail:
                break
            raise RunError(f"{path}, line {index + 1} is damaged ({error}): restore the file from a copy") from error
        parsed.append((line + b"\n", record))
    return parsed


def cut_torn_line(path: Path) -> None:
    """Cut a journal to its whole lines."""
    length = sum(len(line) for line, _ in parse(path))
    if length < path.stat().st_size:
        os.truncate(path, length)
