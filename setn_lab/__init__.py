"""One-shot neural architecture search with a Self-Evaluated Template Network (SETN, ICCV 2019)."""

import os

__version__: str

# OpenMP reads it when torch is loaded. Threads that spin for long while they wait take the processor from those that
# work, as soon as another program runs beside them; those that sleep at once wake too late for a small template's
# layers. These spin for some microseconds. It changes no result.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: pyproject.toml is where it stands
        from importlib.metadata import version

        return version("setn_lab")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
