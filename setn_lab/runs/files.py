"""Files that are whole whenever the process or the machine dies."""

import errno
import os
from pathlib import Path

SYNCS_FOLDERS = hasattr(os, "O_DIRECTORY")  # Windows opens no folders


class FolderSyncError(OSError):
    """A file is whole and in its place, but its folder could not be brought to the disk."""

    def __str__(self) -> str:
        return (
            f"{self.filename} is written, but the disk did not confirm its name ({self.strerror or self.errno}), so "
            "that a power failure could lose it: look after this disk, then start again to resume"
        )


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that, whenever the process or the machine dies, the old or the whole new one is there.

    Raises OSError; then the old file is untouched and the temporary one (`.<name>.tmp` beside it) is removed. Raises
    FolderSyncError where the new file has taken its place and may not survive a power failure.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise FolderSyncError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a file's own fsync does not. Nothing where a system has no way to."""
    if not SYNCS_FOLDERS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that syncs files alone
            raise
    finally:
        os.close(descriptor)
