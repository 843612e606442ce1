"""The extras of the package: what to install where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtraError(ModuleNotFoundError):
    """A package is not installed; the message says which extra has it."""


@contextmanager
def needs(extra: str, part: str) -> Iterator[None]:
    """Imports within belong to the extra; `part` is what needs them, as the subject of a sentence.

    Raises MissingExtraError where a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "setn_lab":  # a mistake of this package
            raise
        raise MissingExtraError(
            f"{part} needs {error.name}, which is not installed: pip install 'setn_lab[{extra}]'", name=error.name
        ) from error
