"""Faults of the machine, as the tests make them."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond `size` bytes; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
