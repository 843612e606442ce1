"""Texts that hold a genotype, as the field's programs print them: what is meant is found, nothing is ever evaluated.

A text may be a line of a log with a time before the genotype, an assignment, or a file of several lines, of which one
holds it. What is passed over is said by a warning, and a text of another format by an error that names it.
"""

import ast
import re
import warnings
from typing import Any

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
EXTENSIONS = ("connectN", "connects")  # further fields of SETN's authors, None in all genotypes of the paper
CELLS = "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=[...], reduce_concat=[...])"
EDGES = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
NUMBERS = re.compile(r"u?int\d*|float\d*|tensor|str_")  # what numpy and torch print around a single value
_CALL = re.compile(r"(?<![\w.])(?:[A-Za-z_]\w*\.)*Genotype\s*\(")
_NAME_BEFORE = re.compile(r"(?:[A-Za-z_]\w*\s*(?::\s*\w+\s*)?=\s*)?")
_NOTHING_BEHIND = re.compile(r"\s*[,;]?\s*(?:#.*)?")
_OPENING, _CLOSING = "([{", ")]}"


class GenotypeError(ValueError):
    """A genotype, or the text of one, that describes no cell; the message says what is wrong and where."""


def without_mark(text: str) -> str:
    """The text without a byte-order mark and without space around it."""
    return text.strip().removeprefix("\ufeff").strip()


def decoded(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 where a byte-order mark says so. Raises UnicodeDecodeError."""
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def holds_a_call(text: str) -> bool:
    """Whether there is a call Genotype(...) in the text."""
    return _CALL.search(text) is not None


def looks_like_201(text: str) -> bool:
    """Whether the text holds a cell as NAS-Bench-201 writes it."""
    return re.search(r"\|\w+~\d+\|", text) is not None


def read_call(text: str) -> dict[str, Any]:
    """The fields of the one genotype Genotype(normal=..., ...) in a text, cells and concatenations as lists.

    Raises GenotypeError where there is none, where there are different ones, and for what is no literal.
    """
    calls = _calls(text)
    found = [_call_fields(call) for call, _ in calls]
    if any(fields != found[0] for fields in found[1:]):
        raise GenotypeError(
            f"{len(found)} genotypes, of which not all are the same, stand in this text: give the one that is meant, "
            "for example the last line of a log alone"
        )
    _say_what_is_passed_over(calls[-1][1])
    return found[-1]


def read_dictionary(text: str) -> Any:
    """What a dictionary written by Python, with single quotes, holds. Raises GenotypeError."""
    return _value(_parsed(text))


def plain_cells(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of the paper's cells alone, without the scores that some programs add to each operation.

    Raises GenotypeError for a further field, but for SETN's authors' own where they are None.
    """
    given = {name: value for name, value in fields.items() if name not in EXTENSIONS}
    for name in EXTENSIONS:
        if fields.get(name) is not None:
            raise GenotypeError(
                f"{name}: {fields[name]!r:.80} given; such connections between cells are not of this space: None is "
                "allowed, or leave it out"
            )
    if set(given) != set(FIELDS):
        raise GenotypeError(f"the fields {', '.join(FIELDS)} are needed, each once; {sorted(given)} given")
    scored = 0
    for name in ("normal", "reduce"):
        given[name], count = _without_scores(given[name])
        scored += count
    if scored:
        warnings.warn(f"the scores of {scored} operations of the genotype are passed over", stacklevel=2)
    return given


def refuse_201(text: str) -> None:
    """Raises GenotypeError for a cell of NAS-Bench-201, where the paper's cells are read."""
    if looks_like_201(text):
        raise GenotypeError(
            f"this is a cell of NAS-Bench-201 ({EDGES}), another search space; a normal and a reduction cell are "
            f"needed here: {CELLS}"
        )


def refuse_cells(text: str) -> None:
    """Raises GenotypeError for the paper's cells, where a cell of NAS-Bench-201 is read."""
    if holds_a_call(text) or all(name in text for name in FIELDS):
        raise GenotypeError(
            "this is a genotype with a normal and a reduction cell, of another search space; a cell of NAS-Bench-201 "
            f"is needed here: {EDGES}"
        )


def _calls(text: str) -> list[tuple[str, str]]:
    """Every call Genotype(...) in the text, each with what stands around it on its lines and on others."""
    found, end = [], 0
    while match := _CALL.search(text, end):
        start, end = match.start(), _end(text, match.end())
        before = text[text.rfind("\n", 0, start) + 1 : start]
        behind = text[end:].partition("\n")[0]
        if not _NOTHING_BEHIND.fullmatch(behind):
            raise GenotypeError(
                f"this is not a DARTS genotype: {behind.strip()[:40]!r} stands behind its last bracket; end the text "
                "there"
            )
        around = "" if _NAME_BEFORE.fullmatch(before.strip()) else before
        lines_around = (text[: start - len(before)] + text[end + len(behind) :]).strip()
        found.append((text[start:end], around.strip() or lines_around))
    if not found:
        raise GenotypeError(f"this is not a DARTS genotype: the text must be one call {CELLS}")
    return found


def _end(text: str, start: int) -> int:
    """Where the call ends whose opening bracket is just before `start`; brackets in quotes do not count."""
    depth, quote, position = 1, "", start
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    raise GenotypeError("this is not a DARTS genotype: its last bracket is missing, so the text is cut off")


def _call_fields(text: str) -> dict[str, Any]:
    call = _parsed(text)
    if not isinstance(call, ast.Call):
        raise GenotypeError("this is not a DARTS genotype: the text must be one call Genotype(normal=..., ...)")
    if call.args:
        raise GenotypeError(f"a DARTS genotype names its fields: {', '.join(FIELDS)}; one without a name given")
    return once([(str(word.arg), _value(word.value)) for word in call.keywords])


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise GenotypeError(f"this is not a DARTS genotype: {error}") from error


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of fields that each occur once. Raises GenotypeError for one that occurs twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise GenotypeError(f"each field may be given once; {', '.join(names)} given")
    return dict(pairs)


def _value(node: ast.expr) -> Any:
    try:
        return _literal(node)
    except RecursionError as error:
        raise GenotypeError("this is not a DARTS genotype: it is nested too deeply") from error


def _literal(node: ast.expr) -> Any:
    """The value of a literal, or of what numpy, torch and Python print around literals; nothing is evaluated."""
    if isinstance(node, ast.Call) and not node.keywords:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        arguments = [_literal(argument) for argument in node.args]
        if name == "range" and 1 <= len(arguments) <= 3 and all(type(a) is int for a in arguments):
            if any(abs(argument) > 1000 for argument in arguments):  # before a list of that length is made
                raise GenotypeError(f"range{tuple(arguments)!s:.80}: a cell has fewer than 1000 states")
            return list(range(*arguments)) if 0 not in arguments[2:] else []
        if name in ("list", "tuple", "array") and len(arguments) == 1 and isinstance(arguments[0], list):
            return arguments[0]
        if NUMBERS.fullmatch(name) and len(arguments) == 1 and isinstance(arguments[0], int | float | str):
            return arguments[0]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        keys = [str(key.value) for key in node.keys if isinstance(key, ast.Constant)]
        return once(list(zip(keys, map(_literal, node.values), strict=True)))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise GenotypeError(f"{ast.unparse(node)[:80]}: only names in quotes, numbers, lists and ranges") from error


def _without_scores(cell: Any) -> tuple[Any, int]:
    """The cell with (operation, state) for each (operation, state, score), and how many these are."""
    if not isinstance(cell, list | tuple):
        return cell, 0
    if len(cell) == 3 and isinstance(cell[0], str) and type(cell[1]) is int and isinstance(cell[2], int | float):
        return [cell[0], cell[1]], 1
    parts = [_without_scores(part) for part in cell]
    return [part for part, _ in parts], sum(count for _, count in parts)


def _say_what_is_passed_over(around: str) -> None:
    if around:
        first = around.splitlines()[0]
        warnings.warn(
            f"the genotype is read, and what stands around it in the text is passed over ({first[:60]!r})", stacklevel=2
        )
