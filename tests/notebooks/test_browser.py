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

expect.set_options(timeout=PATIENCE)  # all inspectors of a page draw in one kernel, one after the other

pytestmark = pytest.mark.skipif(
    pictures.CHROMIUM is None, reason="needs Chromium: install it (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A checkout's notebooks with one finished run, the inspectors' notebook of that run, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("browser")
    for name in ("notebooks", "reports", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("runs"))
    run = write_run(folder / "reports" / "runs" / "search-written", EPOCHS, CANDIDATES)
    (run / "environment.json").write_text('{"kind": "search"}', encoding="utf-8")
    report.save(report.SearchRun.read(run))
    workbench.refresh(folder)
    pictures.prepare(run, folder)
    settings = folder / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lab(root, light_python):
    """The address of a JupyterLab for all tests here."""
    options = ["--allow-root", "--ServerApp.token=secret", f"--ServerApp.root_dir={root}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SETN_LAB_RUNS", str(root / "reports" / "runs"))
        with pictures.server(root, "jupyterlab", *options) as (address, _):
            yield address


@pytest.fixture
def page():
    with pictures.browser() as page:
        yield page


def run_all(page, lab, path, heading):
    """Open a notebook in a workspace of its own and run it."""
    workspace = re.sub(r"\W", "-", path)
    page.goto(f"{lab}/lab/workspaces/{workspace}/tree/{path}?token=secret")
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()  # else nothing is run
    page.get_by_text("Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()


# What a screen reader has no name for: ipywidgets' own labels stand beside a control; its player's buttons have none.
NAMELESS = """() => [...document.querySelectorAll(
  ".jupyter-widgets button, .jupyter-widgets select, .jupyter-widgets input, .jupyter-widgets img, " +
  ".jupyter-widgets [role=slider], .itables_anywidget button, .itables_anywidget input"
)].filter((one) => one.offsetParent && !one.closest(".widget-play") && !(
  one.getAttribute("aria-label") || one.title || one.alt || one.textContent.trim() ||
  [...(one.labels ?? [])].some((label) => label.textContent.trim()) ||
  one.closest(".jupyter-widgets:not(button)").querySelector(":scope > label")?.textContent.trim()
)).map((one) => one.outerHTML.slice(0, 200))"""


def use_the_inspectors(page):
    """Move the slider and pick candidates: what is shown follows, and no message stands anywhere."""
    picture = page.locator(".widget-image").first
    expect(page.locator("select[multiple]")).to_be_attached()  # the last inspector is there
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
    expect(page.get_by_text("the winner", exact=True)).to_be_visible()
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

    bars = page.get_by_role("slider", name="histograms of the candidates' one-shot accuracy and loss")
    bars.focus()
    page.keyboard.press("End")
    expect(bars).to_have_attribute("aria-valuetext", re.compile(r"^loss .* to .*: \d+ candidate"))
    page.keyboard.press("Enter")  # which is the notebook's own key elsewhere
    expect(page.get_by_text(bars.get_attribute("aria-valuetext"))).to_be_visible()
    expect(page.locator(".dt-container tbody tr.selected td").first).to_have_text(str(CANDIDATES))  # on another page
    rows.first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("candidate of rank 11: thick where it differs")).to_be_visible()
    assert page.evaluate(NAMELESS) == []
    assert page.locator(".inspector-message").count() == 0


def test_in_jupyterlab(lab, page):
    run_all(page, lab, "inspect.ipynb", "Inspect a search")
    use_the_inspectors(page)


def test_following_a_run_that_grows(root, lab, page):
    (root / "follow").mkdir()
    whole = write_run(root / "follow" / "whole", 4, 0)
    run = write_run(root / "follow" / "search-growing", 4, 0)
    journals = {
        run / name: (whole / name).read_bytes().splitlines(True) for name in ("metrics.jsonl", "evaluator.jsonl")
    }
    for path, lines in journals.items():
        path.write_bytes(lines[0])
    pictures.prepare(run, root / "follow")
    run_all(page, lab, "follow/inspect.ipynb", "Inspect a search")
    every = page.locator(".widget-image")
    shown = [every.nth(place) for place in range(3)]  # evaluator, samples, runs: no candidate answers a question
    sliders = page.locator(".widget-slider:has-text('epoch')")
    expect(page.locator("select[multiple]")).to_be_attached()  # the last inspector is there
    for button in page.get_by_role("button", name="follow").all():
        button.click()
    epochs = page.locator(".widget-html").get_by_text(re.compile(r"at epoch \d of 4"))
    for epoch in (2, 3, 4):
        before = [str(picture.get_attribute("src")) for picture in shown]
        for path, lines in journals.items():
            with path.open("ab") as file:
                file.write(lines[epoch - 1])
        if epoch < 4:
            expect(epochs).to_contain_text(f"epoch {epoch} of 4")
        for slider in sliders.all():
            expect(slider.locator(".widget-readout")).to_have_text(str(epoch))
            expect(slider.locator(".noUi-handle")).to_have_attribute("aria-valuemax", f"{epoch}.0")
        for picture, old in zip(shown, before, strict=True):
            expect(picture).not_to_have_attribute("src", old)
    assert sliders.count() == 2
    assert every.count() == 3


def test_the_first_page_leads_to_notebooks_and_to_what_runs_have_drawn(root, lab, page):
    before = {path: path.read_bytes() for path in (root / "notebooks").iterdir() if path.is_file()}
    run_all(page, lab, "work/start.ipynb", "The newest runs")
    row = page.locator(".jp-OutputArea").get_by_role("row").filter(has_text="search-written")
    expect(row).to_contain_text("finished")
    row.get_by_role("link", name="cells").click()
    expect(page.get_by_role("tab", name="cells.svg")).to_be_visible()
    page.get_by_role("tab", name="start.ipynb").click()
    page.locator(".jp-RenderedMarkdown").get_by_role("link", name="search.ipynb").first.click()
    expect(page.get_by_role("heading", name="Search for a cell")).to_be_visible()
    page.keyboard.press("Control+s")
    expect(page.get_by_role("tab", name="search.ipynb")).to_be_visible()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.usefixtures("light_python")
def test_as_a_page_behind_a_token(root, page):
    notebook = root / "inspect.ipynb"
    with pictures.server(root, "voila", str(notebook), "--token", "--Voila.ip=localhost") as (address, log):
        page.goto(address)
        expect(page.get_by_text("Token authentication is enabled")).to_be_visible()
        (token,) = re.findall(r"\?token=(\w+)", log.read_text(encoding="utf-8"))
        page.goto(f"{address}/?token={token}")
        use_the_inspectors(page)
