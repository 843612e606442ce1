"""One-shot neural architecture search with a Self-Evaluated Template Network (SETN, ICCV 2019)."""

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: pyproject.toml is where it stands
        from importlib.metadata import version

        return version("setn_lab")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
