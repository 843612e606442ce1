"""Journals of scores: a line a candidate, and what of it is taken where candidates are scored again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from setn_lab.runs.run import Run, RunError, read_journal
from setn_lab.search.config import SearchConfig
from setn_lab.search.drawn import Candidate, DrawnArchitecture, distinct_draws
from setn_lab.search.setup import Search
from setn_lab.search.sources import Source
from setn_lab.search.stages import stages


def to_record(search: Search, candidate: Candidate, made_from: str) -> dict[str, Any]:
    """The candidate's line, with the digest of what its scores were made from."""
    record = {name: getattr(candidate, name) for name in ("loss", "accuracy", "images", "draws", "log_probability")}
    return {"genotype": search.space.write(candidate.genotype), **record, "of": made_from}


def from_record(search: Search, record: dict[str, Any]) -> Candidate:
    """The candidate of a line. Raises KeyError, TypeError and ValueError for a line that is none."""
    values = {name: value for name, value in record.items() if name != "of"}
    return Candidate(**{**values, "genotype": search.space.read(record["genotype"])})


def _read(search: Search, path: Path, records: list[dict[str, Any]]) -> list[Candidate]:
    try:
        return [from_record(search, record) for record in records]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: holds lines that are no candidates of this search ({error!r}): it was edited or belongs to "
            "another run; move it away to score again"
        ) from error


def scored_before(
    search: Search, run: Run, journal: str, source: Source, count: int, made_from: str
) -> list[Candidate]:
    """The candidates that the journal has already, the first of those drawn; a journal of others is put aside.

    Raises RunError for lines that are no candidates of this space.
    """
    sign_older_lines(search, run)
    records = run.read(journal)
    done = _read(search, run.folder / f"{journal}.jsonl", records)
    ours = all(record.get("of", made_from) == made_from for record in records)
    if ours and _drawn_alike(search, source, count, done):
        return done
    run.put_aside(journal)
    return []


def _drawn_alike(search: Search, source: Source, count: int, done: list[Candidate]) -> bool:
    """Whether these are the first that the source draws, given their scores.

    The draws of each are those up to the part that it was first drawn in, or some or all of the later ones too.
    """
    known = {candidate.genotype: (candidate.loss, candidate.accuracy) for candidate in done}
    at_first: list[int] = []
    entries: list[DrawnArchitecture] = []
    for entries in distinct_draws(search, source, count, known):
        at_first += [entry.draws for entry in entries[len(at_first) :]]
        if any(entry.genotype not in known for entry in entries):  # the part that was being scored
            break
    return len(done) <= len(entries) and all(
        entry.is_of(candidate) and least <= candidate.draws <= entry.draws
        for candidate, entry, least in zip(done, entries, at_first, strict=False)
    )


def known_scores(search: Search, run: Run, made_from: str) -> dict[Any, tuple[float, float]]:
    """Loss and accuracy of what was scored on all of D_val by the same template in the same way, by genotype."""
    folders = {run.folder, search.held.folder or run.folder}
    known = {}
    for path in sorted(path for folder in folders for path in folder.glob("*.jsonl")):
        records = [record for record in read_journal(path) if record.get("of") == made_from]
        for candidate in _read(search, path, records):
            known[candidate.genotype] = candidate.loss, candidate.accuracy
    return known


def sign_older_lines(search: Search, run: Run) -> None:
    """Give the lines that an older version wrote the digest of what they were made from, by the folder's config."""
    journals = {journal: run.read(journal) for journal in ("candidates", "baseline", "argmax")}
    if all("of" in record for records in journals.values() for record in records):
        return
    stored = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    if "candidate_source" not in stored:
        return  # of a study, whose own config says how its candidates are scored
    names = {name: stored.get(name, getattr(SearchConfig, name)) for name in SearchConfig.redone}
    made_from = stages(replace(search.config, **names))
    for journal in (name for name, records in journals.items() if records):
        raced = journal == "candidates" and names["scoring"] == "racing"
        of = made_from.candidates if raced else made_from.scores
        run.write(f"{journal}.jsonl", "".join(json.dumps({"of": of, **one}) + "\n" for one in journals[journal]))
