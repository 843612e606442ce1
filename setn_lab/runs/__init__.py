"""Run folders: the record of one run, with its journals, checkpoints and lock."""

from setn_lab.runs.errors import RunError
from setn_lab.runs.journal import read_journal
from setn_lab.runs.run import Run

__all__ = ["Run", "RunError", "read_journal"]
