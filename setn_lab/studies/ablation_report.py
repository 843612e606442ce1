"""The figures and tables of an ablation study, drawn from its run folder alone."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from setn_lab.figures import page
from setn_lab.search.verdict import drawn
from setn_lab.studies import plots, scalability, tables
from setn_lab.studies.ablation import AblationConfig
from setn_lab.studies.ablation_results import DRAWS, INDEPENDENT, argmax, best_of_draws, scored, selected, summary

CONTENTS = {
    "config.json": "every parameter; `papermill -f` on it repeats the study",
    "environment.json": "versions, commit, machine, threads",
    "runs.json": "the searches' run folders, which hold their templates, evaluators and candidates",
    "setn*.jsonl": "a line per scored candidate, a file a variant",
    "evolution.jsonl": "the same of evolution, with SETN's template",
    "refit.jsonl": "the same of the refitted evaluator, with SETN's template",
    "argmax-*.jsonl": "the scored argmax cell of each search",
    "costs.json": "time and memory with 6 and with 8 operations",
    "candidates.svg": "Figure 2",
    "losses.svg": "the same for the losses",
    "best-of-t.svg": "figure",
    "candidates.csv": "every candidate's scores",
    "tables.md": "all tables",
    "summary.json": "all figures by name",
}


def describe(config: AblationConfig) -> str:
    """The searches that the study works on, as Markdown. Raises ConfigError as `StudyConfig.search` does."""
    return tables.searches(config.searches)


def contents(folder: Path) -> str:
    """What lies where in the run folder, as Markdown."""
    return page.contents(folder, CONTENTS)


def figure2(folder: Path, key: str = "accuracy") -> Figure:
    """Figure 2: the histograms of the variants, over one x-axis; `key` is accuracy or loss."""
    unit, label = (100, "one-shot accuracy [%]") if key == "accuracy" else (1, "one-shot loss [nats]")
    records = scored(folder)
    values = {name: unit * drawn(own, key) for name, own in records.items()}
    winners = {name: unit * selected(own)[key] for name, own in records.items()}
    columns = max(2, (len(values) + 1) // 2)  # a folder of an earlier version has fewer variants
    figure, axes = plt.subplots(2, columns, figsize=(4 * columns, 6), layout="constrained", sharex=True)
    plots.plot_variants(values, winners, axes.ravel().tolist(), xlabel=label)
    for above, below in axes.T:
        if values and not below.axison:  # no plot: its column has the x-axis above
            above.tick_params(labelbottom=True)
            above.set_xlabel(label)
    return figure


def effect_of_draws(folder: Path) -> Figure:
    """Accuracy and loss of the best of T candidates, by T, of the variants whose draws are independent."""
    records, single = {name: own for name, own in scored(folder).items() if name in INDEPENDENT}, argmax(folder)
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    for ax, key, unit, label in (
        (axes[0], "accuracy", 100, "accuracy of the best of T [%]"),
        (axes[1], "loss", 1, "loss of the best of T [nats]"),
    ):
        spreads = {}
        for name, own in records.items():
            rows = [row.values[key] for row in best_of_draws(own)]
            spreads[name] = [(unit * row.mean, unit * row.low, unit * row.high) for row in rows]
        cells = {name: unit * record[key] for name, record in single.items() if name in records}
        plots.plot_best_of(DRAWS, spreads, cells, ax, label)
    return figure


def table(folder: Path) -> str:
    """The candidates of each variant, as Markdown."""
    found = summary(folder)["variants"]
    if not found:
        return "No candidates are scored yet."
    limits = list(next(iter(found.values()))["share_above"])
    head = ["variant", "n (distinct)", "accuracy", "5% / 50% / 95%", "best", *(f"above {limit}" for limit in limits)]
    lines = [*head, "loss", "below uniform", "lowest", "selected: accuracy"]
    rows = []
    for name, variant in found.items():
        levels = variant["accuracy_quantiles"]
        rows.append(
            [
                name.upper(),
                f"{variant['candidates']} ({variant['distinct']})",
                page.plus_minus(variant["mean_accuracy"], variant["std_accuracy"], ".2%"),
                f"{levels['0.05']:.2%} / {levels['0.5']:.2%} / {levels['0.95']:.2%}",
                f"{variant['best_accuracy']:.2%}",
                *(f"{share:.0%}" for share in variant["share_above"].values()),
                page.plus_minus(variant["mean_loss"], variant["std_loss"], ".4f"),
                "" if variant["below_uniform"] is None else f"{variant['below_uniform']:+.2f} sd",
                f"{variant['lowest_loss']:.4f}",
                f"{variant['selected']['accuracy']:.2%}",
            ]
        )
    lost = {name.upper(): variant["not_finite"] for name, variant in found.items() if variant["not_finite"]}
    note = (
        "\n\nEvery draw counts: a candidate drawn twice counts twice. Below uniform: how far the mean loss lies below "
        "that of uniform candidates of the same template (SETN-RAND), in their standard deviations."
    )
    if lost:
        counts = ", ".join(f"{count} of {name}" for name, count in lost.items())
        note += f" Draws that are left out, as their loss is not finite: {counts}."
    return page.table(lines, rows) + note


def tests_table(folder: Path) -> str:
    """SETN's candidates against those of each other variant, as Markdown."""
    found = summary(folder)["setn_against"]
    if not found:
        return "SETN and another variant are needed to compare."
    rows = []
    for other, values in found.items():
        for key, form in (("accuracy", "+.2%"), ("loss", "+.4f")):
            comparison = values[key]
            rows.append(
                [
                    f"SETN - {other.upper()}",
                    key,
                    tables.value(comparison["difference"], form),
                    tables.value(comparison["superiority"], ".0%"),
                    tables.value(comparison["u"], ".0f"),
                    tables.value(comparison["p"], ".2g"),
                ]
            )
    head = ["difference of means", "of", "value", "P(SETN's is higher)", "U", "p (two-sided)"]
    return (
        page.table(head, rows) + "\n\nMann-Whitney U; the probability that a random candidate of SETN has the higher "
        "value is its effect size: 50% is none." + _left_out(folder)
    )


def _left_out(folder: Path) -> str:
    """Which variants the tests and the best of T leave out, in a sentence; empty for none."""
    names = [name.upper() for name in scored(folder) if name not in INDEPENDENT]
    return f" Left out, since a draw depends on those before: {' and '.join(names)}." if names else ""


def best_table(folder: Path) -> str:
    """The best of T by T, and the argmax cell, as Markdown."""
    found = summary(folder)
    rows = []
    for name, own in found["best_of"].items():
        for row in own:
            accuracy, loss = row["values"]["accuracy"], row["values"]["loss"]
            rows.append(
                [
                    name.upper(),
                    f"{row['draws']:,}" + (" *" if row["beyond"] else ""),
                    page.plus_minus(accuracy["mean"], accuracy["std"], ".2%"),
                    f"{accuracy['low']:.2%} to {accuracy['high']:.2%}",
                    page.plus_minus(loss["mean"], loss["std"], ".4f"),
                    f"{loss['low']:.4f} to {loss['high']:.4f}",
                ]
            )
    for name, record in found["argmax"].items():
        rows.append([name.upper(), "argmax", f"{record['accuracy']:.2%}", "", f"{record['loss']:.4f}", ""])
    head = ["variant", "T", "accuracy", "5% to 95%", "loss", "5% to 95%"]
    return (
        page.table(head, rows)
        + "\n\nThe candidate of the lowest loss among T bootstrap draws from those scored: mean ± "
        "standard deviation over the draws, exact. * More draws than there are: their best is all there is to find."
        + _left_out(folder)
    )


def costs_table(folder: Path) -> str:
    """What a search costs with 6 and with 8 operations, as Markdown."""
    return scalability.table([scalability.SearchCost(**cost) for cost in summary(folder)["costs"]])


def save(folder: Path, target: Path | None = None) -> list[Path]:
    """Write figures (SVG), tables (CSV, Markdown) and summary.json into `target`, by default the run folder itself."""
    rows = [{"variant": name, **record} for name, own in scored(folder).items() for record in own]
    texts = table(folder), tests_table(folder), best_table(folder), costs_table(folder)
    return page.write_files(
        target or folder,
        {"candidates": figure2(folder), "losses": figure2(folder, "loss"), "best-of-t": effect_of_draws(folder)},
        {
            "candidates.csv": tables.csv_text(rows, ("variant", "accuracy", "loss", "log_probability", "draws")),
            "tables.md": "\n\n".join(texts) + "\n",
        },
        summary(folder),
    )


def write(folder: Path, target: Path) -> Path:
    """`save` and a page with the run's config, machine and numbers; returns the page."""
    save(folder, target)
    config = tables.read_config(AblationConfig, folder)
    paragraphs = [
        f"{Path(config.dataset).name}, C = {config.channels}, N = {config.repeats}, {config.epochs} epochs, the "
        f"evaluator from epoch {config.evaluator_start + 1}, T = {config.candidates}, seed {config.seed}. "
        "`config.json` holds every parameter: `papermill -f config.json notebooks/ablation.ipynb out.ipynb` repeats "
        f"it, a folder of images given by `-p dataset`. Searches: {tables.folders(folder)}.",
        "![Figure 2](candidates.svg)",
        table(folder),
        tests_table(folder),
        "## The losses, which Algorithm 1 selects by",
        "![losses](losses.svg)",
        "## The effect of T",
        "![best of T](best-of-t.svg)",
        best_table(folder),
        "## Cost and scalability",
        costs_table(folder),
    ]
    return page.write_page(folder, target, "Ablation study", paragraphs)
