"""Algorithm 1, second half: draw T candidates, score each with the template's weights, select one."""

import io
import json
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from setn_lab.compute.device import explain_out_of_memory, ready_device
from setn_lab.compute.spread import in_order, spread
from setn_lab.compute.workers import HERE, Workers
from setn_lab.config import completed
from setn_lab.data.batches import scoring_batches
from setn_lab.runs.progress import Observer, Progress, of_part
from setn_lab.runs.run import Run
from setn_lab.search.caps import OBEYED, Tally, obeyed
from setn_lab.search.config import BY_SCORES, WINNER, CandidateSource, SearchConfig
from setn_lab.search.drawn import Candidate, DrawnArchitecture, distinct_draws
from setn_lab.search.finalists import train_finalists
from setn_lab.search.journals import known_scores, scored_before, sign_older_lines, to_record
from setn_lab.search.leaders import best, leaders, select
from setn_lab.search.racing import race
from setn_lab.search.scoring import batch_scores, evaluate
from setn_lab.search.setup import Search
from setn_lab.search.sources import Source
from setn_lab.search.training import SearchError, load_trained
from setn_lab.search.verdict import FINALISTS, LEADERS
from setn_lab.space.setn import Quadruples

DRAWN = "sizes.json", "cells.svg", "candidates.svg", "front.svg", "costs.csv"  # by the report
MADE_OF_WINNER = WINNER, LEADERS, OBEYED, FINALISTS, *DRAWN
TOGETHER = 32  # candidates that are scored side by side, batch by batch, since they share their first operations


def search_candidates(search: Search, run: Run, observe: Observer = lambda progress: None) -> Candidate:
    """The second half of Algorithm 1 as the config says: score T candidates, select one, write genotype.json.

    Scores `baseline_candidates` uniform ones with the same template too, into the journal `baseline`. A folder that
    held candidates of another T, source or way to score then holds these, and its config.json says so. Raises what
    `score` raises. With `finalists` the best of these are trained from scratch, and the winner is the best of them, see
    `finalists.train_finalists`.
    """
    config = search.config
    search.check_run(run)
    load_trained(search, run)
    sign_older_lines(search, run)
    racing = config.scoring == "racing"
    made_from = search.stages.candidates
    if not _is_of(search, run):
        _begin(search, run)
    tallies = {"candidates": Tally(), "baseline": Tally()}
    if config.baseline_candidates:
        told = of_part(observe, "uniform candidates")
        count = config.baseline_candidates
        score(search, run, "uniform", count, "baseline", told, tally=tallies["baseline"])
    if racing:
        scored = score_by_racing(
            search, run, config.candidate_source, config.candidates, observe, tallies["candidates"]
        )
    else:
        source, count = config.candidate_source, config.candidates
        scored = score(search, run, source, count, "candidates", observe, tally=tallies["candidates"])
    complete = [candidate for candidate in scored if candidate.images == len(search.valid)]
    chosen = select(complete, config.select_by)
    if run.made_from(LEADERS) != made_from or not (run.folder / LEADERS).exists():
        run.write(LEADERS, json.dumps(leaders(search, complete), indent=1) + "\n")
        run.note(LEADERS, made_from)
    if config.finalists:
        chosen = train_finalists(search, run, best(complete, config.finalists, config.select_by), observe)
    if search.caps is not None and not (run.made_from(WINNER) == made_from and (run.folder / OBEYED).exists()):
        found = obeyed(search.caps, search.kit, chosen.genotype, search.device, tallies)
        run.write(OBEYED, json.dumps(found, indent=1) + "\n")
    run.write(WINNER, chosen.genotype.to_json() + "\n")
    run.note(WINNER, made_from)
    return chosen


def _is_of(search: Search, run: Run) -> bool:
    """Whether the folder holds the winner of this search's candidates, and its config.json says so."""
    stored = completed(SearchConfig, json.loads((run.folder / "config.json").read_text(encoding="utf-8")))
    same = all(stored.get(name) == getattr(search.config, name) for name in SearchConfig.redone)
    return same and run.made_from(WINNER) == search.stages.candidates and (run.folder / WINNER).exists()


def _begin(search: Search, run: Run) -> None:
    """Put away what other candidates left, so that nothing of it is taken for these, should the scoring be killed."""
    config = search.config
    run.note(WINNER, None)
    for name in MADE_OF_WINNER:
        (run.folder / name).unlink(missing_ok=True)
    of = search.stages.candidates if config.scoring == "racing" else search.stages.scores
    scored_before(search, run, "candidates", config.candidate_source, config.candidates, of)
    if config.baseline_candidates:
        scored_before(search, run, "baseline", "uniform", config.baseline_candidates, search.stages.scores)
    else:
        run.put_aside("baseline")
    run.replace_config(config)


def score(
    search: Search,
    run: Run,
    source: Source,
    count: int,
    journal: str = "candidates",
    observe: Observer = lambda progress: None,
    workers: Workers = HERE,
    tally: Tally | None = None,
) -> list[Candidate]:
    """Draw `count` architectures and score the distinct ones, each once on all of D_val, spread over `workers`.

    Appends one line per candidate to `journal`, a group of `TOGETHER` at a time; those that are there already are not
    scored again. A journal of other candidates, of another T for example, is put aside, and what was scored by the same
    template in the same way is taken from it and from all journals of this run and of the search's own. Where a source
    draws by scores, part after part, a line's `draws` are those so far until all are drawn. tally: as for
    `sources.draw`. Returns all in the order of their first draw. Raises ShortMemoryError, CapsError, and SearchError
    where the training is not over.
    """
    load_trained(search, run)
    made_from = search.stages.scores
    done = scored_before(search, run, journal, source, count, made_from)
    known = known_scores(search, run, made_from) | {one.genotype: (one.loss, one.accuracy) for one in done}
    entries: list[DrawnArchitecture] = []
    computed, seen = 0, len(done)
    for entries in distinct_draws(search, source, count, known, tally):
        missing = sum(entry.genotype not in known for entry in entries[len(done) :])
        to_come = count - sum(entry.draws for entry in entries) if source in BY_SCORES else 0
        to_compute = computed + missing + to_come
        for group, new in _scored(search, entries[len(done) :], known, workers):
            computed += new
            scored = [entry.scored(*known[entry.genotype], len(search.valid)) for entry in group]
            for candidate in scored:
                run.append(journal, to_record(search, candidate, made_from))
            for candidate in scored:
                done.append(candidate)
                record = to_record(search, candidate, made_from)
                work = computed, to_compute
                observe(Progress("score", len(done), len(entries) + to_come, record, work=work))
    if seen == len(done):
        observe(Progress("score", seen, seen))
    complete = [replace(candidate, draws=entry.draws) for candidate, entry in zip(done, entries, strict=True)]
    if complete != done:  # some were drawn again in a later part
        records = [to_record(search, candidate, made_from) for candidate in complete]
        run.write(f"{journal}.jsonl", "".join(json.dumps(record) + "\n" for record in records))
        observe(Progress("score", len(complete), len(complete)))
    return complete


def _scored(
    search: Search, entries: list[DrawnArchitecture], known: dict[Any, tuple[float, float]], workers: Workers
) -> Iterator[tuple[list[DrawnArchitecture], int]]:
    """The entries in groups of `TOGETHER`, in order, each once `known` holds its scores: the missing ones are added.

    Beside each group the number of those that were missing.

    A single group that misses scores is scored in this process, with a worker's threads: to start workers for each
    brood of evolution would take longer than what they do.
    """
    groups = [entries[start : start + TOGETHER] for start in range(0, len(entries), TOGETHER)]
    missing = [[entry for entry in group if entry.genotype not in known] for group in groups]
    tasks = [[entry.architecture for entry in group] for group in missing if group]
    if len(tasks) == 1:
        workers = replace(HERE, threads=workers.threads)
    shared = search if workers.here else search.to(torch.device("cpu"))
    with (
        explain_out_of_memory("scoring_batch_size"),
        closing(spread(workers, _arrive, shared, evaluate, tasks)) as results,
    ):
        ordered = in_order(results)
        for group, new in zip(groups, missing, strict=True):
            if new:
                known |= {entry.genotype: score for entry, score in zip(new, next(ordered), strict=True)}
            yield group, len(new)


def _arrive(search: Search) -> Search:
    """The search on the device of the worker that it was sent to."""
    config = search.config
    return search.to(ready_device(config.device, config.precision, config.deterministic))


def score_by_racing(
    search: Search,
    run: Run,
    source: CandidateSource,
    count: int,
    observe: Observer = lambda progress: None,
    tally: Tally | None = None,
) -> list[Candidate]:
    """Draw `count` architectures and race the distinct ones for the best (see `racing.race`).

    Those that drop out keep the scores of the images they were raced on; `images` says how many. What was scored is
    kept batch by batch in the run folder's files race-NNN.npz, so that an interrupted race goes on. Returns all in the
    order of their first draw, as the journal `candidates` has them. Raises what `score` raises, and ValueError for a
    source that draws by scores.
    """
    if source in BY_SCORES:
        raise ValueError(f"source: {source!r} given; it needs every score, which a race does not give")
    load_trained(search, run)
    entries = next(distinct_draws(search, source, count, {}, tally))
    made_from = search.stages.candidates  # what is left of a race depends on all of it
    done = scored_before(search, run, "candidates", source, count, made_from)
    if len(done) == len(entries):
        observe(Progress("score", len(done), len(done)))
        return done
    batches = scoring_batches(len(search.valid), search.config.scoring_batch_size)
    sums = np.zeros((2, len(entries)))  # of losses and of correct answers

    def run_batch(running: NDArray[np.int64], batch: int) -> NDArray[np.float32]:
        scores = _race_batch(search, run, [entries[racer].architecture for racer in running], batch, batches[batch])
        sums[:, running] += scores.sum(axis=-1, dtype=np.float64)
        observe(Progress("score", len(entries) - len(running), len(entries)))
        return scores[0] if search.config.select_by == "loss" else -scores[1]

    try:
        result = race(len(entries), [len(batch) for batch in batches], run_batch)
    except FloatingPointError as error:
        raise SearchError(f"no candidate has a finite {search.config.select_by}: {error}") from error
    for index in range(len(done), len(entries)):
        images = int(result.images[index])
        loss, accuracy = sums[:, index] / images
        done.append(entries[index].scored(float(loss), float(accuracy), images))
        record = to_record(search, done[-1], made_from)
        run.append("candidates", record)
        observe(Progress("score", len(entries), len(entries), record))
    return done


def _race_batch(
    search: Search, run: Run, architectures: list[Quadruples], batch: int, indices: Tensor
) -> NDArray[np.float32]:
    """Losses and correct answers (2, racers, images) on one batch, from the run folder if they lie there."""
    kept, made_from = run.folder / f"race-{batch:03}.npz", search.stages.scores
    missing_or_damaged = (OSError, EOFError, KeyError, ValueError, BadZipFile)
    with suppress(*missing_or_damaged), kept.open("rb") as file, np.load(file) as stored:
        if str(stored["of"]) == made_from and np.array_equal(stored["architectures"], architectures):
            return stored["scores"]
    with explain_out_of_memory("scoring_batch_size"):
        scores = batch_scores(search, architectures, indices).cpu().numpy()
    buffer = io.BytesIO()
    np.savez(buffer, architectures=architectures, scores=scores, of=np.array(made_from))
    run.write(kept.name, buffer.getvalue())
    return scores
