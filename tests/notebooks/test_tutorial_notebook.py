"""The tutorial, executed as a user does: what its figures and tables claim is so, and its steps are the library's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "tutorial.ipynb"

# A last cell, which writes down what the notebook has come to, and what the library's own steps give in its place.
FOUND = """
import json
from pathlib import Path
from types import SimpleNamespace

from setn_lab.evaluator.mixture import Mixture
from setn_lab.evaluator.rloo import RLOO


def gradients(objective):
    trial.zero_grad()
    objective.backward()
    return torch.cat([p.grad.flatten() for p in trial.parameters()])


config = SimpleNamespace(seed=seed, precision="float32", evaluator_samples=K)
library = SimpleNamespace(
    evaluator=trial, scored_template=template, config=config, device=torch.device("cpu"), penalty=lambda weights: 0.0
)
images, labels = batch(valid, "valid", 7)
sampled = RLOO(library)
steps_alike = {
    "mixture": (gradients(mixture_objective(trial, 7)), gradients(Mixture(library)(images, labels, 7)[0])),
    "sampled": (gradients(spread * sampled_objective(trial, 7)), gradients(sampled(images, labels, 7)[0])),
}
deviation = (sampled.variance[0] / sampled.variance[1]).sqrt()  # by which the library divides
steps_alike["sampled"] = (steps_alike["sampled"][0], deviation * steps_alike["sampled"][1])
Path(FILE).write_text(json.dumps({
    "weight_losses": weight_losses,
    "losses": {name: values.tolist() for name, values in losses.items()},
    "again": float(scores([winner])[0]),
    "winner": genotype.to_json(),
    "entropy": {
        "start": start.entropy(),
        "sampled": learned.entropy(),
        "last": sum(sampled_entropies[-1]),
    },
    "literal": float(np.abs(literal - factorized).max()),
    "gradients": {name: [one.tolist() for one in pair] for name, pair in steps_alike.items()},
}))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory, light_python):
    """(what the last cell wrote, the executed notebook)."""
    folder = tmp_path_factory.mktemp("tutorial")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FOUND.replace("FILE", repr(str(folder / "found.json")))))
    nbformat.write(notebook, folder / "tutorial.ipynb")
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "-k", "python3", "tutorial.ipynb", "out.ipynb"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found, nbformat.read(folder / "out.ipynb", as_version=4)


def mean(values):
    return sum(values) / len(values)


def test_the_template_learns(executed):
    losses = executed[0]["weight_losses"]
    assert mean(losses[-30:]) < 0.5 * mean(losses[:30])


@pytest.mark.parametrize(("name", "least"), [("sampled losses", 0.5), ("Eq. 10", 0.0)])
def test_the_evaluators_candidates_have_a_lower_mean_loss_than_uniform_ones(executed, name, least):
    losses = executed[0]["losses"]
    uniform, drawn = losses["uniform"], losses[name]
    deviation = mean([(one - mean(uniform)) ** 2 for one in uniform]) ** 0.5
    assert len(uniform) == len(drawn) == 100
    assert mean(uniform) - mean(drawn) > least * deviation


def test_the_winner_is_the_best_of_those_drawn(executed):
    found = executed[0]
    assert found["again"] == pytest.approx(min(found["losses"]["sampled losses"]), rel=1e-5)
    assert found["again"] < mean(found["losses"]["uniform"])
    assert json.loads(found["winner"])


def test_an_evaluator_that_learns_decides(executed):
    entropy = executed[0]["entropy"]
    assert entropy["sampled"] == pytest.approx(entropy["last"])
    assert entropy["sampled"] < entropy["start"]


def test_the_double_sum_is_the_factorized_one(executed):
    assert executed[0]["literal"] < 1e-6


@pytest.mark.parametrize("name", ["mixture", "sampled"])
def test_the_steps_that_it_spells_out_are_the_library_s(executed, name):
    ours, theirs = executed[0]["gradients"][name]
    assert max(map(abs, theirs)) > 1e-4
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)


def test_every_part_has_a_figure_a_formula_what_to_look_for_and_an_exercise(executed):
    parts, now = {}, None
    for cell in executed[1].cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            now = parts.setdefault(cell.source.splitlines()[0], {"text": "", "pictures": 0})
        if now is None:
            continue
        if cell.cell_type == "markdown":
            now["text"] += cell.source
        else:
            kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
            now["pictures"] += bool(kinds & {"image/png", "image/svg+xml"})
    assert len(parts) == 7
    for part in parts.values():
        assert part["pictures"] >= 1
        assert part["text"].count("$$") >= 2
        assert "**Look for**" in part["text"]
        assert "*Exercise" in part["text"]
