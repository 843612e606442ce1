"""The lock of a run folder: one writer at a time, on whatever file system the folder lies.

The file `lock` holds the writer's name. The operating system locks it, and frees it however the process ends. Where a
file system has no locks, as NFS or Lustre may be mounted, the file `lock.held` is there as long as the run is open; one
that a killed process left is recognised on the same machine.
"""

import errno
import os
import socket
import time
from datetime import datetime
from pathlib import Path

from filelock import SoftFileLock, Timeout, lock_descriptor

MARKER = "lock.held"
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}  # what such file systems answer


class LockError(RuntimeError):
    """The lock is held by another process or by this one, or the file system refuses it."""


class Lock:
    """A lock that is held until `free` or the end of the process."""

    def __init__(self, descriptor: int, marker: SoftFileLock) -> None:
        """For `take_lock` alone."""
        self._descriptor, self._marker = descriptor, marker

    def free(self) -> None:
        """Erase the name and let the next one in; call it once."""
        try:
            os.ftruncate(self._descriptor, 0)
        finally:
            os.close(self._descriptor)
            self._marker.release()


def take_lock(folder: Path, wait: float) -> Lock:
    """Lock the folder; another holder is waited for `wait` seconds. Raises LockError, and OSError from the disk."""
    path = folder / "lock"
    marker = SoftFileLock(folder / MARKER, thread_local=False)
    me = f"pid {os.getpid()} on {socket.gethostname()}"
    deadline = time.monotonic() + wait
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _take(path, descriptor, marker):
            name = holder(folder) or "a process that has not written its name yet"
            if name.startswith(f"{me} "):
                raise LockError(
                    f"{folder} is open in this process already ({name}): close that run first, "
                    "with run.close() or by restarting the kernel"
                )
            if time.monotonic() >= deadline:
                dead = f" (if that runs no longer, delete {folder / MARKER})" if (folder / MARKER).exists() else ""
                raise LockError(f"{folder} is in use by {name}{dead}: wait for it or stop it, or give another run_dir")
            time.sleep(0.1)
        name = f" {me} since {datetime.now().astimezone().isoformat(timespec='seconds')}\n"
        os.ftruncate(descriptor, 0)
        os.write(descriptor, name.encode())
        os.fsync(descriptor)  # other machines see it
    except BaseException:
        os.close(descriptor)
        marker.release()
        raise
    return Lock(descriptor, marker)


def in_use(folder: Path) -> bool:
    """Whether a run there is open now; takes its lock for a moment. Without locks, where a killed one may look open."""
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:  # of another user
        return bool(holder(folder))
    try:
        return not lock_descriptor(descriptor, blocking=False)
    except OSError:
        return (folder / MARKER).exists()
    finally:
        os.close(descriptor)


def _take(path: Path, descriptor: int, marker: SoftFileLock) -> bool:
    """Whether the lock is held now: that of the operating system, or the marker where there is none."""
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise LockError(
                f"{path}: the file system refuses to lock it ({error.strerror or error}); "
                "give a run_dir on another disk"
            ) from error
    try:
        marker.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        raise LockError(
            f"{path.parent}: this file system supports no locks, and {MARKER} cannot be made in their place "
            f"({error.strerror or error}); give a run_dir on another disk"
        ) from error
    return True


def holder(folder: Path) -> str:
    """The name of whoever holds the folder's lock, or has died with it; empty where it was freed."""
    with (folder / "lock").open("rb", buffering=0) as file:
        file.seek(1)  # Windows lets nobody but the holder read the first byte
        return file.read().decode(errors="replace").strip()
