"""Drawing, scoring and selecting candidates, against slow references and with the memory running out."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from references import TINY, StopError, randomized

from setn_lab.compute.device import ShortMemoryError
from setn_lab.compute.streams import generator
from setn_lab.config import ConfigError
from setn_lab.data.batches import normalize_images, scoring_batches
from setn_lab.runs.errors import RunError
from setn_lab.runs.progress import Progress
from setn_lab.runs.run import Run
from setn_lab.search import candidates as module
from setn_lab.search.candidates import score, score_by_racing, search_candidates
from setn_lab.search.config import SearchConfig
from setn_lab.search.drawn import Candidate
from setn_lab.search.journals import from_record
from setn_lab.search.leaders import select
from setn_lab.search.scoring import batch_scores, evaluate, one_shot
from setn_lab.search.setup import prepare_search
from setn_lab.search.sources import draw
from setn_lab.search.training import SearchError
from setn_lab.space.genotype import Genotype
from setn_lab.template.norm import BatchNorm

SMALL = {**TINY, "nodes": 1, "limit_train": 64, "limit_valid": 40, "scoring_batch_size": 16, "epochs": 1}


def search_of(scale=1.0, **changes):
    """A search whose evaluator prefers some architectures, so that some are drawn often."""
    search = prepare_search(SearchConfig(**{**SMALL, **changes}))
    randomized(search.evaluator, 0, scale)
    search.held.epochs = search.config.epochs  # scoring asks for a finished training
    return search


@pytest.fixture
def run(tmp_path):
    """A folder for journals; scoring does not read its config."""
    with Run.open(SearchConfig(**SMALL, run_dir=str(tmp_path / "run")), "search") as opened:
        yield opened


@pytest.fixture
def fake(monkeypatch):
    """Scores made from the architecture alone; the list of those that were asked for."""
    asked = []

    def cheap(search, architectures):
        asked.extend(architecture.tolist() for architecture in architectures)
        return [(float(architecture.sum()) + 0.5, 0.25) for architecture in architectures]

    monkeypatch.setattr(module, "evaluate", cheap)
    return asked


def test_draw_is_a_function_of_seed_and_source():
    search = search_of(nodes=4)
    again = search_of(nodes=4)
    drawn = {}
    for source in ("evaluator", "uniform"):
        torch.manual_seed(0)
        drawn[source] = draw(search, source, 20)
        np.random.default_rng(0).random()
        torch.manual_seed(1)
        assert drawn[source].shape == (20, 2, 4, 4)
        assert np.array_equal(drawn[source], draw(again, source, 20))
        assert np.array_equal(drawn[source], search.space.canonical(drawn[source]))
        assert not np.array_equal(drawn[source], draw(search_of(nodes=4, seed=1), source, 20))
    assert not np.array_equal(drawn["evaluator"], drawn["uniform"])
    best = search.space.canonical(search.evaluator.distributions().argmax())
    assert np.array_equal(draw(search, "argmax", 20), best[None])


def test_evaluator_draws_follow_the_evaluator_and_uniform_ones_do_not():
    search = search_of(scale=2.0, nodes=2)
    log = search.evaluator.distributions().log_probability
    means = {source: log(draw(search, source, 500)).mean() for source in ("evaluator", "uniform")}
    assert means["evaluator"] > means["uniform"] + 1


def test_equal_architectures_are_scored_once(run, fake):
    search, T = search_of(), 300
    scored = score(search, run, "evaluator", T)
    drawn = [search.space.genotype(one) for one in draw(search, "evaluator", T)]
    counts = Counter(drawn)
    assert len(counts) < T, "no architecture was drawn twice, so nothing was tested"
    assert len(fake) == len(scored) == len(counts)
    assert [candidate.genotype for candidate in scored] == list(dict.fromkeys(drawn))  # order of the first draw
    assert sum(candidate.draws for candidate in scored) == T
    distributions = search.evaluator.distributions()
    for candidate in scored:
        assert candidate.draws == counts[candidate.genotype]
        quadruples = search.space.encode(candidate.genotype)
        assert candidate.loss == float(quadruples.sum()) + 0.5
        assert candidate.images == 40
        assert candidate.log_probability == pytest.approx(float(distributions.log_probability(quadruples)))
    lines = run.read("candidates")
    assert [Genotype.from_darts(line["genotype"]) for line in lines] == [one.genotype for one in scored]


def test_scored_candidates_are_not_scored_again(run, fake):
    search = search_of()
    reports = []
    first = score(search, run, "uniform", 30, observe=reports.append)
    assert [(report.phase, report.done, report.total) for report in reports] == [
        ("score", number + 1, len(first)) for number in range(len(first))
    ]
    assert [report.record for report in reports] == run.read("candidates")
    asked = len(fake)
    assert score(search, run, "uniform", 30, observe=reports.append) == first
    assert len(fake) == asked
    assert reports[len(first) :] == [Progress("score", len(first), len(first))]  # told once that nothing is to be done
    run.keep("candidates", 4)
    assert score(search, run, "uniform", 30) == first
    assert len(fake) == asked + len(first) - 4


def test_other_candidates_are_scored_anew_and_the_same_are_taken_over(run, fake):
    search = search_of(nodes=2)
    first = score(search, run, "uniform", 5)
    before = (run.folder / "candidates.jsonl").read_bytes()
    for number, (source, count) in enumerate((("uniform", 9), ("evaluator", 5), ("uniform", 2), ("argmax", 1))):
        fake.clear()
        known = {one.genotype for path in run.folder.glob("*.jsonl") for one in read(search, path)}
        scored = score(search, run, source, count)
        assert (run.folder / f"candidates-{number + 1}.jsonl").exists()
        assert len(fake) == len({one.genotype for one in scored} - known)
        for one in scored:
            assert one.loss == float(search.space.encode(one.genotype).sum()) + 0.5
    assert (run.folder / "candidates-1.jsonl").read_bytes() == before
    fake.clear()
    assert score(search, run, "uniform", 5) == first
    assert fake == []
    lines = before.splitlines(keepends=True)
    (run.folder / "candidates.jsonl").write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    assert score(search, run, "uniform", 5) == first


def read(search, path):
    return [from_record(search, json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("changes", [{"scoring_batch_size": 8}, {"batch_norm": "recalibrated"}, {"seed": 1}])
def test_scores_made_in_another_way_are_not_taken(run, fake, changes):
    score(search_of(nodes=2), run, "uniform", 5)
    fake.clear()
    score(search_of(nodes=2, **changes), run, "uniform", 5)
    assert len(fake) == 5


def test_a_journal_of_something_else_is_refused(run, fake):
    run.append("candidates", {"genotype": "no genotype"})
    with pytest.raises(RunError, match=r"candidates\.jsonl"):
        score(search_of(), run, "uniform", 5)


def test_scoring_batches_cover_all_images_in_nearly_equal_batches():
    for count in (1, 2, 39, 40, 41, 64):
        for size in (2, 7, 16, 40, 100):
            batches = scoring_batches(count, size)
            assert torch.cat(batches).tolist() == list(range(count))
            sizes = [len(batch) for batch in batches]
            assert max(sizes) - min(sizes) <= 1
            assert max(sizes) <= size
            assert len(batches) == math.ceil(count / size)


def reference_scores(search, architecture, logits_of):
    """Loss and accuracy image by image in float64, over three nearly equal batches of 40 images."""
    loss, correct = 0.0, 0
    first = 0
    for size in (14, 13, 13):
        images = search.valid.images[first : first + size]
        pixels = images.permute(0, 3, 1, 2).float() / 255
        pixels = (pixels - search.normalization.mean) / search.normalization.std  # digits have one channel
        kinds = (0, 1, 0, 1, 0)
        logits = logits_of(pixels, np.array([architecture[kind] for kind in kinds])).double()
        for row, label in zip(logits, search.valid.labels[first : first + size].tolist(), strict=True):
            loss += math.log(sum(math.exp(value) for value in row.tolist())) - row[label].item()
            correct += int(row.argmax()) == label
        first += size
    assert first == len(search.valid) == 40
    return loss / 40, correct / 40


@pytest.mark.parametrize("nodes", [1, 2])
def test_evaluate_is_the_mean_over_all_images(nodes):
    search = search_of(nodes=nodes)
    for architecture in search.space.sample(np.random.default_rng(1), 4, 2):
        ((loss, accuracy),) = evaluate(search, [architecture])
        with torch.no_grad():
            expected = reference_scores(search, architecture, search.template.sampled)
        assert loss == pytest.approx(expected[0], rel=1e-4)
        assert accuracy == pytest.approx(expected[1])
        assert [(loss, accuracy)] == evaluate(search, [architecture])


@pytest.mark.parametrize("batch_norm", ["batch", "recalibrated"])
def test_candidates_side_by_side_score_as_each_one_alone(batch_norm):
    search = search_of(batch_norm=batch_norm)
    architectures = search.space.sample(np.random.default_rng(3), 12, 2)
    assert evaluate(search, architectures) == [evaluate(search, [one])[0] for one in architectures]


def test_groups_do_not_change_scores(tmp_path, monkeypatch):
    scored = []
    for together in (1, 3, 16):
        monkeypatch.setattr(module, "TOGETHER", together)
        with open_run(tmp_path / str(together)) as run:
            scored.append(score(search_of(), run, "uniform", 7))
    assert scored[0] == scored[1] == scored[2]


def state_of(template):
    values = {name: value.detach().clone() for name, value in template.state_dict().items()}
    norms = [part for part in template.modules() if isinstance(part, BatchNorm)]
    assert all(norm.running_mean is None and not norm.track_running_stats for norm in norms)
    return values, [part.training for part in template.modules()]


def test_recalibrated_scores_use_averages_over_training_batches():
    search, plain = search_of(batch_norm="recalibrated"), search_of(batch_norm="batch")
    values, modes = state_of(search.template)
    for architecture in search.space.sample(np.random.default_rng(2), 3, 2):
        ((loss, accuracy),) = evaluate(search, [architecture])
        kept, kept_modes = state_of(search.template)
        assert kept.keys() == values.keys()
        assert all(torch.equal(value, values[name]) for name, value in kept.items())
        assert kept_modes == modes
        assert loss != evaluate(plain, [architecture])[0][0]
        assert [(loss, accuracy)] == evaluate(search, [architecture])

        # by hand: average each norm's inputs over the same eight batches, then normalize with these
        statistics = {}

        def watch(norm, inputs, output, statistics=statistics):
            x = inputs[0].detach()
            statistics.setdefault(norm, []).append((x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).var(1)))

        def replace(norm, inputs, output, statistics=statistics):
            mean, variance = (torch.stack(part).mean(0)[:, None, None] for part in zip(*statistics[norm], strict=True))
            return (inputs[0] - mean) / (variance + norm.eps).sqrt()

        norms = [part for part in plain.template.modules() if isinstance(part, BatchNorm)]
        quadruples = plain.template.per_cell(architecture)
        with torch.no_grad():
            hooks = [norm.register_forward_hook(watch) for norm in norms]
            for step in range(8):
                pass_number, number = divmod(step, 4)
                order = generator(0, "recalibration order", pass_number).permutation(64)[16 * number : 16 * number + 16]
                chosen = plain.train.images[torch.from_numpy(order)]
                plain.template.sampled(normalize_images(chosen, plain.normalization), quadruples)
            for hook in hooks:
                hook.remove()
            hooks = [norm.register_forward_hook(replace) for norm in norms]
            expected = reference_scores(plain, architecture, plain.template.sampled)
            for hook in hooks:
                hook.remove()
        assert loss == pytest.approx(expected[0], rel=1e-3)
        assert accuracy == pytest.approx(expected[1], abs=1 / 40)


def test_failed_recalibration_leaves_the_template_as_it_was(monkeypatch):
    search = search_of(batch_norm="recalibrated")
    values, modes = state_of(search.template)
    architecture = search.space.sample(np.random.default_rng(2), 2)
    real, calls = one_shot, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 9:  # the first batch after the eight of the recalibration
            raise RuntimeError("broken")
        return real(*arguments)

    monkeypatch.setattr("setn_lab.search.scoring.one_shot", failing)
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(search, [architecture])
    kept, kept_modes = state_of(search.template)
    assert kept.keys() == values.keys()
    assert kept_modes == modes


MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    MemoryError("Unable to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", MEMORY, ids=repr)
def test_short_memory_names_the_parameter_and_loses_nothing(run, monkeypatch, error):
    search = search_of()
    real, calls = search.template.sampled, []

    def short(*arguments, **named):
        calls.append(1)
        if len(calls) > 3 * 2:  # three batches a candidate: the second pair of candidates fails
            raise error
        return real(*arguments, **named)

    monkeypatch.setattr(module, "TOGETHER", 2)
    monkeypatch.setattr(search.template, "sampled", short)
    with pytest.raises(ShortMemoryError, match="scoring_batch_size") as caught:
        score(search, run, "uniform", 6)
    assert caught.value.__cause__ is error
    kept = run.read("candidates")
    assert len(kept) == 2

    calls.clear()
    monkeypatch.setattr(search.template, "sampled", lambda *one, **named: calls.append(1) or real(*one, **named))
    scored = score(search, run, "uniform", 6)
    assert len(calls) == 3 * (len(scored) - 2)
    assert run.read("candidates")[:2] == kept
    other = search_of()
    architectures = [other.space.encode(one.genotype) for one in scored]
    assert [(one.loss, one.accuracy) for one in scored] == evaluate(other, architectures)


def test_other_errors_are_not_called_short_memory(run, monkeypatch):
    search = search_of()

    def broken(*arguments, **named):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(search.template, "sampled", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit") as caught:
        score(search, run, "uniform", 2)
    assert not isinstance(caught.value, ShortMemoryError)


def test_argmax_scores_one(run):
    search = search_of()
    (one,) = score(search, run, "argmax", 1000)
    assert one.draws == 1
    best = search.evaluator.distributions().argmax()
    assert one.genotype == search.space.genotype(best)
    assert [(one.loss, one.accuracy)] == evaluate(search, [search.space.canonical(best)])


def candidate(loss, accuracy, state=0):
    node = ((("skip_connect", state), ("sep_conv_3x3", 1)),)
    return Candidate(Genotype(node, (2,), node, (2,)), loss, accuracy, 40, 1, -1.0)


def test_select_by_loss_and_by_accuracy_takes_the_first_of_equals():
    a, b, c, d = candidate(2.0, 0.5), candidate(1.0, 0.25), candidate(1.0, 0.5, 1), candidate(3.0, 0.25, 1)
    assert select([a, b, c, d], "loss") is b
    assert select([d, c, b, a], "loss") is c
    assert select([a, b, c, d], "accuracy") is a
    assert select([d, c, b, a], "accuracy") is c
    assert select([d], "loss") is select([d], "accuracy") is d


@pytest.mark.parametrize("by", ["loss", "accuracy"])
def test_a_candidate_without_a_finite_loss_is_never_selected(by):
    lost, good = candidate(math.nan, 0.9), candidate(2.0, 0.5)
    assert select([lost, good], by) is select([good, lost], by) is good
    with pytest.raises(SearchError, match="finite loss"):
        select([lost, candidate(math.inf, 0.9)], by)


@pytest.mark.parametrize("by", ["loss", "accuracy"])
def test_search_candidates_writes_the_chosen_genotype(run, monkeypatch, by):
    search = search_of(candidates=12, baseline_candidates=5, select_by=by)
    scores = lambda search, some: [(float(one.sum()), float(one[0].sum()) / 100) for one in some]  # noqa: E731
    monkeypatch.setattr(module, "evaluate", scores)
    chosen = search_candidates(search, run)
    lines = run.read("candidates")
    if by == "loss":
        assert chosen.loss == min(line["loss"] for line in lines)
    else:
        assert chosen.accuracy == max(line["accuracy"] for line in lines)
    assert sum(line["draws"] for line in lines) == 12
    assert sum(line["draws"] for line in run.read("baseline")) == 5
    text = (run.folder / "genotype.json").read_text(encoding="utf-8")
    assert Genotype.from_json(text) == chosen.genotype
    assert json.loads(text)
    uniform = {search.space.genotype(one) for one in draw(search, "uniform", 5)}
    assert {Genotype.from_darts(line["genotype"]) for line in run.read("baseline")} == uniform


def test_no_baseline_is_no_journal(run, fake):
    search_candidates(search_of(candidates=3), run)
    assert not (run.folder / "baseline.jsonl").exists()


# Racing

RACE = {"limit_valid": 200, "scoring_batch_size": 21, "scoring": "racing"}  # ten batches of 20 images
RACERS = 12


def open_run(folder, **changes):
    """A run folder, opened again where it is there already."""
    return Run.open(SearchConfig(**{**SMALL, **changes}, run_dir=str(folder)), "search")


@pytest.fixture
def calls(monkeypatch):
    """The (architecture, first image) of each that was scored on a batch."""
    real, asked = batch_scores, []

    def counted(search, architectures, indices):
        asked.extend((architecture.tobytes(), int(indices[0])) for architecture in architectures)
        return real(search, architectures, indices)

    monkeypatch.setattr(module, "batch_scores", counted)
    return asked


@pytest.fixture(scope="module")
def finished_race(tmp_path_factory):
    """An uninterrupted race by loss: its folder and candidates."""
    folder = tmp_path_factory.mktemp("race") / "run"
    with open_run(folder) as run:
        return folder, score_by_racing(search_of(**RACE), run, "uniform", RACERS)


def test_race_batches_are_as_the_tests_below_take_them():
    assert [len(batch) for batch in scoring_batches(200, 21)] == [20] * 10


@pytest.mark.parametrize("by", ["loss", "accuracy"])
def test_racing_scores_are_the_means_over_the_images_that_were_seen(run, by):
    search = search_of(**RACE, select_by=by)
    scored = score_by_racing(search, run, "uniform", RACERS)
    full = {one.genotype: one for one in score(search, run, "uniform", RACERS, "full")}
    assert [one.genotype for one in scored] == list(full)
    survivors = [one for one in scored if one.images == 200]
    dropped = [one for one in scored if one.images < 200]
    assert survivors
    assert dropped
    for one in survivors:
        ((loss, accuracy),) = evaluate(search, [search.space.encode(one.genotype)])
        np.testing.assert_allclose((one.loss, one.accuracy), (loss, accuracy), rtol=1e-5)
    for one in dropped:
        assert one.images % 20 == 0
        quadruples = search.space.canonical(search.space.encode(one.genotype))
        values = [
            batch_scores(search, [quadruples], torch.arange(first, first + 20))[:, 0].double()
            for first in range(0, one.images, 20)
        ]
        loss, accuracy = torch.cat(values, dim=1).mean(dim=1).tolist()
        np.testing.assert_allclose((one.loss, one.accuracy), (loss, accuracy), rtol=1e-5)
    for one in scored:
        other = full[one.genotype]
        assert (one.draws, one.log_probability) == (other.draws, other.log_probability)
    assert [Genotype.from_darts(line["genotype"]) for line in run.read("candidates")] == list(full)
    assert [line["images"] for line in run.read("candidates")] == [one.images for one in scored]


def test_a_race_scores_each_racer_once_on_the_images_it_reports(run, calls):
    scored = score_by_racing(search_of(**RACE), run, "uniform", RACERS)
    assert len(calls) == len(set(calls)) == sum(one.images for one in scored) / 20
    assert len(calls) < 10 * len(scored)
    counts = Counter(architecture for architecture, _ in calls)
    assert sorted(counts.values()) == sorted(one.images // 20 for one in scored)


def test_equal_architectures_race_once(run):
    search = search_of(3.0, **RACE)
    scored = score_by_racing(search, run, "evaluator", 30)
    counts = Counter(search.space.genotype(one) for one in draw(search, "evaluator", 30))
    assert len(counts) < 30, "no architecture was drawn twice, so nothing was tested"
    assert {one.genotype: one.draws for one in scored} == counts


def dominated_scores(search):
    """A batch_scores where one racer is best by loss and another by accuracy, on each image or on all together.

    Losses differ by more than their noise, so on every image the order is the same. Correct answers are nested: what
    the racer of rank r gets right, all of a lower rank get right too. So neither best racer ever has a worse mean than
    another, and no race, whatever its bound, can lose it; the others drop out after a while.
    """
    order = [one.tobytes() for one in draw(search, "uniform", RACERS)]
    assert len(set(order)) == RACERS
    rng = np.random.default_rng(5)
    difficulty, noise = rng.random(200), rng.random((RACERS, 200))

    def scores(search, architectures, indices, chosen=None):
        numbers = np.array([order.index(architecture.tobytes()) for architecture in architectures])
        by_loss, by_accuracy = (numbers[:, None] - 3) % RACERS, (numbers[:, None] - 8) % RACERS
        loss = by_loss + 0.9 * noise[numbers[:, None], indices] + difficulty[indices]
        correct = difficulty[indices] < 0.9 - 0.07 * by_accuracy
        return torch.from_numpy(np.stack([loss, correct]).astype(np.float32))

    return scores


@pytest.mark.parametrize(("by", "best"), [("loss", 3), ("accuracy", 8)])
def test_racing_selects_what_full_scoring_selects(tmp_path, monkeypatch, by, best):
    searches = {
        scoring: search_of(**{**RACE, "scoring": scoring}, select_by=by, candidates=RACERS, candidate_source="uniform")
        for scoring in ("full", "racing")
    }
    dominated = dominated_scores(searches["full"])
    for place in ("candidates", "scoring"):  # a race takes batches one by one, `evaluate` all of them
        monkeypatch.setattr(f"setn_lab.search.{place}.batch_scores", dominated)
    chosen, texts = {}, {}
    for scoring, search in searches.items():
        with open_run(tmp_path / scoring, **RACE) as run:
            chosen[scoring] = search_candidates(search, run)
            texts[scoring] = (run.folder / "genotype.json").read_bytes()
            images = [line["images"] for line in run.read("candidates")]
        assert (min(images) < 200) == (scoring == "racing")
    assert chosen["racing"].genotype == chosen["full"].genotype
    assert chosen["full"].genotype == searches["full"].space.genotype(draw(searches["full"], "uniform", RACERS)[best])
    assert chosen["racing"].images == 200
    assert texts["racing"] == texts["full"]


def test_racing_selects_among_those_that_saw_all_images(tmp_path, monkeypatch):
    search = search_of(**RACE, candidates=3)
    seen = [candidate(1.0, 0.9), candidate(2.0, 0.5), candidate(3.0, 0.25, 1)]
    scored = [Candidate(**{**vars(one), "images": images}) for one, images in zip(seen, (20, 200, 200), strict=True)]
    monkeypatch.setattr(module, "score_by_racing", lambda *arguments: scored)
    compared = []
    monkeypatch.setattr(module, "leaders", lambda search, candidates: compared.extend(candidates) or [])
    with open_run(tmp_path, **RACE) as run:
        assert search_candidates(search, run) is scored[1]
    assert compared == scored[1:]


def test_a_race_with_a_baseline_scores_the_baseline_in_full(tmp_path):
    with open_run(tmp_path, **RACE) as run:
        search_candidates(search_of(**RACE, candidates=RACERS, baseline_candidates=3), run)
        assert {line["images"] for line in run.read("baseline")} == {200}
        assert sum(line["draws"] for line in run.read("candidates")) == RACERS


@pytest.mark.parametrize("batches", [1, 3, 9])
def test_a_race_that_an_observer_interrupts_goes_on_without_scoring_again(tmp_path, calls, finished_race, batches):
    folder, whole = finished_race
    reports = []

    def stop(progress):
        reports.append(progress)
        if len(reports) == batches:
            raise StopError

    with open_run(tmp_path / "run") as run, pytest.raises(StopError):
        score_by_racing(search_of(**RACE), run, "uniform", RACERS, stop)
    assert sorted(path.name for path in (tmp_path / "run").glob("race-*")) == [
        f"race-{batch:03}.npz" for batch in range(batches)
    ]
    assert not (tmp_path / "run" / "candidates.jsonl").exists()
    first = list(calls)
    assert {image for _, image in first} == {20 * batch for batch in range(batches)}
    with open_run(tmp_path / "run") as run:
        assert score_by_racing(search_of(**RACE), run, "uniform", RACERS) == whole
    assert len(calls) == len(set(calls)) == sum(one.images for one in whole) / 20
    assert min(image for _, image in calls[len(first) :]) == 20 * batches
    assert (tmp_path / "run" / "candidates.jsonl").read_bytes() == (folder / "candidates.jsonl").read_bytes()


def test_a_race_that_fails_within_a_batch_scores_that_batch_again_only(tmp_path, monkeypatch, calls, finished_race):
    folder, whole = finished_race
    search, asked = search_of(**RACE), []
    real = search.template.sampled

    def failing(*arguments, **named):
        if len(asked) == RACERS + 5:  # of the second batch, after five racers
            raise MemoryError("Unable to allocate 2 GiB")
        asked.append(1)
        return real(*arguments, **named)

    monkeypatch.setattr(search.template, "sampled", failing)
    with open_run(tmp_path / "run") as run, pytest.raises(ShortMemoryError, match="scoring_batch_size"):
        score_by_racing(search, run, "uniform", RACERS)
    assert not calls[RACERS * 2 :]
    calls.clear()
    with open_run(tmp_path / "run") as run:
        assert score_by_racing(search_of(**RACE), run, "uniform", RACERS) == whole
    assert min(image for _, image in calls) == 20
    assert len(calls) == sum(one.images for one in whole) / 20 - RACERS
    assert (tmp_path / "run" / "candidates.jsonl").read_bytes() == (folder / "candidates.jsonl").read_bytes()


@pytest.mark.parametrize("lines", [1, 7, RACERS])
def test_a_race_that_is_interrupted_between_journal_lines_scores_nothing_again(tmp_path, calls, finished_race, lines):
    folder, whole = finished_race
    records = []

    def stop(progress):
        if progress.record is not None:
            records.append(progress.record)
            if len(records) == lines:
                raise StopError

    with open_run(tmp_path / "run") as run, pytest.raises(StopError):
        score_by_racing(search_of(**RACE), run, "uniform", RACERS, stop)
    journal = tmp_path / "run" / "candidates.jsonl"
    assert journal.read_bytes().count(b"\n") == lines
    calls.clear()
    with open_run(tmp_path / "run") as run:
        assert score_by_racing(search_of(**RACE), run, "uniform", RACERS) == whole
        assert score_by_racing(search_of(**RACE), run, "uniform", RACERS) == whole  # a finished one
    assert calls == []
    assert journal.read_bytes() == (folder / "candidates.jsonl").read_bytes()


@pytest.mark.parametrize("content", [b"", b"no archive", None], ids=["empty", "other", "cut"])
def test_damaged_scores_of_a_race_are_made_again(tmp_path, calls, finished_race, content):
    folder, whole = finished_race
    (tmp_path / "run").mkdir()
    for path in [*folder.glob("*.json"), *folder.glob("race-*.npz")]:
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "run" / "race-001.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100] if content is None else content)
    with open_run(tmp_path / "run") as run:
        assert score_by_racing(search_of(**RACE), run, "uniform", RACERS) == whole
    assert {image for _, image in calls} == {20}


def test_kept_scores_of_other_racers_are_not_taken(tmp_path, calls, finished_race):
    folder, whole = finished_race
    (tmp_path / "run").mkdir()
    for path in folder.glob("*.json"):
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    for path in folder.glob("race-*.npz"):
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    with np.load(folder / "race-001.npz") as stored:
        architectures, scores = stored["architectures"], stored["scores"]
    np.savez(tmp_path / "run" / "race-001.npz", architectures=architectures[::-1], scores=scores)
    with open_run(tmp_path / "run") as run:
        assert score_by_racing(search_of(**RACE), run, "uniform", RACERS) == whole
    assert {image for _, image in calls} == {20}
    assert len(calls) == len(architectures)


def test_a_race_reports_who_dropped_out_and_then_each_candidate(run):
    reports = []
    scored = score_by_racing(search_of(**RACE), run, "uniform", RACERS, reports.append)
    assert {(report.phase, report.total) for report in reports} == {("score", RACERS)}
    assert [report.record for report in reports] == [None] * 10 + run.read("candidates")
    dropped = [sum(one.images < 20 * (batch + 1) for one in scored) for batch in range(10)]  # who is out by then
    assert [report.done for report in reports] == dropped + [RACERS] * RACERS


def test_a_race_takes_no_candidates_of_another(tmp_path):
    """Of another source, or selected by something else, by which others drop out."""
    clean = {}
    for by in ("loss", "accuracy"):
        with open_run(tmp_path / by) as run:
            clean[by] = score_by_racing(search_of(**RACE, select_by=by), run, "uniform", RACERS)
    with open_run(tmp_path / "run") as run:
        score_by_racing(search_of(**RACE), run, "evaluator", 3)
        for by in ("loss", "accuracy"):
            assert score_by_racing(search_of(**RACE, select_by=by), run, "uniform", RACERS) == clean[by]


def test_racing_with_recalibrated_statistics_is_refused():
    with pytest.raises(ConfigError, match=r"scoring: 'racing'.*batch_norm 'recalibrated'"):
        SearchConfig(scoring="racing", batch_norm="recalibrated")
    SearchConfig(scoring="racing", batch_norm="batch")
    SearchConfig(scoring="full", batch_norm="recalibrated")
