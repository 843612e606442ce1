"""Algorithm 1, second half: draw T candidates, score each with the template's weights, select one."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from setn_lab.compute.device import explain_out_of_memory, ready_device
from setn_lab.compute.spread import in_order, spread
from setn_lab.compute.workers import HERE, Workers
from setn_lab.data.batches import batch_indices, normalize_images, scoring_batches
from setn_lab.runs.progress import Observer, Progress, of_part
from setn_lab.runs.run import Run, RunError, read_journal
from setn_lab.search.config import BY_SCORES, CandidateSource, SearchConfig
from setn_lab.search.racing import race
from setn_lab.search.setup import Search
from setn_lab.search.sources import Source, parts
from setn_lab.search.stages import stages
from setn_lab.search.steps import one_shot
from setn_lab.search.training import SearchError, load_trained
from setn_lab.search.verdict import LEADERS
from setn_lab.space.setn import Quadruples
from setn_lab.template.cell import Cache
from setn_lab.template.norm import BatchNorm

WINNER = "genotype.json"
MADE_OF_WINNER = WINNER, LEADERS, "sizes.json", "cells.svg", "candidates.svg"
COMPARED = 10  # of the best candidates, which are compared image by image
TOGETHER = 32  # candidates that are scored side by side, batch by batch, since they share their first operations
RECALIBRATION_BATCHES = 8  # of D_train, over which `batch_norm = "recalibrated"` averages the statistics


@dataclass(frozen=True)
class Candidate:
    """A scored architecture: its one-shot loss and accuracy over `images` images of D_val.

    genotype: a `Genotype`, or what the search's space has in its place. draws: how often it was drawn among the T.
    log_probability: under the evaluator.
    """

    genotype: Any
    loss: float
    accuracy: float
    images: int
    draws: int
    log_probability: float


def score(
    search: Search,
    run: Run,
    source: Source,
    count: int,
    journal: str = "candidates",
    observe: Observer = lambda progress: None,
    workers: Workers = HERE,
) -> list[Candidate]:
    """Draw `count` architectures and score the distinct ones, each once on all of D_val, spread over `workers`.

    Appends one line per candidate to `journal`, a group of `TOGETHER` at a time; those that are there already are not
    scored again. A journal of other candidates, of another T for example, is put aside, and what was scored by the same
    template in the same way is taken from it and from all journals of this run and of the search's own. Where a source
    draws by scores, part after part, a line's `draws` are those so far until all are drawn. Returns all in the order of
    their first draw. Raises ShortMemoryError, and SearchError where the training is not over.
    """
    load_trained(search, run)
    made_from = search.stages.scores
    done = _done(search, run, journal, source, count, made_from)
    known = _known(search, run, made_from) | {one.genotype: (one.loss, one.accuracy) for one in done}
    entries: list[_Entry] = []
    computed, seen = 0, len(done)
    for entries in _entries(search, source, count, known):
        missing = sum(entry.genotype not in known for entry in entries[len(done) :])
        to_come = count - sum(entry.draws for entry in entries) if source in BY_SCORES else 0
        to_compute = computed + missing + to_come
        for group, new in _scored(search, entries[len(done) :], known, workers):
            computed += new
            scored = [entry.scored(*known[entry.genotype], len(search.valid)) for entry in group]
            for candidate in scored:
                run.append(journal, _to_record(search, candidate, made_from))
            for candidate in scored:
                done.append(candidate)
                record = _to_record(search, candidate, made_from)
                work = computed, to_compute
                observe(Progress("score", len(done), len(entries) + to_come, record, work=work))
    if seen == len(done):
        observe(Progress("score", seen, seen))
    complete = [replace(candidate, draws=entry.draws) for candidate, entry in zip(done, entries, strict=True)]
    if complete != done:  # some were drawn again in a later part
        records = [_to_record(search, candidate, made_from) for candidate in complete]
        run.write(f"{journal}.jsonl", "".join(json.dumps(record) + "\n" for record in records))
        observe(Progress("score", len(complete), len(complete)))
    return complete


def _scored(
    search: Search, entries: list["_Entry"], known: dict[Any, tuple[float, float]], workers: Workers
) -> Iterator[tuple[list["_Entry"], int]]:
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
    search: Search, run: Run, source: CandidateSource, count: int, observe: Observer = lambda progress: None
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
    entries = next(_entries(search, source, count, {}))
    made_from = search.stages.candidates  # what is left of a race depends on all of it
    done = _done(search, run, "candidates", source, count, made_from)
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
        record = _to_record(search, done[-1], made_from)
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


@dataclass(frozen=True)
class _Entry:
    """A drawn architecture that is to be scored."""

    architecture: Quadruples
    genotype: Any
    draws: int
    log_probability: float

    def scored(self, loss: float, accuracy: float, images: int) -> Candidate:
        return Candidate(self.genotype, loss, accuracy, images, self.draws, self.log_probability)

    def is_of(self, candidate: Candidate) -> bool:
        """Whether the candidate is this one, under the same evaluator up to another processor's last bits."""
        near = math.isclose(candidate.log_probability, self.log_probability, rel_tol=1e-4, abs_tol=1e-4)
        return candidate.genotype == self.genotype and near


def _entries(
    search: Search, source: Source, count: int, known: Mapping[Any, tuple[float, float]]
) -> Iterator[list[_Entry]]:
    """The distinct ones among `count` drawn architectures, in the order of their first draw: after each part, all yet.

    `known` holds their losses and accuracies when the next part is asked for.
    """
    entries: dict[tuple[int, ...], _Entry] = {}
    distributions, drawing = search.evaluator.distributions(), parts(search, source, count)
    drawn = next(drawing)
    while True:
        architectures = search.space.canonical(drawn)
        keys = [tuple(architecture.ravel().tolist()) for architecture in architectures]
        new = {key: architecture for key, architecture in zip(keys, architectures, strict=True) if key not in entries}
        if new:
            log_probability = distributions.log_probability(np.stack(list(new.values())))
            for (key, architecture), probability in zip(new.items(), log_probability, strict=True):
                entries[key] = _Entry(architecture, search.space.genotype(architecture), 0, float(probability))
        for key in keys:
            entries[key] = replace(entries[key], draws=entries[key].draws + 1)
        yield list(entries.values())
        try:
            drawn = drawing.send([known[entries[key].genotype] for key in keys])
        except StopIteration:
            return


def _done(search: Search, run: Run, journal: str, source: Source, count: int, made_from: str) -> list[Candidate]:
    """The candidates that the journal has already, the first of those drawn; a journal of others is put aside.

    Raises RunError for lines that are no candidates of this space.
    """
    _sign(search, run)
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
    entries: list[_Entry] = []
    for entries in _entries(search, source, count, known):
        at_first += [entry.draws for entry in entries[len(at_first) :]]
        if any(entry.genotype not in known for entry in entries):  # the part that was being scored
            break
    return len(done) <= len(entries) and all(
        entry.is_of(candidate) and least <= candidate.draws <= entry.draws
        for candidate, entry, least in zip(done, entries, at_first, strict=False)
    )


def _known(search: Search, run: Run, made_from: str) -> dict[Any, tuple[float, float]]:
    """Loss and accuracy of what was scored on all of D_val by the same template in the same way, by genotype."""
    folders = {run.folder, search.held.folder or run.folder}
    known = {}
    for path in sorted(path for folder in folders for path in folder.glob("*.jsonl")):
        records = [record for record in read_journal(path) if record.get("of") == made_from]
        for candidate in _read(search, path, records):
            known[candidate.genotype] = candidate.loss, candidate.accuracy
    return known


def _sign(search: Search, run: Run) -> None:
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


def _read(search: Search, path: Path, records: list[dict[str, Any]]) -> list[Candidate]:
    try:
        return [_from_record(search, record) for record in records]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: holds lines that are no candidates of this search ({error!r}): it was edited or belongs to "
            "another run; move it away to score again"
        ) from error


@torch.no_grad()
def evaluate(search: Search, architectures: Sequence[Quadruples]) -> list[tuple[float, float]]:
    """The one-shot loss and accuracy of each architecture (2, B, 4) on all of D_val, without augmentation.

    Batches are the same for every candidate and of nearly equal size, since batch statistics depend on both.
    """
    batches = scoring_batches(len(search.valid), search.config.scoring_batch_size)
    totals = []
    for group in _groups(search, architectures):
        with _statistics(search, group):
            totals.append(torch.stack([batch_scores(search, group, indices).sum(2) for indices in batches]).sum(0))
    means = torch.cat(totals, dim=1) / len(search.valid)
    return [(loss, accuracy) for loss, accuracy in means.T.tolist()]  # the only wait for the device


@torch.no_grad()
def _image_scores(search: Search, architectures: Sequence[Quadruples]) -> NDArray[np.float64]:
    """What `evaluate` takes the means of: (2, architectures, images of D_val)."""
    batches = scoring_batches(len(search.valid), search.config.scoring_batch_size)
    parts = []
    for group in _groups(search, architectures):
        with _statistics(search, group):
            parts.append(torch.cat([batch_scores(search, group, indices) for indices in batches], dim=2))
    return torch.cat(parts, dim=1).cpu().numpy().astype(np.float64)


def _groups(search: Search, architectures: Sequence[Quadruples]) -> list[Sequence[Quadruples]]:
    """Those that are scored side by side: each alone where the statistics are its own."""
    if search.config.batch_norm == "recalibrated":
        return [[architecture] for architecture in architectures]
    return [architectures]


@torch.no_grad()
def batch_scores(search: Search, architectures: Sequence[Quadruples], indices: Tensor) -> Tensor:
    """The loss and the correctness (0 or 1) of each image of D_val at `indices`: (2, architectures, images)."""
    chosen = search.valid.take(indices)
    images = normalize_images(chosen.images, search.normalization)
    scores: list[Tensor] = []
    cache: Cache = {}
    for architecture in architectures:
        logits = one_shot(search, images, search.template.per_cell(architecture), cache)
        loss = F.cross_entropy(logits, chosen.labels, reduction="none")
        scores.append(torch.stack([loss, (logits.argmax(1) == chosen.labels).float()]))
    return torch.stack(scores, dim=1)


def select(candidates: list[Candidate], by: Literal["loss", "accuracy"]) -> Candidate:
    """The candidate of the lowest loss (Algorithm 1) or highest accuracy (section 5.3); the first among equals.

    Raises SearchError where none has a finite loss; the others are left out.
    """
    candidates = [candidate for candidate in candidates if math.isfinite(candidate.loss)]
    if not candidates:
        raise SearchError("no candidate has a finite loss: the template has diverged; lower weight_lr and search again")
    if by == "loss":
        return min(candidates, key=lambda candidate: candidate.loss)
    return max(candidates, key=lambda candidate: candidate.accuracy)


def leaders(search: Search, candidates: list[Candidate]) -> list[dict[str, Any]]:
    """The best `COMPARED` candidates, the selected one first, each scored once more image by image.

    loss, accuracy: how far it is above the winner, the mean over the same images, except for the winner, where they are
    its own; loss_error, accuracy_error: the standard error of that mean. Batch statistics join the images of a batch,
    which the errors leave out of account.
    """
    best: list[Candidate] = []
    for _ in range(min(COMPARED, sum(math.isfinite(candidate.loss) for candidate in candidates))):
        best.append(select([candidate for candidate in candidates if candidate not in best], search.config.select_by))
    scores = _image_scores(search, [search.space.encode(candidate.genotype) for candidate in best])
    gaps = scores - scores[:, :1]
    errors = gaps.std(axis=2, ddof=1) / math.sqrt(gaps.shape[2]) if gaps.shape[2] > 1 else 0 * gaps[:, :, 0]
    means = gaps.mean(axis=2)
    means[:, 0] = scores[:, 0].mean(axis=1)
    return [
        {
            "genotype": search.space.write(candidate.genotype),
            "images": gaps.shape[2],
            **{"loss": loss, "accuracy": accuracy, "loss_error": loss_error, "accuracy_error": accuracy_error},
        }
        for candidate, (loss, accuracy), (loss_error, accuracy_error) in zip(
            best, means.T.tolist(), errors.T.tolist(), strict=True
        )
    ]


def search_candidates(search: Search, run: Run, observe: Observer = lambda progress: None) -> Candidate:
    """The second half of Algorithm 1 as the config says: score T candidates, select one, write genotype.json.

    Scores `baseline_candidates` uniform ones with the same template too, into the journal `baseline`. A folder that
    held candidates of another T, source or way to score then holds these, and its config.json says so. Raises what
    `score` raises.
    """
    config = search.config
    search.check_run(run)
    load_trained(search, run)
    _sign(search, run)
    racing = config.scoring == "racing"
    made_from = search.stages.candidates
    if not _is_of(search, run):  # nothing of other candidates may be taken for these, should this be killed
        run.note(WINNER, None)
        for name in MADE_OF_WINNER:
            (run.folder / name).unlink(missing_ok=True)
        of = made_from if racing else search.stages.scores
        _done(search, run, "candidates", config.candidate_source, config.candidates, of)
        if config.baseline_candidates:
            _done(search, run, "baseline", "uniform", config.baseline_candidates, search.stages.scores)
        else:
            run.put_aside("baseline")
        run.replace_config(config)
    if config.baseline_candidates:
        score(search, run, "uniform", config.baseline_candidates, "baseline", of_part(observe, "uniform candidates"))
    if racing:
        scored = score_by_racing(search, run, config.candidate_source, config.candidates, observe)
    else:
        scored = score(search, run, config.candidate_source, config.candidates, "candidates", observe)
    complete = [candidate for candidate in scored if candidate.images == len(search.valid)]
    chosen = select(complete, config.select_by)
    if run.made_from(LEADERS) != made_from or not (run.folder / LEADERS).exists():
        run.write(LEADERS, json.dumps(leaders(search, complete), indent=1) + "\n")
        run.note(LEADERS, made_from)
    run.write(WINNER, chosen.genotype.to_json() + "\n")
    run.note(WINNER, made_from)
    return chosen


def _is_of(search: Search, run: Run) -> bool:
    """Whether the folder holds the winner of this search's candidates, and its config.json says so."""
    stored = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    same = all(stored.get(name) == getattr(search.config, name) for name in SearchConfig.redone)
    return same and run.made_from(WINNER) == search.stages.candidates and (run.folder / WINNER).exists()


@contextmanager
def _statistics(search: Search, architectures: Sequence[Quadruples]) -> Iterator[None]:
    """Normalize by each batch, or (`recalibrated`) by averages over batches of D_train for a single architecture."""
    if search.config.batch_norm == "batch":
        yield
        return
    (architecture,) = architectures
    norms = [module for module in search.scored_template.modules() if isinstance(module, BatchNorm)]
    try:
        for norm in norms:
            norm.collect(search.device)
        for step in range(RECALIBRATION_BATCHES):
            indices = batch_indices(
                len(search.train),
                min(search.config.scoring_batch_size, len(search.train)),
                search.config.seed,
                "recalibration order",
                step,
            )
            images = normalize_images(search.train.take(indices).images, search.normalization)
            one_shot(search, images, search.template.per_cell(architecture))
        search.scored_template.eval()
        yield
    finally:
        search.scored_template.train()
        for norm in norms:
            norm.forget()


def _to_record(search: Search, candidate: Candidate, made_from: str) -> dict[str, Any]:
    record = {name: getattr(candidate, name) for name in ("loss", "accuracy", "images", "draws", "log_probability")}
    return {"genotype": search.space.write(candidate.genotype), **record, "of": made_from}


def _from_record(search: Search, record: dict[str, Any]) -> Candidate:
    values = {name: value for name, value in record.items() if name != "of"}
    return Candidate(**{**values, "genotype": search.space.read(record["genotype"])})
