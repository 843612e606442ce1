"""Files that are whole whenever the process or the machine dies."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that, whenever the process or the machine dies, the old or the whole new one is there.

    Raises OSError; then the old file is untouched and the temporary one (`.<name>.tmp` beside it) is removed.
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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a file's own fsync does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
