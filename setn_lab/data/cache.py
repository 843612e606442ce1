"""A cache of decoded images, named by what they were decoded from; what was not used for longest makes room."""

import contextlib
import os
import re
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NAME = re.compile(r"[0-9a-f]{32}\.npz")
UNFINISHED = re.compile(r"decoded-\w+\.tmp")
ABANDONED = 24 * 3600  # seconds after which no process is still writing a file


@dataclass(frozen=True)
class Cache:
    """A folder of decoded images. limit: bytes that its files may take together, the newest always stays."""

    folder: Path
    limit: float

    def read(self, key: str, count: int) -> tuple[np.ndarray, int] | None:
        """The images and the number written with them, or None, with a warning where the file is not sound.

        Nothing in the file is ever executed.
        """
        path = self.folder / f"{key}.npz"
        try:
            # Opened here, as numpy leaves a broken archive open. Zip checksums find changed bytes.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                images, highest = archive["images"], archive["highest"]
            shape = images.shape
            fits = len(shape) == 4 and shape[0] == count and shape[1] == shape[2] > 0 and shape[3] in (1, 3)
            if not fits or images.dtype != np.uint8:
                raise ValueError(f"{images.dtype} {list(shape)} for {count} images")
            found = images, int(highest)
        except (FileNotFoundError, NotADirectoryError):  # never written, or removed by another process
            return None
        except Exception as error:  # a cache can hold anything, and no fault in it may end a run
            warnings.warn(
                f"{path} is not a valid cache ({type(error).__name__}: {error}); "
                "the images are decoded again and it is replaced.",
                stacklevel=4,
            )
            return None
        with contextlib.suppress(OSError):  # a folder that is only read keeps its times
            os.utime(path)
        return found

    def write(self, key: str, images: np.ndarray, highest: int) -> None:
        """Write a temporary file and rename it, so that no other process ever sees half a cache; then make room."""
        path, temporary = self.folder / f"{key}.npz", None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix="decoded-", suffix=".tmp", delete=False) as file:
                temporary = file.name
                np.savez(file, images=images, highest=np.int64(highest))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            temporary = None
            self._make_room(path)
        except OSError as error:
            warnings.warn(
                f"The decoded images could not be cached in {self.folder} ({error}); the next run decodes them "
                "again. Set SETN_LAB_CACHE to a folder that can be written.",
                stacklevel=4,
            )
        finally:
            if temporary is not None:  # not only on OSError: an interrupted run leaves no rubbish either
                Path(temporary).unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        """Remove what was not used for longest until the limit holds, and what killed processes left.

        A process that reads a file keeps it open until it has read all of it; one that comes too late decodes again.
        """
        files = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):  # another process may have removed it
                status = path.stat()
                if NAME.fullmatch(path.name):
                    files.append((status.st_mtime_ns, status.st_size, path))
                elif UNFINISHED.fullmatch(path.name) and time.time() - status.st_mtime > ABANDONED:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit:
                break
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size
