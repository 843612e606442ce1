"""What a finished search has shown, in sentences that are computed from its run folder, and what to do next."""

import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setn_lab.config import completed
from setn_lab.kits import KITS
from setn_lab.runs import identity
from setn_lab.runs.journal import read_journal
from setn_lab.runs.place import written
from setn_lab.search.config import BY_SCORES, SearchConfig

FINALISTS = "finalists.json"  # of the best few, what they came to from scratch
LEADERS = "leaders.json"  # of the best few, how far each is behind the winner, image by image
NEAR_CHANCE = 0.1  # of the way from guessing to no errors: a template below it has learned next to nothing
UNLIKELY = 0.05  # a p-value below it is taken for a difference
FEW_ERRORS = 2.0  # standard errors, below which two candidates are not told apart


@dataclass(frozen=True)
class Difference:
    """How the losses of candidates differ from those of uniform ones; negative is better.

    mean and error, the standard error, in nats. effect: the mean in standard deviations of a candidate (Cohen's d).
    better: the share of pairs in which a candidate has the lower loss. p: two-sided, of the Mann-Whitney U test.
    """

    mean: float
    error: float
    effect: float
    better: float
    p: float


@dataclass(frozen=True)
class Verdict:
    """What a search has shown. sentences: plain text. steps: (why, words of a command) to go on with."""

    sentences: list[str]
    steps: list[tuple[str, str]]

    def markdown(self) -> str:
        """For a notebook or a page."""
        return "\n".join([*(f"- {line}" for line in self.sentences), *(f"- {why}: `{do}`" for why, do in self.steps)])

    def text(self) -> str:
        """For a terminal."""
        return "\n".join([*self.sentences, "", *(f"{why}:\n  {do}" for why, do in self.steps)])


def drawn(records: list[dict[str, Any]], key: str) -> NDArray[np.float64]:
    """A score of every draw: a candidate that was drawn twice counts twice."""
    return np.repeat([record[key] for record in records], [record["draws"] for record in records]).astype(float)


def finite(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records whose loss is finite."""
    return [record for record in records if np.isfinite(record["loss"])]


def difference(losses: NDArray[np.float64], uniform: NDArray[np.float64]) -> Difference | None:
    """Of two samples of losses; None where one of them has fewer than two."""
    from scipy.stats import mannwhitneyu  # which takes a second: workers and trainings do without

    if min(len(losses), len(uniform)) < 2:
        return None
    mean = float(losses.mean() - uniform.mean())
    variances = losses.var(ddof=1), uniform.var(ddof=1)
    spread = math.sqrt(sum(variances) / 2)
    test = mannwhitneyu(losses, uniform, method="asymptotic")
    return Difference(
        mean,
        math.sqrt(variances[0] / len(losses) + variances[1] / len(uniform)),
        mean / spread if spread > 0 else 0.0,
        float(1 - test.statistic / (len(losses) * len(uniform))),
        float(test.pvalue),
    )


def verdict(folder: Path) -> Verdict:
    """Of the run folder of a finished search. Raises OSError, ValueError or KeyError for what is none."""
    config = completed(SearchConfig, json.loads((folder / "config.json").read_text(encoding="utf-8")))
    records = finite(read_journal(folder / "candidates.jsonl"))
    most = max(record["images"] for record in records)
    complete = [record for record in records if record["images"] == most]  # those that no race has dropped
    learned, trained = _template(folder, complete)
    place = shlex.quote(written(folder))
    again = f"setn-lab search -f {shlex.quote(written(folder) + '/config.json')}"
    elsewhere = again + ("" if config["run_dir"] is None else " --run_dir None")
    if not trained:
        return Verdict([learned], [("Train it for longer", f"{elsewhere} --epochs {2 * config['epochs']}")])
    uniform = finite(read_journal(folder / "baseline.jsonl"))
    evaluator, better = _evaluator(config, records, uniform)
    steps = []
    if better is None and config["candidate_source"] == "evaluator" and not uniform:
        step = f"{again} --baseline_candidates {max(config['candidates'], 30)}"
        steps.append(("Score uniform candidates too, with the training kept", step))
    elif better is False:
        steps.append(_other_evaluator(config, place, elsewhere))
    if KITS[config["space"]].networks is not None:
        steps.append(("Train the winner's network from scratch", _retraining(config, place)))
    steps.append(("Look at what was learned", f"setn-lab inspect {place}"))
    finalists = _finalists(folder)
    return Verdict([learned, evaluator, _winner(folder, config, bool(finalists)), *finalists], steps)


def _finalists(folder: Path) -> list[str]:
    """What training the best from scratch has changed; nothing without finalists."""
    path = folder / FINALISTS
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    scored = [network for network in found["networks"] if network["epochs"] == found["epochs"]]
    best = max(scored, key=lambda network: network["accuracy"])
    rank = found["networks"].index(best) + 1
    return [
        f"Winner: of {len(found['networks'])} finalists trained from scratch the best has accuracy "
        f"{best['accuracy']:.1%} on D_val after {found['epochs']} epochs; its one-shot rank is {rank}."
    ]


def _template(folder: Path, complete: list[dict[str, Any]]) -> tuple[str, bool]:
    """What the template has learned, and whether that is more than next to nothing."""
    accuracy = float(drawn(complete, "accuracy").mean())
    stored = identity.read(folder)
    classes = {} if stored is None else stored["contents"].get("dataset", {}).get("classes", {})
    text = f"Template: a candidate is right on {accuracy:.1%} of the images of D_val on average"
    if not classes:
        return f"{text}; an older version has not recorded how many classes there are to guess from.", True
    chance = max(classes.values()) / sum(classes.values())
    share = (accuracy - chance) / (1 - chance)
    if share < NEAR_CHANCE:
        return (
            f"{text}, and guessing on {chance:.1%}: the template is still near chance, so that neither the winner nor "
            "the evaluator means anything yet."
        ), False
    return f"{text}; guessing would be on {chance:.1%}.", True


def _evaluator(
    config: dict[str, Any], records: list[dict[str, Any]], uniform: list[dict[str, Any]]
) -> tuple[str, bool | None]:
    """Whether what was drawn is better than uniform candidates, in words and as an answer; None: it is not known."""
    source = config["candidate_source"]
    if source == "uniform":
        return "Candidates: drawn uniformly, so that the evaluator had no part in them.", None
    if source in BY_SCORES:
        return f"Candidates: {source} draws by the scores so far; they are no sample to be tested.", None
    if not uniform:
        return "Evaluator: whether it draws better candidates is not known, as no uniform ones were scored.", None
    if len({record["images"] for record in records + uniform}) > 1:
        return "Evaluator: the candidates were raced, so that their losses are not compared with uniform ones'.", None
    found = difference(drawn(records, "loss"), drawn(uniform, "loss"))
    if found is None:
        return "Evaluator: too few candidates were scored to compare them with uniform ones.", None
    numbers = (
        f"mean loss {found.mean:+.4f} ± {found.error:.4f} against uniform ones, {found.effect:+.2f} standard "
        f"deviations, lower in {found.better:.0%} of pairs, p = {found.p:.2g}"
    )
    if found.p < UNLIKELY and found.mean < 0:
        return f"Evaluator: its candidates are better than uniform ones ({numbers}).", True
    if found.p < UNLIKELY and found.mean > 0:
        return f"Evaluator: its candidates are worse than uniform ones ({numbers}).", False
    return f"Evaluator: its candidates cannot be told from uniform ones ({numbers}).", False


def _winner(folder: Path, config: dict[str, Any], trained: bool) -> str:
    """Whether the best one-shot score, which is the winner's unless finalists were trained, is better than the next."""
    name = "Best one-shot score" if trained else "Winner"
    path = folder / LEADERS
    if not path.exists():
        return f"{name}: how sure it is is not known, as an older version scored it; the same search again adds that."
    first, *others = json.loads(path.read_text(encoding="utf-8"))
    key, sign = ("loss", 1) if config["select_by"] == "loss" else ("accuracy", -1)  # gaps count from the winner
    score = f"loss {first['loss']:.4f}, accuracy {first['accuracy']:.1%}"
    if not others:
        return f"{name}: {score}; there is no other candidate to compare it with."
    near = [number for number, one in enumerate(others, 2) if sign * one[key] <= FEW_ERRORS * one[f"{key}_error"]]
    second = others[0]
    gap = f"rank 2 is behind by {sign * second[key]:.4f} ± {second[f'{key}_error']:.4f} in {key}"
    text = f"{name}: {score}; {gap}, paired over {first['images']:,} images"
    if not near:
        return f"{text}, and ranks 2 to {len(others) + 1} are all worse by more than two standard errors."
    listed = ", ".join(map(str, near))
    return (
        f"{text}. Within two standard errors of it: {len(near)} of ranks 2 to {len(others) + 1} ({listed}). It was "
        "chosen on these images, which flatters it: train several."
    )


def _other_evaluator(config: dict[str, Any], place: str, elsewhere: str) -> tuple[str, str]:
    """What to try where the evaluator draws no better than chance."""
    if config["evaluator_gradient"] == "rloo" or config["strategy"] == "setn-non":
        return "See whether another seed agrees", f"{elsewhere} --seed {config['seed'] + 1}"
    epochs = max(config["evaluator_epochs"], config["epochs"])
    options = f"--template_run {place} --evaluator_gradient rloo --evaluator_epochs {epochs}"
    return "Train the evaluator by sampled losses, on this template", f"{elsewhere} {options}"


def _retraining(config: dict[str, Any], place: str) -> str:
    if config["dataset"] == "digits":
        return f"setn-lab retrain --genotype {place} --preset quick"
    given = [f"--{name} {shlex.quote(config[name])}" for name in ("dataset", "data_dir") if config[name] is not None]
    return " ".join([f"setn-lab retrain --genotype {place} --preset cifar", *given])
