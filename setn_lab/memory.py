"""Memory of the process: freed blocks are kept for the next tensor instead of being given back to the kernel."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_blocks() -> bool:
    """Tell glibc's malloc to keep what is freed; False where there is no glibc.

    Each tensor of a step on the CPU is a new block of some megabytes. By default glibc gives such blocks back to the
    kernel as soon as they are free, which then clears every page of the next one, at every operation. Holds for the
    whole process, whose size stays at its peak; calling it again changes nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
