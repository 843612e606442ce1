"""Run folders: the record of one run, with its journals, checkpoints and lock."""

from setn_lab.runs.run import Run, RunError, read_journal

__all__ = ["Run", "RunError", "read_journal"]
