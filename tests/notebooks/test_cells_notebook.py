"""The cells notebook: bad parameters, what it calls, then through papermill as a user runs it."""

import base64
import dataclasses
import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from parameters import check_refusal
from PIL import Image
from references import cost_by_hand

from setn_lab.config import ConfigError
from setn_lab.figures import genotype
from setn_lab.figures.genotype import CellsConfig
from setn_lab.network.costs import largest_channels
from setn_lab.space.genotype import GenotypeError
from setn_lab.space.zoo import ZOO

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "cells.ipynb"
SMALL = {"channels": 2, "repeats": 1}  # networks that are built in no time


# Bad input, in process


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # papermill's
@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("genotpye", "SETN", ["genotpye: 'SETN' (str) given", "did you mean genotype?"]),
        ("compare", "none", ["compare: 'none' (str) given", "-p compare None"]),
        ("network", "imagnet", ["network: 'imagnet' (str) given", "did you mean imagenet?"]),
        ("channels", "0", ["channels: 0 (int) given", "an integer of at least 1 is allowed"]),
        ("repeats", "6.0", ["repeats: 6.0 (float) given", "-p repeats 6"]),
        ("num_classes", "0", ["num_classes: 0 (int) given", "an integer of at least 1 or None is allowed"]),
        ("formats", "svg,bmp", ["formats: 'svg,bmp' given", "svg,pdf,png, separated by commas, are allowed"]),
        ("formats", "", ["formats: '' given"]),
    ],
)
def test_a_bad_parameter_is_named_with_the_fix(name, text, parts):
    check_refusal("cells", CellsConfig, name, text, parts)


def test_imagenet_needs_two_channels():
    with pytest.raises(ConfigError, match=r"channels: 1 .*imagenet.*2 or more"):
        CellsConfig(network="imagenet", channels=1)


@pytest.mark.parametrize("parameter", ["genotype", "compare"])
def test_a_bad_genotype_is_named_with_its_parameter_and_the_fix(parameter, tmp_path):
    for text, part in (
        ("STEN", "did you mean 'SETN'?"),
        ("Genotype(normal=[('sep_conv_9x9', 0)], normal_concat=[2], reduce=[], reduce_concat=[2])", ""),
        (str(tmp_path), "genotype.json"),  # a folder, but not of a finished search
    ):
        with pytest.raises(GenotypeError) as caught:
            genotype.figures(CellsConfig(**SMALL, **{parameter: text}))
        assert str(caught.value).startswith(f"{parameter}: ")
        assert part in str(caught.value)


# What it draws, in process


def test_mobile_draws_the_largest_imagenet_network_that_its_setting_allows(monkeypatch):
    fits = []

    def largest(*arguments, **values):
        fits.append(largest_channels(*arguments, multiply_adds=9_000_000, **values))
        return fits[-1]

    monkeypatch.setattr(genotype, "largest_channels", largest)
    figures = genotype.figures(CellsConfig(genotype="GDAS", mobile=1, num_classes=5))
    costs = [cost_by_hand("imagenet", ZOO["GDAS"].genotype, fits[0] + more, 1, 5, 224) for more in (0, 1)]
    assert figures.cost == costs[0]
    assert costs[0].multiply_adds <= 9_000_000 < costs[1].multiply_adds
    assert f"(C = {fits[0]}, N = 1)" in figures.caption
    with pytest.raises(ConfigError, match=r"channels: 40 given with mobile"):
        CellsConfig(mobile=4, channels=40)


@pytest.mark.parametrize(("network", "classes", "size"), [("cifar", 10, 32), ("imagenet", 1000, 224)])
def test_the_caption_is_what_the_network_costs(network, classes, size):
    config = CellsConfig(genotype="GDAS", network=network, channels=4, repeats=2)
    figures = genotype.figures(config)
    expected = cost_by_hand(network, ZOO["GDAS"].genotype, 4, 2, classes, size)
    assert figures.cost == expected
    assert genotype.describe(figures).startswith(f"**GDAS: {expected.parameters / 1000:.1f} k parameters, ")
    assert f"{expected.parameters:,} parameters, {expected.multiply_adds:,} multiply-adds" in genotype.describe(figures)
    assert "(C = 4, N = 2)" in figures.caption
    for picture in (figures.cells, figures.network):
        assert figures.caption in picture.source
    more = genotype.figures(dataclasses.replace(config, num_classes=classes + 1))
    assert more.cost.parameters - expected.parameters == 4 * 4 * 4 + 1  # a row and a bias of the classifier
    assert f"linear, {classes + 1:,} classes" in more.network.source


def test_a_genotype_comes_from_anywhere(tmp_path):
    published = ZOO["DARTS_V2"].genotype
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "genotype.json").write_text(published.to_json(), encoding="utf-8")
    (tmp_path / "mine.txt").write_text(published.to_darts(), encoding="utf-8")
    names = []
    for text in ("DARTS_V2", str(tmp_path / "run"), str(tmp_path / "mine.txt"), published.to_darts()):
        figures = genotype.figures(CellsConfig(genotype=text, compare="DARTS_V2", **SMALL))
        assert figures.genotype == published
        assert "are the same architecture" in figures.difference.source
        names.append(figures.name)
    assert names[:3] == ["DARTS_V2", "run", "mine"]


def test_the_second_genotype_is_the_old_one():
    figures = genotype.figures(CellsConfig(genotype="SETN", compare="GDAS", **SMALL))
    for words in ("− only in GDAS", "− dil conv 5x5", "+ only in SETN", "+ 1x3 & 3x1 conv"):  # each has one of these
        assert words in html.unescape(figures.difference.source)


def test_files_are_written_in_the_formats_asked_for_alone(tmp_path):
    config = CellsConfig(formats="pdf, svg,pdf", out_dir=str(tmp_path / "new" / "folder"), **SMALL)
    paths = genotype.save(genotype.figures(config), config)
    assert [path.name for path in paths] == [
        f"SETN-{what}.{kind}" for what in ("cells", "normal", "reduction", "network") for kind in ("pdf", "svg")
    ]
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    before = [path.read_bytes() for path in paths]
    genotype.save(genotype.figures(config), config)
    assert [path.read_bytes() for path in paths if path.suffix == ".svg"] == [
        content for path, content in zip(paths, before, strict=True) if path.suffix == ".svg"
    ]


def test_without_a_folder_the_configs_digest_names_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SETN_LAB_RUNS", str(tmp_path))
    folders = set()
    for values in ({}, {"compare": "GDAS"}, {"interactive": False}):
        config = CellsConfig(formats="svg", **SMALL, **values)
        folders |= {path.parent for path in genotype.save(genotype.figures(config), config)}
    assert len(folders) == 2
    assert all(re.fullmatch(r"cells-[0-9a-f]{10}", folder.name) for folder in folders)


def test_nothing_to_compare_with_is_told():
    assert "Nothing to compare with" in genotype.show_difference(genotype.figures(CellsConfig(**SMALL))).data


# Through papermill


@pytest.mark.usefixtures("light_python")
def test_papermill_draws_and_writes_the_figures(tmp_path):
    output, folder = tmp_path / "out.ipynb", tmp_path / "figures"
    values = {"genotype": "SETN", "compare": "GDAS", "channels": "4", "repeats": "2", "out_dir": str(folder)}
    arguments = [word for name, value in values.items() for word in ("-p", name, value)]
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(output), *arguments, "--no-progress-bar"]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=200)
    assert done.returncode == 0, done.stderr
    figures = [f"SETN-{what}" for what in ("cells", "normal", "reduction", "network", "against-GDAS")]
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in figures for kind in ("svg", "pdf", "png")
    }

    assert output.stat().st_size < 500_000
    outputs = [
        one for cell in json.loads(output.read_text(encoding="utf-8"))["cells"] for one in cell.get("outputs", [])
    ]
    assert not [one for one in outputs if one["output_type"] in ("error", "stream")]
    shown = [kind for one in outputs for kind in one.get("data", {}) if kind != "text/plain"]
    assert shown == ["text/markdown", *["image/svg+xml"] * 3, "text/html"]
    page = "".join(outputs[-1]["data"]["text/html"])
    links = re.findall(r'href="([^"]+)"', page)
    assert sorted(Path(link).name for link in links) == sorted(path.name for path in folder.iterdir())
    assert {(Path.cwd() / link).resolve() for link in links} == {path.resolve() for path in folder.iterdir()}
    thumbnails = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(thumbnails) == len(figures)
    for thumbnail in thumbnails:
        assert 50 < max(Image.open(io.BytesIO(base64.b64decode(thumbnail))).size) <= 220
