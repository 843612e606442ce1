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
from setn_lab.runs.environment import environment
from setn_lab.runs.files import SYNCS_FOLDERS, FolderSyncError, replace_file, sync_folder
from setn_lab.runs.lock import MARKER, Lock, LockError, take_lock
from setn_lab.runs.place import root_folder, run_folder

_BINARY = getattr(os, "O_BINARY", 0)  # without it Windows writes a line's end as two bytes
_ON_WINDOWS = (
    "this system brings no folder's names to the disk, so that a power failure may lose the newest files of a run, and "
    "replaces no file that another program reads; the memory of a search is not measured on it"
)


class RunError(RuntimeError):
    """A run folder is in use, of another config, damaged, or the disk refuses it."""


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
            _compare_config(chosen, config)
        found = setn_lab.config.contents(config)
        folder = (chosen or default_folder(config, kind, found)).absolute()
        if chosen is None and not folder.exists():
            _refuse_changed(folder.parent, kind, config, found)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "lock").exists():
                _refuse_foreign(folder)  # before a lock file is left in a folder that is not ours
            lock = take_lock(folder, lock_wait)
            try:
                resumed = (folder / "config.json").exists()
                if resumed:
                    _compare_config(folder, config)
                    _compare_contents(folder, found)
                else:
                    _refuse_foreign(folder)
                    replace_file(folder / "config.json", setn_lab.config.to_json(config).encode())
                if _read_identity(folder) is None:
                    _write_identity(folder, identity.record(config, found))
                for leftover in folder.glob(".*.tmp"):
                    leftover.unlink()
                _record_environment(folder, kind)
                for journal in sorted(folder.glob("*.jsonl")):
                    _cut_torn_line(journal)
            except BaseException:
                lock.free()
                raise
        except LockError as error:
            raise RunError(str(error)) from error
        except FolderSyncError as error:
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
        lines = [line for line, _ in _parse(path)]
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
        return _read_identity(self.folder) or identity.record(self.config, self.contents)

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


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a journal, none when there is no such file; needs no lock and changes nothing.

    A torn last line, which a running or killed writer leaves, is passed over. Raises RunError for any other
    invalid line.
    """
    return [record for _, record in _parse(path)]


def _write_error(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} could not be written: {error.strerror or error}. What it held before is untouched: "
        "free space on this disk or make the folder writable, then start again to resume"
    )


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds files and no config; a killed first start leaves no more than these three."""
    names = {path.name for path in folder.iterdir()} - {"lock", MARKER, ".config.json.tmp"}
    if names and "config.json" not in names:
        raise RunError(
            f"{folder} is neither an empty folder nor a run folder: it holds {', '.join(sorted(names)[:3])} "
            "and no config.json. Give another run_dir, or leave run_dir out"
        )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a copy, or give another run_dir") from error
    return content


def _refuse_changed(root: Path, kind: str, config: Any, found: dict[str, Mapping[str, Any]]) -> None:
    """Refuse a new run where one of the same parameters was made from what lay in the same place before."""
    if found and (other := identity.elsewhere(root, kind, config, found)):
        folder, lines = other
        raise RunError(_changed(folder, lines) + ", or give a run_dir of its own to a run of what is there now")


def _changed(folder: Path, lines: str) -> str:
    return (
        f"what {folder} was made of has changed since:\n  {lines}\nThe run cannot go on with it, nor be told from it. "
        "Put back what was there"
    )


def _read_identity(folder: Path) -> dict[str, Any] | None:
    try:
        return identity.read(folder)
    except identity.IdentityError as error:
        raise RunError(str(error)) from error


def _write_identity(folder: Path, content: dict[str, Any]) -> None:
    replace_file(folder / identity.NAME, (json.dumps(content, indent=1) + "\n").encode())


def _compare_config(folder: Path, config: Any) -> None:
    if not (folder / "config.json").exists():
        return
    cls = type(config)
    here = setn_lab.config.decisive(cls, vars(config))
    there = setn_lab.config.decisive(cls, setn_lab.config.completed(cls, _read_object(folder / "config.json")))
    stored = _read_identity(folder)
    if stored is not None:  # what a place holds counts, not how it is written; an older version did not know that
        known = stored["contents"]
        here, there = ({name: value for name, value in part.items() if name not in known} for part in (here, there))
    if lines := setn_lab.config.differences(there, here):
        raise RunError(
            f"{folder} holds a run of another config:\n  "
            + "\n  ".join(lines)
            + "\nGive another run_dir, or leave run_dir out so that the folder is named from the config"
        )


def _compare_contents(folder: Path, found: dict[str, Mapping[str, Any]]) -> None:
    stored = _read_identity(folder)
    if stored is None:
        return
    known = stored["contents"]
    changed = {name: identity.changes(known.get(name, {}), found.get(name, {})) for name in {**known, **found}}
    if lines := [f"{name}: {text}" for name, text in changed.items() if text]:
        raise RunError(_changed(folder, "\n  ".join(lines)) + ", or give another run_dir")


def _record_environment(folder: Path, kind: str) -> None:
    """Write environment.json at the first start; later add to it what has changed since the start before."""
    path = folder / "environment.json"
    here = environment()
    lines: list[str] = []
    if path.exists():
        record = _read_object(path)
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
            stacklevel=3,
        )


def _parse(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
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


def _cut_torn_line(path: Path) -> None:
    length = sum(len(line) for line, _ in _parse(path))
    if length < path.stat().st_size:
        os.truncate(path, length)
