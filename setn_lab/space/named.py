"""A genotype by whatever name a user has for it: a published one, a search's run folder, a file, or its text."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from setn_lab.space import texts
from setn_lab.space.genotype import Genotype, GenotypeError
from setn_lab.space.zoo import ZOO


def resolve(text: str, bases: Sequence[Path] = ()) -> tuple[str, Genotype]:
    """(name, genotype) of a zoo name, a run folder, a file that holds a genotype's text, or such a text itself.

    bases: folders below which a path may lie, the first one first; none: the working folder.
    Nothing is ever evaluated; texts are read as `Genotype.from_darts` and `Genotype.from_json` do, with their warnings.
    Raises GenotypeError, which offers the nearest zoo name.
    """
    if text in ZOO:
        return text, ZOO[text].genotype
    if texts.holds_a_call(text) or texts.without_mark(text).startswith(("{", "|")):
        return "given", _parse(text)
    try:
        paths = [base / Path(text).expanduser() for base in bases or [Path()]]
        path = next((path for path in paths if path.exists()), paths[0])
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError):  # longer than a path can be, or the home of an unknown user
        is_folder = is_file = False
    if is_folder:
        return path.absolute().name, _read(path / "genotype.json", f"{path} is no run folder of a finished search")
    if is_file:
        return path.stem, _read(path, str(path))
    names = {name.lower(): name for name in ZOO}
    near = [names[name] for name in difflib.get_close_matches(text.lower(), names, 1)]
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise GenotypeError(
        f"genotype: {text[:200]!r} given; {hint}Allowed are {', '.join(ZOO)}, the run folder of a search, a file of "
        "JSON or DARTS text, or such a text: Genotype(normal=[...], ...). Looked for folders and files in "
        f"{', '.join(map(str, bases or [Path.cwd()]))}"
    )


def _read(path: Path, what: str) -> Genotype:
    try:
        content = texts.decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise GenotypeError(f"genotype: {what}: {path.name} cannot be read ({error})") from error
    try:
        return _parse(content)
    except GenotypeError as error:
        raise GenotypeError(f"genotype: {path}: {error}") from error


def _parse(text: str) -> Genotype:
    return Genotype.from_darts(text) if texts.holds_a_call(text) else Genotype.from_json(text)
