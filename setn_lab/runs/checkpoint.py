"""Checkpoints: saved whole or not at all, verified when loaded, with the one before to fall back to.

A file is named `checkpoint-00012-<checksum>.pt`: the step and the first 16 hexadecimal characters of the
SHA-256 of its content, which is plain `torch.save`. Loading never runs code from a file and changes nothing.
"""

import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from setn_lab.runs.files import FolderSyncError, replace_file

_NAME = re.compile(r"checkpoint-(\d{5,})-([0-9a-f]{16})\.pt")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or there are checkpoints and none of them is good."""


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Save the state after `step` and return the file; only it and the newest of an earlier step are kept.

    `state` holds tensors, numbers, texts and None, in dicts, lists and tuples of any depth. Until the file
    is complete on the disk the earlier checkpoints stay as they are. Raises CheckpointError when the disk
    refuses it (full, not writable, failing) or when `state` holds something that could not be loaded again.
    """
    if step < 0:
        raise ValueError(f"step: {step} given; an integer of at least 0 is allowed")
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
        content = buffer.getvalue()
        _unpack(content)
    except Exception as error:  # found out now and not at the resume, when the good ones are gone
        raise CheckpointError(
            f"the state after step {step} could not be loaded again, so it was not saved: "
            "keep it to tensors, Python numbers, texts, None, lists, tuples and dicts"
        ) from error
    path = folder / f"checkpoint-{step:05d}-{_checksum(content)}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".checkpoint-*.tmp"):
            leftover.unlink()
        replace_file(path, content)
    except FolderSyncError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} ({len(content)} bytes) could not be written: {error.strerror or error}. The "
            f"checkpoints before it are untouched: free space on this disk or make {folder} writable, "
            "then start again to resume"
        ) from error
    # A higher step is one that could not be loaded: the run came back to here without it.
    before = [other for other in _newest_first(folder) if _step(other) < step]
    for other in _newest_first(folder):
        if other != path and other not in before[:1]:
            other.unlink()
    return path


def load_latest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The step and the state of the newest good checkpoint, tensors on the CPU; None when there is none.

    A bad one is passed over with a warning that names it. Raises CheckpointError when all are bad.
    """
    paths = _newest_first(folder)
    reasons: list[str] = []
    for path in paths:
        try:
            state = _read(path)
        except _BadFileError as error:
            reasons.append(f"{path.name}: {error}")
            continue
        for reason in reasons:
            warnings.warn(f"{folder}: bad checkpoint {reason}; using {path.name}, the one before it", stacklevel=2)
        return _step(path), state
    if paths:
        raise CheckpointError(
            f"{folder}: no checkpoint is good:\n  "
            + "\n  ".join(reasons)
            + "\nNothing was changed: restore one from a copy, or delete these files to start the run again"
        )
    return None


class _BadFileError(Exception):
    """Why a file is no good checkpoint."""


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _BadFileError(f"it cannot be read ({error.strerror or error})") from error
    if not content:
        raise _BadFileError("it is empty")
    if _checksum(content) != path.stem[-16:]:
        raise _BadFileError("its content does not fit the checksum in its name, so it is damaged or cut off")
    try:
        return _unpack(content)
    except Exception as error:  # torch's own text advises to load it with weights_only=False: not repeated here
        kind = type(error).__name__
        raise _BadFileError(f"torch.load refuses it as no plain state of tensors and numbers ({kind})") from error


def _unpack(content: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on a pickle that torch.save did not write
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"{type(state).__name__} in place of a dict")
    return state


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _newest_first(folder: Path) -> list[Path]:
    """The checkpoint files by step; of one step a kill can leave two, and either will do."""
    paths = [path for path in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (_step(path), path.name), reverse=True)
