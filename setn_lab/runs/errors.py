"""The error of run folders."""


class RunError(RuntimeError):
    """A run folder is in use, of another config, damaged, or the disk refuses it."""
