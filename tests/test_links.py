"""Every relative link of the documentation leads somewhere, without building the site."""

import ast
import importlib
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("reports/*.md"), *ROOT.glob("reports/*/README.md")]
)
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
FENCE = re.compile(r"^(```+)[^\n]*\n.*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)|(?:src|href)=\"([^\"]+)\"")


def prose(path):
    """The text of a page or the Markdown of a notebook, without blocks of code and code between backticks."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return FENCE.sub("", text)


def links(path):
    text = re.sub(r"`[^`\n]*`", "code", prose(path))
    found = [one or other for one, other in LINK.findall(text)]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(path):
    """What GitHub and the site call a page's headings: small letters, digits, - and _, a number where one is twice."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().strip()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        before = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", name) is not None for name in found)
        found.append(slug if before == 0 else f"{slug}-{before}")
    return found


def broken(path):
    """The links of a page that lead nowhere."""
    found = []
    for link in links(path):
        place, _, anchor = unquote(link).partition("#")
        target = path.parent / place if place else path
        lost = not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        if lost:
            found.append(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}: {link}")
    return found


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    assert not broken(path)


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One\n## Two `f`, three\n## One\n```\n# no heading\n```\n", encoding="utf-8")
    good = '[a](other.md) [b](other.md#two-f-three) [c](#here) [d](other.md#one-1) <img src="other.md"> `[e](no.md)`'
    bad = '[f](no.md) [g](other.md#four) [h](#there) [i](other.md#no-heading) <img src="no.png">'
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n{good} [j](https://example.org/x)\n```sh\n[k](no.md)\n```\n{bad}\n", encoding="utf-8")
    lost = ["no.md", "other.md#four", "#there", "other.md#no-heading", "no.png"]
    assert broken(page) == [f"{page}: {link}" for link in lost]


def test_there_are_links_to_check():
    assert sum(len(links(path)) for path in PAGES) > 80


def test_the_readme_is_a_page_and_leads_to_every_other_one():
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) < 150
    here = {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")}
    assert here - {"docs/index.md", "docs/api.md"} <= set(links(readme))  # these two are of the site alone


def examples():
    """The blocks of Python of all pages, each with its place."""
    block = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(text, id=f"{path.relative_to(ROOT)} {number}")
        for path in PAGES
        for number, text in enumerate(block.findall(path.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize("text", examples())
def test_examples_import_what_there_is(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_what_a_page_calls_a_module_or_a_name_is_one(path):
    for dotted in re.findall(r"`(setn_lab(?:\.(?!json)\w+)+)`", path.read_text(encoding="utf-8")):
        module, _, name = dotted.rpartition(".")
        try:
            importlib.import_module(dotted)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), name), dotted
