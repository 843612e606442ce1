"""One-shot neural architecture search with a Self-Evaluated Template Network (SETN, ICCV 2019)."""

import os

__version__: str

# OpenMP reads it when torch is loaded. Threads that spin while they wait take the processor from those that work, as
# soon as another program runs beside them: on two cores a step then takes ten times as long. It changes no result.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: pyproject.toml is where it stands
        from importlib.metadata import version

        return version("setn_lab")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
