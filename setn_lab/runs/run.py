"""The run folder: the record of one run, written by one process at a time.

It holds `config.json` (a parameters file for `papermill -f`), `identity.json` (what the run is made of),
`environment.json`, journals (`*.jsonl`, one record a line), products, `checkpoints/` and the lock. A resumed run and
every figure are made from it alone.
"""

import contextlib
import itertools
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import setn_lab.config
from setn_lab.runs import identity
from setn_lab.runs.checks import (
    read_identity,
    read_object,
    refuse_changed,
    refuse_foreign,
    refuse_other_config,
    refuse_other_contents,
)
from setn_lab.runs.environment import environment
from setn_lab.runs.errors import RunError
from setn_lab.runs.files import SYNCS_FOLDERS, FolderSyncError, replace_file, sync_folder
from setn_lab.runs.journal import cut_torn_line, parse, read_journal
from setn_lab.runs.lock import Lock, LockError, take_lock
from setn_lab.runs.place import root_folder, run_folder

_BINARY = getattr(os, "O_BINARY", 0)  # without it Windows writes a line's end as two bytes
_ON_WINDOWS = (
    "this system brings no folder's names to the disk, so that a power failure may lose the newest files of a run, and "
    "replaces no file that another program reads; the memory of a search is not measured on it"
)


class Run:
    """An open run folder; a context manager. `Run.open` makes it; `close` or the end of `with` ends it."""

    folder: Path
    config: Any
    resumed: bool
    contents: dict[str, Mapping[str, Any]]  # what was found where the config points to, see `config.contents`

    def __init__(
        self, folder: Path, config: Any, resumed: bool, contents: dict[str, Mapping[str, Any]], lock: Lock
    ) -> None:
        """For `open` alone."""
        self.folder, self.config, self.resumed, self.contents = folder, config, resumed, contents
        self._lock: Lock | None = lock

    @classmethod
    def open(cls, config: Any, kind: str, lock_wait: float = 10.0) -> Self:
        """Open the folder of `config` to start its run or to resume it; `kind` is for example "search".

        The folder is `config.run_dir` or else `default_folder`. A holder of the lock is waited for
        `lock_wait` seconds: a killed kernel lives on for a few. A torn last line of a journal is cut. Warns
        when the start before was in another environment. Raises RunError when the folder is in use, holds
        another run or something else, is damaged, or cannot be written, and where what the config points to has
        changed since the run was made of it; and what the config's `contents` raises.
        """
        given = getattr(config, "run_dir", None)
        chosen = None if given is None else run_folder(given, "run_dir")
        if chosen is not None:  # before the images are read, which may be others
            refuse_other_config(chosen, config)
        found = setn_lab.config.contents(config)
        folder = (chosen or default_folder(config, kind, found)).absolute()
        if chosen is None and not folder.exists():
            refuse_changed(folder.parent, kind, config, found)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "lock").exists():
                refuse_foreign(folder)  # before a lock file is left in a folder that is not ours
            lock = take_lock(folder, lock_wait)
            try:
                resumed = _start(folder, config, kind, found)
            except BaseException:
                lock.free()
                raise
        except (LockError, FolderSyncError) as error:
            raise RunError(str(error)) from error
        except OSError as error:
            path = error.filename or folder
            raise RunError(
                f"{path}: {error.strerror or error}; a run needs a folder that it can write to: "
                "free space there or correct its permissions, or give another run_dir"
            ) from error
        if not SYNCS_FOLDERS:
            warnings.warn(_ON_WINDOWS, stacklevel=2)
        return cls(folder, config, resumed, found, lock)

    def close(self) -> None:
        """Free the folder for others; a second call does nothing."""
        if self._lock is not None:
            self._lock.free()
            self._lock = None

    def __enter__(self) -> Self:
        """The run itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the run."""
        self.close()

    @property
    def checkpoints(self) -> Path:
        """The folder for `checkpoint.save`, which makes it."""
        return self.folder / "checkpoints"

    def append(self, journal: str, record: dict[str, Any]) -> None:
        """Add a line to a journal ("metrics" is metrics.jsonl); it is on the disk when this returns.

        Raises RunError when the run is closed or the disk refuses it; then the journal is as it was before.
        """
        path = self._path(f"{journal}.jsonl")
        line = json.dumps(record).encode() + b"\n"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _BINARY, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                try:
                    if os.write(descriptor, line) < len(line):
                        raise OSError(None, "no space left for a whole line", str(path))
                    os.fsync(descriptor)
                    if size == 0:
                        sync_folder(path.parent)
                except BaseException:
                    with contextlib.suppress(OSError):  # else the next `open` cuts the torn line
                        os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _write_error(path, error) from error

    def read(self, journal: str) -> list[dict[str, Any]]:
        """The records of a journal; none when there is no such file. Raises RunError for an invalid line."""
        return read_journal(self.folder / f"{journal}.jsonl")

    def keep(self, journal: str, count: int) -> None:
        """Cut a journal to its first `count` records; nothing happens when it has no more than these.

        Raises RunError as `append` does, and for an invalid line.
        """
        if count < 0:
            raise ValueError(f"count: {count} given; an integer of at least 0 is allowed")
        path = self._path(f"{journal}.jsonl")
        lines = [line for line, _ in parse(path)]
        if len(lines) > count:
            self.write(path.name, b"".join(lines[:count]))

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a product, for example "genotype.json" or "figures/loss.png", whole or not at all.

        Raises RunError when the run is closed or the disk refuses it; the message says which of the two files is there.
        """
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content.encode() if isinstance(content, str) else content)
        except FolderSyncError as error:
            raise RunError(str(error)) from error
        except OSError as error:
            raise _write_error(path, error) from error
        return path

    def replace_config(self, config: Any) -> None:
        """Write config.json again, with other values of the fields that are `redone`."""
        self.config = config
        self.write("config.json", setn_lab.config.to_json(config))

    def put_aside(self, journal: str) -> Path | None:
        """Give a journal another name, JOURNAL-1.jsonl and so on; None where it is not there."""
        path = self._path(f"{journal}.jsonl")
        if not path.exists():
            return None
        aside = next(
            name for number in itertools.count(1) if not (name := path.with_name(f"{journal}-{number}.jsonl")).exists()
        )
        try:
            path.rename(aside)
            sync_folder(path.parent)
        except OSError as error:
            raise _write_error(path, error) from error
        return aside

    def made_from(self, product: str) -> str | None:
        """What `note` last said of a product."""
        return self._identity()["products"].get(product)

    def note(self, product: str, made_from: str | None) -> None:
        """Keep of a product, or of a stage of the run, the digest of what it was made from; None: it is no more."""
        stored = self._identity()
        if stored["products"].get(product) != made_from:
            stored["products"][product] = made_from
            self.write(identity.NAME, json.dumps(stored, indent=1) + "\n")

    def _identity(self) -> dict[str, Any]:
        return read_identity(self.folder) or identity.record(self.config, self.contents)

    def _path(self, name: str) -> Path:
        if self._lock is None:
            raise RunError(f"{self.folder / name}: the run is closed, so another may write here: open it again")
        return self.folder / name


def default_folder(config: Any, kind: str, found: dict[str, Mapping[str, Any]] | None = None) -> Path:
    """`<root>/<kind>-<digest>` of the config and its contents, `found` where they are known.

    The same config on the same images comes back to it, and another never touches it. Where an older version has left
    a folder of this config, it is that one.
    """
    found = setn_lab.config.contents(config) if found is None else found
    root = root_folder()
    folder = root / f"{kind}-{setn_lab.config.digest(config, found)}"
    if folder.exists():
        return folder
    older = root / f"{kind}-{identity.older_digest(config)}"
    if (older / "config.json").exists() and not (older / identity.NAME).exists():
        return older
    return identity.same(root, kind, config, found) or folder  # an older one that was opened since, under its own name


def _start(folder: Path, config: Any, kind: str, found: dict[str, Mapping[str, Any]]) -> bool:
    """Make the folder ready for its writer, who holds the lock; whether it is a run that is resumed."""
    resumed = (folder / "config.json").exists()
    if resumed:
        refuse_other_config(folder, config)
        refuse_other_contents(folder, found)
    else:
        refuse_foreign(folder)
        replace_file(folder / "config.json", setn_lab.config.to_json(config).encode())
    if read_identity(folder) is None:
        _write_identity(folder, identity.record(config, found))
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()
    _record_environment(folder, kind)
    for journal in sorted(folder.glob("*.jsonl")):
        cut_torn_line(journal)
    return resumed


def _write_error(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} could not be written: {error.strerror or error}. What it held before is untouched: "
        "free space on this disk or make the folder writable, then start again to resume"
    )


def _write_identity(folder: Path, content: dict[str, Any]) -> None:
    replace_file(folder / identity.NAME, (json.dumps(content, indent=1) + "\n").encode())


def _record_environment(folder: Path, kind: str) -> None:
    """Write environment.json at the first start; later add to it what has changed since the start before."""
    path = folder / "environment.json"
    here = environment()
    lines: list[str] = []
    if path.exists():
        record = read_object(path)
        if record.get("kind") != kind:
            raise RunError(
                f"{folder} holds a run of another kind: {record.get('kind')!r} there, {kind!r} here. "
                "Give another run_dir, or leave run_dir out"
            )
        starts = [{name: record[name] for name in record if name not in ("kind", "resumed_in")}]
        starts += record.get("resumed_in", [])
        lines = setn_lab.config.differences(starts[-1], here)
        if not lines:
            return
        record["resumed_in"] = [*starts[1:], here]
    else:
        record = {"kind": kind, **here, "resumed_in": []}
    replace_file(path, (json.dumps(record, indent=2) + "\n").encode())
    if lines:
        warnings.warn(
            f"{folder} is resumed in another environment ({'; '.join(lines)}): results are bitwise the same "
            "only on the same machine, versions, threads and code",
            stacklevel=4,  # where the run was opened
        )
