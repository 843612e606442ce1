import pytest
from written_run import write_run


@pytest.fixture(autouse=True)
def quick(coarse_pictures):
    """All inspectors draw coarsely here."""


@pytest.fixture
def folder(tmp_path):
    """A small run, for tests that may change it."""
    return write_run(tmp_path / "run", nodes=1, candidates=6)
