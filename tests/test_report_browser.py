"""The HTML report in a browser: light and dark, by keyboard, without a network, with 100,000 runs."""

import json
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import picante
from picante.debug import DependencyGraph
from picante.report import write_report
from tests.browser import Page, find
from tests.traces import made_up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find() is None, reason="there is no Chromium here"),
]

READY = "document.documentElement.dataset.ready === 'true'"
NAME = """(element => {
  const by = element.getAttribute('aria-labelledby');
  return (element.getAttribute('aria-label') || (by && document.getElementById(by).textContent)
    || (element.labels && element.labels[0]?.textContent) || element.textContent || '').trim();
})"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    # Chromium may write to its folder a moment longer than it lives.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Page(Path(folder)) as page,
    ):
        yield page


@pytest.fixture
def report(page: Page, tmp_path: Path) -> Iterator[Page]:
    write_report(made_up(300), tmp_path / "report.html")
    page.errors.clear()
    page.look()
    page.open(tmp_path / "report.html", ready=READY)
    yield page
    assert not page.errors
    assert page.requests == [(tmp_path / "report.html").as_uri()]


def pixel_rows(png: bytes) -> Iterator[bytes]:
    """The rows of a PNG with 8 bits a channel and without interlace, as Chromium makes them."""
    at, packed = 8, b""
    while at < len(png):
        [size] = struct.unpack_from(">I", png, at)
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, _, depth, colour, *_ = struct.unpack(">IIBBBBB", content)
            assert depth == 8
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            packed += content
        at += size + 12
    data = zlib.decompress(packed)
    stride = width * channels
    above = bytearray(stride)
    for start in range(0, len(data), stride + 1):
        filtered, row = data[start], bytearray(data[start + 1 : start + 1 + stride])
        for i in range(stride):
            left = row[i - channels] if i >= channels else 0
            corner = above[i - channels] if i >= channels else 0
            if filtered == 1:
                row[i] = (row[i] + left) & 255
            elif filtered == 2:
                row[i] = (row[i] + above[i]) & 255
            elif filtered == 3:
                row[i] = (row[i] + (left + above[i]) // 2) & 255
            elif filtered == 4:
                guess = left + above[i] - corner
                near = min((left, above[i], corner), key=lambda each: abs(guess - each))
                row[i] = (row[i] + near) & 255
        above = row
        yield bytes(row)


def brightness(page: Page) -> float:
    """The mean of all channels of a screenshot, 0 to 255."""
    page.settle()
    total = n = 0
    for row in pixel_rows(page.picture()):
        total += sum(row)
        n += len(row)
    return total / n


def test_the_page_is_light_or_dark_as_the_system_says_and_the_button_overrules(
    report: Page,
) -> None:
    report.look(width=500, height=400)
    light = brightness(report)
    report.look(dark=True, width=500, height=400)
    dark = brightness(report)
    assert light > 190
    assert dark < 110
    press = "document.getElementById('theme').click()"
    report.run(press)
    assert report.run("document.getElementById('theme').textContent") == "Theme: light"
    assert brightness(report) > 190
    report.run(press)
    report.look(dark=False, width=500, height=400)
    assert brightness(report) < 110
    report.run(press)
    assert brightness(report) > 190


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_from_what_is_behind_them(report: Page, dark: bool) -> None:
    report.look(dark=dark)
    report.settle()
    # The contrast after WCAG 2: at least 4.5 for text.
    found = report.run("""(() => {
      const channels = text => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map(each => each / 255)
        .map(each => each <= .04045 ? each / 12.92 : ((each + .055) / 1.055) ** 2.4)
        .reduce((sum, each, i) => sum + each * [.2126, .7152, .0722][i], 0);
      const behind = element => {
        for (let each = element; each; each = each.parentElement) {
          const colour = channels(getComputedStyle(each).backgroundColor);
          if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
      };
      const bad = [];
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('svg')) continue;
        if (element.disabled) continue;
        const [a, b] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (contrast < 4.5) bad.push([walker.currentNode.data, contrast]);
      }
      return bad;
    })()""")
    assert found == []


def test_everything_can_be_reached_by_keyboard_and_has_a_name(report: Page) -> None:
    report.run("document.body.focus()")
    seen: list[str] = []
    for _ in range(200):
        report.press("Tab")
        where = report.run(
            f"(e => e === document.body ? null : [e.tagName, e.id, {NAME}(e), "
            "getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        if where is None:
            break
        tag, name, said, outline = where
        assert said, where
        assert outline != "none" or tag == "g", where
        seen.append(name or said)
    for wanted in (
        "theme",
        "zoom-in",
        "colour",
        "highlight",
        "runs",
        "filter-queries",
        "page-next",
    ):
        assert wanted in seen
    assert seen[0] == "Skip to the content"
    assert seen.index("theme") < seen.index("runs") < seen.index("filter-runs")
    wanted = report.run(
        "[...document.querySelectorAll('main button, main input, main select, main [tabindex]')]"
        ".filter(e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0).length"
    )
    assert len(seen) >= wanted


def test_keys_move_through_the_timeline(report: Page) -> None:
    def selected() -> int:
        found: int = report.run("picanteReport.model.selected")
        return found

    def view() -> list[float]:
        found: list[float] = report.run("[picanteReport.timeline.from, picanteReport.timeline.to]")
        return found

    report.run("document.getElementById('runs').focus()")
    report.press("ArrowRight")
    first = selected()
    assert first >= 0
    report.press("ArrowRight")
    second = selected()
    starts = report.run("picanteReport.model.runs.start")
    assert starts[second] > starts[first]
    report.press("ArrowLeft")
    assert selected() == first
    # A run that asked for another one.
    parents = report.run("picanteReport.model.runs.parent")
    parent = next(each for each in parents if each >= 0)
    report.run(f"picanteReport.model.select({parent}, 'test')")
    report.press("ArrowDown")
    child = selected()
    assert parents[child] == parent
    label = report.run(f"picanteReport.model.label(picanteReport.model.runs.node[{child}])")
    assert label in report.run("document.getElementById('said').textContent")
    assert label == report.run("document.querySelector('#details h3').textContent")
    report.press("ArrowUp")
    assert selected() == parent
    report.press("0")
    whole = view()
    assert whole[0] == 0
    report.press("+")
    assert view()[1] - view()[0] == pytest.approx((whole[1] - whole[0]) / 2)
    before = view()
    report.press("ArrowRight", shift=True)
    assert view()[0] > before[0]
    report.press("Home")
    assert view()[0] == 0
    report.press("z")
    assert view()[1] - view()[0] < whole[1] / 4
    report.press("Enter")
    assert report.run("document.activeElement.closest('#details') !== null")
    report.run("document.getElementById('runs').focus()")
    report.press("Escape")
    assert selected() == -1


def test_the_pointer_shows_selects_drags_and_zooms(report: Page) -> None:
    report.run("document.getElementById('timeline').scrollIntoView({behavior: 'instant'})")
    report.settle()
    x, y, run = report.run("""(() => {
      const t = picanteReport.timeline, box = t.canvas.getBoundingClientRect();
      const list = t.rowRuns[0];
      const run = [...list].reduce((a, b) => t.model.runs.duration[a] > t.model.runs.duration[b] ? a : b);
      return [box.left + t.x(t.model.runs.start[run] + t.model.runs.duration[run] / 2), box.top + t.rowY[0] + 5, run];
    })()""")
    report.mouse("mouseMoved", x, y)
    label = report.run(f"picanteReport.model.label(picanteReport.model.runs.node[{run}])")
    assert report.run("document.getElementById('tip').hidden") is False
    assert label in report.run("document.getElementById('tip').textContent")
    report.click(x, y)
    assert report.run("picanteReport.model.selected") == run
    span = "picanteReport.timeline.to - picanteReport.timeline.from"
    before = report.run(span)
    report.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300, modifiers=2)
    report.wait(f"{span} < {before} * 0.6")
    assert report.run("Math.abs(picanteReport.timeline.x(picanteReport.timeline.at(77)) - 77)") < 1
    start = report.run("picanteReport.timeline.from")
    report.mouse("mousePressed", x, y, button="left", clickCount=1, buttons=1)
    report.mouse("mouseMoved", x - 100, y, button="left", buttons=1)
    report.mouse("mouseReleased", x - 100, y, button="left", clickCount=1)
    assert report.run("picanteReport.timeline.from") > start
    report.run("document.getElementById('zoom-all').click()")
    assert report.run("picanteReport.timeline.from") == 0


def test_tables_are_sorted_and_filtered(report: Page) -> None:
    def column(table: str, n: int) -> list[str]:
        found: list[str] = report.run(
            f"[...document.querySelectorAll('#{table} tbody tr')].filter(row => !row.hidden)"
            f".map(row => row.cells[{n}].textContent)"
        )
        return found

    assert set(column("queries", 0)) == {"build", "render", "parse", "words"}
    report.run("document.querySelector('#queries th button').click()")
    assert column("queries", 0) == ["build", "parse", "render", "words"]
    report.run("document.querySelector('#queries th:nth-child(6) button').click()")
    runs = [int(each) for each in column("queries", 5)]
    assert runs == sorted(runs, reverse=True)
    sort = "document.querySelector('#queries th:nth-child(6)').getAttribute('aria-sort')"
    assert report.run(sort) == "descending"
    report.run(
        "document.getElementById('filter-queries').value = 'ars';"
        "document.getElementById('filter-queries').dispatchEvent(new Event('input'))"
    )
    report.wait("document.getElementById('n-queries').value === '1 of 6'")
    assert column("queries", 0) == ["parse"]

    assert report.run("document.getElementById('page').value") == "1 to 25 of 300"
    report.run("document.getElementById('page-last').click()")
    assert report.run("document.getElementById('page').value") == "276 to 300 of 300"
    report.run("document.querySelector('#queries tbody button').click()")
    assert all(each.startswith("parse(") for each in column("longest", 0))
    why: list[str] = report.run(
        "[...document.querySelectorAll('#why li')].map(each => each.textContent)"
    )
    assert {each.partition(" ")[2] for each in why} == {
        "because it had never been computed",
        "because words had changed",
    }
    assert sum(int(each.partition(" ")[0]) for each in why) == report.run(
        "picanteReport.table.order.length"
    )
    failed = (
        "[...document.getElementById('runs-outcome').options].find(o => o.text === 'failed').value"
    )
    report.run(
        f"document.getElementById('runs-query').value = -1;"
        f"document.getElementById('runs-outcome').value = {failed};"
        "document.getElementById('runs-outcome').dispatchEvent(new Event('change'))"
    )
    assert set(column("longest", 1)) == {"failed"}
    report.run("document.querySelector('#longest tbody button').click()")
    report.wait("document.activeElement.id === 'details'")  # it stands far above the table
    assert "has no title" in report.run("document.getElementById('details').textContent")


def test_a_run_of_the_table_is_shown_and_leads_back_to_its_row(report: Page) -> None:
    first = "document.querySelector('#longest tbody button')"
    report.run(f"{first}.focus()")
    report.press("Enter")
    heading = "document.querySelector('#details h3').getBoundingClientRect()"
    report.wait(f"(({{top, bottom}}) => 0 <= top && bottom <= innerHeight)({heading})")
    back = "[...document.querySelectorAll('#details button')].find(b => b.textContent === 'back to the table')"
    for _ in range(6):
        report.press("Tab")
        if report.run(f"document.activeElement === {back}"):
            break
    report.press("Enter")
    assert report.run(f"document.activeElement === {first}")
    report.run("document.getElementById('runs').focus()")
    report.press("ArrowRight")
    assert not report.run(f"Boolean({back})")  # it was not the table that selected


def test_a_run_leads_back_to_the_change_that_made_it_necessary(page: Page, tmp_path: Path) -> None:
    trace = made_up(3, n_tracks=1)
    raw = trace["picante"]
    raw["queries"] = raw["queries"][:2] + raw["queries"][4:5]
    raw["nodes"] = {
        "query": [0, 1, 2, 2],
        "key": ["", "", "", ""],
        "label": ["site()", "title()", "Page('a').text", "Page('a')"],
    }
    raw["runs"] = {
        "node": [1, 0],
        "parent": [-1, -1],
        "track": [0, 0],
        "start": [10.0, 20.0],
        "duration": [5.0, 5.0],
        "own": [5.0, 5.0],
        "total": [5.0, 5.0],
        "waiting": [0.0, 0.0],
        "outcome": [0, 1],
        "reason": [1, 1],
        "cause": [2, 1],
        "revision": [7, 7],
    }
    raw["steps"] = {"run": [], "start": [], "duration": []}
    raw["edges"] = {"reader": [0, 1], "dep": [1, 2], "count": [1, 1]}
    raw["changes"] = {
        "time": [1.0, 2.0, 3.0, 30.0],
        "kind": [0, 1, 0, 0],
        "node": [3, 3, 3, 3],
        "revision": [6, 6, 7, 8],
    }
    raw["errors"], raw["advice"] = [], []
    write_report(trace, tmp_path / "report.html")
    page.open(tmp_path / "report.html", ready=READY)
    page.run("picanteReport.model.select(1, 'test')")
    assert page.run(
        "[...document.querySelectorAll('#details .chain li')].map(each => each.textContent)"
    ) == [
        "this run: something that it read had changed",
        "title() gave new: something that it read had changed",
        "Page('a') set at 3.00 µs, revision 7",
    ]
    around = "[...document.querySelectorAll('#around .box')].map(each => each.getAttribute('aria-label').split(',')[0])"
    assert page.run(around) == ["site()", "title()"]
    page.run("document.querySelectorAll('#around .box')[1].focus()")
    page.press("Enter")
    assert page.run("picanteReport.model.selected") == 0
    assert page.run(around) == ["title()", "site()", "Page('a').text"]
    assert not page.errors


def test_hostile_texts_run_nothing(page: Page, tmp_path: Path) -> None:
    trace = made_up(40)
    hostile = "</script><img src=x onerror='window.harmed = 1'><script>window.harmed = 2</script>"
    raw = trace["picante"]
    raw["title"] = hostile
    raw["nodes"]["label"] = [hostile] * len(raw["nodes"]["label"])
    raw["queries"][0]["name"] = raw["queries"][0]["short"] = hostile
    raw["reason_texts"] = [hostile] * len(raw["reason_texts"])
    raw["errors"] = [[i, hostile] for i in range(40)]
    write_report(trace, tmp_path / "report.html")
    page.errors.clear()
    page.open(tmp_path / "report.html", ready=READY)
    page.run("for (let i = 0; i < 40; i++) picanteReport.model.select(i, 'test')")
    page.run(
        "document.getElementById('find-node').value = '<';"
        "document.getElementById('find-node').dispatchEvent(new Event('change'))"
    )
    page.settle()
    assert page.run("document.querySelector('#details h3').textContent") == hostile
    assert page.run("window.harmed === undefined && document.images.length === 0")
    assert page.requests == [(tmp_path / "report.html").as_uri()]
    assert not page.errors


def test_a_page_can_load_nothing_even_if_it_were_told_to(report: Page) -> None:
    stopped = report.run("""(async () => {
      const tries = [];
      const wait = new Promise(done => document.addEventListener('securitypolicyviolation', done, {once: true}));
      const image = document.createElement('img');
      image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
      document.body.append(image);
      const event = await wait;
      image.remove();
      const script = document.createElement('script');
      script.textContent = 'window.harmed = 1';
      document.body.append(script);
      return [event.violatedDirective, window.harmed === undefined];
    })()""")
    assert stopped == ["img-src", True]
    report.settle()
    assert len(report.errors) == 2  # the browser says so in its console
    report.errors.clear()
    assert [each.partition(":")[0] for each in report.requests] == ["file", "data"]
    report.requests.pop()


def test_it_fits_a_narrow_window(report: Page) -> None:
    report.look(width=360, height=740)
    report.settle()
    assert report.run("document.documentElement.scrollWidth") <= 360
    assert report.run("document.getElementById('runs').clientWidth") > 250


def test_without_scripts_the_tables_are_there(page: Page, tmp_path: Path) -> None:
    write_report(made_up(60), tmp_path / "report.html")
    page.look()
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(tmp_path / "report.html")
        page.ask("Emulation.setScriptExecutionDisabled", value=False)
        assert page.run("document.querySelector('noscript').checkVisibility()")
        assert not page.run("document.getElementById('timeline').checkVisibility()")
        assert page.run("document.querySelectorAll('#longest tbody tr').length") == 25
        assert page.run("document.querySelector('#overview').checkVisibility()")
    finally:
        page.ask("Emulation.setScriptExecutionDisabled", value=False)


def test_a_hundred_thousand_runs(page: Page, tmp_path: Path) -> None:
    trace = made_up(100_000)
    path = tmp_path / "report.html"
    write_report(trace, path)
    assert path.stat().st_size < 8 << 20
    page.errors.clear()
    page.look()
    page.open(path, ready=READY)
    assert page.run("document.getElementById('page').value") == "1 to 25 of 100,000"
    # Whatever the zoom, one picture has at most a few rectangles for each pixel.
    for _ in range(12):
        drawn = page.run("""(() => {
          const t = picanteReport.timeline;
          let n = 0;
          const fill = CanvasRenderingContext2D.prototype.fillRect;
          CanvasRenderingContext2D.prototype.fillRect = function (...a) { n++; return fill.apply(this, a); };
          try { t.draw(); } finally { CanvasRenderingContext2D.prototype.fillRect = fill; }
          return n / (t.width * t.rowY.length);
        })()""")
        assert drawn < 4
        page.run("document.getElementById('zoom-in').click()")
    page.run("document.getElementById('runs').focus()")
    for _ in range(20):
        page.press("ArrowRight")
    assert page.run("picanteReport.model.selected") >= 0
    page.run(
        "document.getElementById('filter-runs').value = 'chapter-77.';"
        "document.getElementById('filter-runs').dispatchEvent(new Event('input'))"
    )
    page.wait("!document.getElementById('page').value.endsWith('100,000')")
    assert not page.errors
    assert page.requests == [path.as_uri()]


# --- The pictures of picante.debug --------------------------------------------------------------------


class Note(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]


@picante.tracked
async def length(db: picante.Database, note: Note) -> int:
    return len(note.text(db))


@picante.tracked
async def longest(db: picante.Database) -> int:
    return max([await length(db, note) for note in Note.all(db)])


async def test_the_graph_of_a_database_is_drawn_in_light_and_dark(
    page: Page, tmp_path: Path
) -> None:
    db = picante.Database()
    for name in ("a.md", "<b>&\"'.md", "c" * 100):
        Note(db, path=name, text="x")
    await longest(db)
    path = tmp_path / "graph.svg"
    DependencyGraph.from_runtime(db.runtime, db).write_svg(path)
    page.errors.clear()
    pictures: list[Any] = []
    for dark in (False, True):
        page.look(dark=dark, width=900, height=300)
        page.open(path)
        pictures.append(brightness(page))
        boxes = page.run("""[...document.querySelectorAll('g:not(.edge) > rect')].map(each => {
          const text = each.parentNode.querySelector('text').getBoundingClientRect();
          const box = each.getBoundingClientRect();
          return text.left >= box.left && text.right <= box.right && text.top >= box.top && text.bottom <= box.bottom;
        })""")
        assert len(boxes) == 10  # with the legend
        assert all(boxes)
    assert pictures[0] > 190
    assert pictures[1] < 110
    assert not page.errors
    assert json.dumps(page.requests) == json.dumps([path.as_uri()] * len(page.requests))
