"""What the candidates' table and histograms do in a real Chromium, without a kernel: their scripts alone on a page."""

import base64
import re

import pictures
import pytest
from playwright.sync_api import expect
from written_run import write_run

from setn_lab.inspection.reading import InspectConfig
from setn_lab.widgets import CandidatesInspector

CANDIDATES = 25
PAGE = 10  # rows

pytestmark = pytest.mark.skipif(
    pictures.CHROMIUM is None, reason="needs Chromium: install it (apt-get install chromium)"
)

# A widget's script with a model of its own, whose values tests read and set; `said` is what it was told last.
RENDER = """async ([script, values]) => {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" })), heard = {};
  if (values.png) values.png = Uint8Array.from(atob(values.png), (one) => one.charCodeAt(0));
  window.model = {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; (heard["change:" + name] ?? []).forEach((hear) => hear()); },
    on: (name, hear) => { (heard[name] ??= []).push(hear); },
    save_changes: () => {},
  };
  document.body.innerHTML = "<div></div>";
  (await import(url)).default.render({ model: window.model, el: document.body.firstChild });
}"""


@pytest.fixture(scope="module")
def page():
    with pictures.browser() as page:
        yield page


@pytest.fixture
def inspector(tmp_path):
    return CandidatesInspector(InspectConfig(run_dir=str(write_run(tmp_path / "run", nodes=1, candidates=CANDIDATES))))


def show(page, widget, *names):
    values = {name: getattr(widget, name) for name in names}
    if "png" in values:
        values["png"] = base64.b64encode(values["png"]).decode()
    page.evaluate(RENDER, [str(widget._esm), values])


def show_table(page, inspector):
    (table,) = inspector.table.children
    show(page, table, "caption", "classes", "selected_rows", "_style", "_dt_args")
    return page.locator("tbody tr")


def ranks(rows):
    return [int(row.locator("td").first.inner_text()) for row in rows.all()]


def test_the_table_is_full_sorts_by_its_titles_and_is_picked_from_by_mouse_and_keys(page, inspector):
    rows = show_table(page, inspector)
    expect(rows).to_have_count(PAGE)
    assert ranks(rows) == list(range(1, PAGE + 1))
    place = inspector.scored.table["rank"].tolist().index
    rows.nth(3).click()
    assert page.evaluate("model.get('selected_rows')") == [place(4)]
    for key, row in (("Enter", 1), (" ", 6)):
        rows.nth(row).focus()
        page.keyboard.press(key)
        assert page.evaluate("model.get('selected_rows')") == [place(row + 1)]
    page.get_by_role("columnheader", name="rank").get_by_text("rank").click()
    expect(rows.first.locator("td").first).to_have_text(str(CANDIDATES))
    page.get_by_role("columnheader", name="accuracy").get_by_text("accuracy").click()
    shown = [float(row.locator("td").nth(2).inner_text()) for row in rows.all()]
    assert shown == sorted(inspector.table.df["accuracy [%]"])[:PAGE]


def test_what_is_picked_elsewhere_is_paged_to(page, inspector):
    rows = show_table(page, inspector)
    for rank in (CANDIDATES, 1, PAGE + 1):
        page.evaluate(f"model.set('selected_rows', [{inspector.scored.table['rank'].tolist().index(rank)}])")
        expect(page.locator("tr.selected td").first).to_have_text(str(rank))
    assert ranks(rows) == list(range(PAGE + 1, 2 * PAGE + 1))


def test_a_table_that_is_read_again_keeps_order_and_page_and_is_still_picked_from(page, inspector):
    rows = show_table(page, inspector)
    page.get_by_role("columnheader", name="rank").get_by_text("rank").click()
    page.get_by_role("button", name="Next").or_(page.get_by_role("link", name="Next")).click()
    before = list(range(CANDIDATES - PAGE, CANDIDATES - 2 * PAGE, -1))
    expect(rows.first.locator("td").first).to_have_text(str(before[0]))
    frame = inspector.table.df.copy()
    frame["draws"] = 7
    (old,) = inspector.table.children
    inspector.table.update(frame, selected_rows=[inspector.scored.winner])
    assert inspector.table.children != (old,)
    rows = show_table(page, inspector)
    assert ranks(rows) == before
    assert {row.locator("td").nth(4).inner_text() for row in rows.all()} == {"7"}
    rows.nth(2).click()
    picked = inspector.scored.table["rank"].tolist().index(before[2])
    assert page.evaluate("model.get('selected_rows')") == [picked]


def test_the_histograms_are_a_slider_over_their_bars(page, inspector):
    show(page, inspector.image, "png", "alt", "bars", "clicked")
    (bars,) = page.get_by_role("slider", name=inspector.image.alt).all()
    expect(page.get_by_alt_text(inspector.image.alt)).to_be_visible()
    told = [words for _, _, words in inspector.image.bars]
    page.keyboard.press("Tab")
    expect(bars).to_be_focused()
    place = 0
    for key, step in (("ArrowRight", 1), ("ArrowRight", 1), ("ArrowLeft", -1), ("End", len(told)), ("ArrowRight", 1)):
        page.keyboard.press(key)
        place = min(place + step, len(told) - 1)
        expect(bars).to_have_attribute("aria-valuetext", told[place])
    for number in (1, 2):  # the same bar again is a click again
        page.keyboard.press("Enter")
        x, y, count = page.evaluate("model.get('clicked')")
        assert (x, y) == pytest.approx(inspector.image.bars[-1][:2])
        assert count == number
    inspector.image.clicked = [x, y, float(count)]
    assert inspector.note.value.startswith(told[-1])
    page.get_by_alt_text(inspector.image.alt).click(position={"x": 1, "y": 1})
    assert page.evaluate("model.get('clicked')")[2] == 3
    assert re.search(r"^loss .* to .*: \d+ candidates?$", told[-1])
