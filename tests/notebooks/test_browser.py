"""The inspectors as a user has them: in JupyterLab and as a page of Voila, in a real Chromium."""

import re
import shutil
from pathlib import Path

import pictures
import pytest
from playwright.sync_api import expect
from written_run import write_run

from setn_lab import workbench
from setn_lab.search import report

ROOT = Path(__file__).parents[2]
EPOCHS, CANDIDATES = 4, 12
PATIENCE = 1000 * pictures.PATIENCE  # milliseconds

pytestmark = pytest.mark.skipif(
    pictures.CHROMIUM is None, reason="needs Chromium: install it (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The inspectors' notebook with a run of twelve candidates as its parameter, in a folder of its own."""
    folder = tmp_path_factory.mktemp("browser")
    return pictures.prepare(write_run(folder / "search-written", EPOCHS, CANDIDATES), folder)


@pytest.fixture
def page():
    with pictures.browser() as page:
        yield page


def use_the_inspectors(page):
    """Move the slider and pick candidates: what is shown follows, and no message stands anywhere."""
    picture = page.locator(".widget-image").first
    expect(page.locator("select[multiple]")).to_be_attached(timeout=PATIENCE)  # the last inspector is there
    picture.scroll_into_view_if_needed()
    epoch = page.locator(".widget-slider .widget-readout").first
    expect(epoch).to_have_text(str(EPOCHS))
    before, table = picture.get_attribute("src"), page.locator("table").first.inner_text()
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(epoch).to_have_text(str(EPOCHS - 1))
    expect(picture).not_to_have_attribute("src", before)
    expect(page.locator("table").first).not_to_have_text(table)

    rows = page.locator(".dt-container tbody tr")
    rows.first.scroll_into_view_if_needed()
    expect(page.get_by_text("the winner")).to_be_visible()
    rows.nth(2).click()
    expect(page.get_by_text("candidate of rank 3: thick where it differs")).to_be_visible()
    page.get_by_role("button", name="copy as DARTS text").click()
    expect(page.get_by_role("button", name="copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("Genotype(normal=[")

    histograms = page.get_by_alt_text("histograms of the candidates' one-shot accuracy and loss")
    histograms.scroll_into_view_if_needed()
    box = histograms.bounding_box()
    # The histogram of losses begins with the best candidate: its bar stands at the left end of the right half.
    for step in range(40):
        page.mouse.click(box["x"] + (0.5 + 0.005 * step) * box["width"], box["y"] + 0.8 * box["height"])
        if page.get_by_text(re.compile(r"^loss .* to .*: \d+ candidate")).count():
            break
    expect(page.get_by_text(re.compile(r"^loss .* to .*: \d+ candidate"))).to_be_visible()
    expect(page.get_by_text("candidate of rank 3: thick where it differs")).to_have_count(0)
    assert page.locator(".inspector-message").count() == 0


def test_in_jupyterlab(notebook, page):
    settings = notebook.parent / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}', encoding="utf-8")
    options = ["--allow-root", "--ServerApp.token=secret", f"--ServerApp.root_dir={notebook.parent}"]
    with pictures.server(notebook.parent, "jupyterlab", *options) as (address, _):
        page.goto(f"{address}/lab/tree/inspect.ipynb?token=secret")
        expect(page.get_by_role("heading", name="Inspect a search")).to_be_visible(timeout=PATIENCE)
        page.get_by_text("Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        use_the_inspectors(page)


def test_the_first_page_leads_to_notebooks_and_to_what_runs_have_drawn(tmp_path, monkeypatch, page):
    for name in ("notebooks", "reports", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("runs"))
    run = write_run(tmp_path / "reports" / "runs" / "search-written", EPOCHS, CANDIDATES)
    (run / "environment.json").write_text('{"kind": "search"}', encoding="utf-8")
    report.save(report.SearchRun.read(run))
    monkeypatch.setenv("SETN_LAB_RUNS", str(run.parent))
    workbench.refresh(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "notebooks").iterdir() if path.is_file()}
    options = ["--allow-root", "--ServerApp.token=secret", f"--ServerApp.root_dir={tmp_path}"]
    with pictures.server(tmp_path, "jupyterlab", *options) as (address, _):
        page.goto(f"{address}/lab/tree/work/start.ipynb?token=secret")
        expect(page.get_by_role("heading", name="The newest runs")).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE)  # else nothing is run
        page.get_by_text("Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        row = page.locator(".jp-OutputArea").get_by_role("row").filter(has_text="search-written")
        expect(row).to_contain_text("finished", timeout=PATIENCE)
        row.get_by_role("link", name="cells").click()
        expect(page.get_by_role("tab", name="cells.svg")).to_be_visible()
        page.get_by_role("tab", name="start.ipynb").click()
        page.locator(".jp-RenderedMarkdown").get_by_role("link", name="search.ipynb").first.click()
        expect(page.get_by_role("heading", name="Search for a cell")).to_be_visible(timeout=PATIENCE)
        page.keyboard.press("Control+s")
        expect(page.get_by_role("tab", name="search.ipynb")).to_be_visible()
    assert {path: path.read_bytes() for path in before} == before


def test_as_a_page_behind_a_token(notebook, page):
    with pictures.server(notebook.parent, "voila", str(notebook), "--token", "--Voila.ip=localhost") as (address, log):
        page.goto(address)
        expect(page.get_by_text("Token authentication is enabled")).to_be_visible()
        (token,) = re.findall(r"\?token=(\w+)", log.read_text(encoding="utf-8"))
        page.goto(f"{address}/?token={token}")
        use_the_inspectors(page)
