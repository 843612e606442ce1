"""The page of all published cells."""

import pytest

from setn_lab.cli import main
from setn_lab.figures import overview
from setn_lab.network import discrete
from setn_lab.space.zoo import ZOO


def test_every_published_cell_is_drawn_with_its_size_and_source(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(discrete, "initialize", lambda *_: None)
    few = {name: ZOO[name] for name in ("SETN", "AMOEBANET", "FAIRDARTS_D")}
    monkeypatch.setattr(overview, "ZOO", few)
    values = ["--channels", "4", "--repeats", "1", "--formats", "svg"]
    assert main(["cells", "--all", "--out-dir", str(tmp_path), *values]) == 0
    assert str(tmp_path / "README.md") in capsys.readouterr().out
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for name, published in few.items():
        assert (tmp_path / f"{name}-cells.svg").read_bytes().lstrip().startswith(b"<?xml")
        assert f"({name}-cells.svg)" in text
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
        network = discrete.CifarNetwork(published.genotype, 4, 1, 10)
        assert f"| {sum(value.numel() for value in network.parameters()):,} |" in row
        assert published.source in row
        assert all(f"{size.parameters:.{size.digits}f} M" in row for size in published.sizes)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["README.md", *(f"{name}-cells.svg" for name in few)]
    )


@pytest.mark.parametrize("words", [["GDAS"], ["--compare", "GDAS"]])
def test_one_genotype_and_all_are_not_asked_for_together(words, tmp_path, capsys):
    assert main(["cells", "--all", "--out-dir", str(tmp_path), *words]) == 2
    assert "leave it out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
