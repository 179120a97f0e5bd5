"""The HTML report of a profile: what is in the page, and that nothing of a trace can get out of its place."""

import asyncio
import base64
import copy
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import picante
from picante.__main__ import main
from picante.profile import Profiler
from picante.report import TraceError, checked, read_trace, render, write_report
from tests.traces import made_up, query

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&\u202e\x00\ud800<!--"
VOID = {"meta", "link", "input", "img", "br"}


class Elements(HTMLParser):
    """The elements of a page with their attributes and texts; complains of what is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(trace: dict[str, Any]) -> str:
    return render(checked(trace))


def data_in(page: str) -> Any:
    found = re.search(r'id="data" data-form="(\w+)">([^<]*)</script>', page)
    assert found is not None
    if found[1] == "json":
        return json.loads(found[2])
    return json.loads(zlib.decompress(base64.b64decode(found[2])))


def texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(made_up(60))


# --- What is in the page ------------------------------------------------------------------------------


def test_a_page_is_well_formed_and_every_reference_leads_somewhere(page: str) -> None:
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.found:
        for name in ("aria-labelledby", "aria-describedby", "for", "list"):
            assert attributes.get(name, ids[0]) in ids, attributes
        if (target := attributes.get("href")) is not None:
            assert target[:1] == "#"
            assert target[1:] in ids
    script = elements.texts["script"][-1]
    made_by_the_script = {"longest", "queries", "inputs"}
    assert set(re.findall(r'\$\("([\w-]+)"\)', script)) <= {*ids, *made_by_the_script}


def test_a_page_needs_nothing_else_and_allows_nothing_else(page: str) -> None:
    elements = Elements(page)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in elements.found
    }
    for _, attributes in elements.found:
        assert not {"src", "srcset", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\((?!#)", page)
    [policy] = [
        each["content"] for each in elements.all("meta") if each.get("http-equiv") is not None
    ]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy

    def allowed(text: str) -> bool:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'" in policy

    assert allowed(elements.texts["script"][-1])
    assert allowed(elements.texts["style"][0])
    kinds = [each.get("type") for each in elements.all("script")]
    assert kinds == ["application/json", None]


def test_tables_advice_and_graph_can_be_read_without_scripts(page: str) -> None:
    elements = Elements(page)
    texts = elements.texts
    for part in ("build.py", "Advice", "Queries", "Runs", "Graph"):
        assert part in {*texts["h1"], *texts["h2"]}
    assert any(each.startswith("parse() ran 40 times") for each in texts["p"])
    assert {"parse", "render", "words", "build", "Page"} <= set(texts["th"])
    assert any(each.endswith(") had changed") for each in texts["td"])
    assert any("were caused by a change of" in each for each in texts["title"])
    assert "Scripts are off" in texts["p"][-1] + "".join(texts["p"])
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    assert ET.fromstring(svg).get("role") == "group"


def test_the_scripts_get_all_that_was_recorded() -> None:
    trace = made_up(60)
    found = data_in(page_of(trace))
    raw = trace["picante"]
    assert len(found["runs"]["node"]) == 60
    assert found["runs"]["cause"] == raw["runs"]["cause"]
    assert found["nodes"]["label"] == raw["nodes"]["label"]
    assert found["runs"]["start"] == [round(each, 1) for each in raw["runs"]["start"]]
    assert "key" not in found["nodes"]


def test_a_large_page_is_compressed(tmp_path: Path) -> None:
    trace = made_up(4000)
    write_report(trace, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert 'data-form="deflate"' in page
    found = data_in(page)
    assert found["runs"]["node"] == trace["picante"]["runs"]["node"]
    assert len(page) < len(json.dumps(trace["picante"])) / 2


def test_figures_of_advice_have_units_and_all_their_digits() -> None:
    trace = made_up(10)
    trace["picante"]["advice"][0]["numbers"] = {"failures": 1234, "total": 0.00132, "run": 2e-6}
    figures = Elements(page_of(trace)).texts["dd"]
    assert {"1,234", "1.32 ms", "2.00 µs"} <= set(figures)


def test_dropped_events_are_announced() -> None:
    trace = made_up(10)
    assert "Incomplete:" not in page_of(trace)
    trace["picante"]["dropped"] = 7
    assert "Incomplete:</strong> 7 of 57 events" in page_of(trace)


def test_an_empty_profile_has_a_page() -> None:
    trace = made_up(10)
    raw = trace["picante"]
    for name in ("nodes", "runs", "steps", "edges", "changes", "revisions"):
        raw[name] = {each: [] for each in raw[name]}
    raw |= {"queries": [], "errors": [], "advice": [], "tracks": [], "duration": 0, "totals": {}}
    elements = Elements(page_of(trace))
    assert "Nothing ran." in elements.texts["p"]
    assert any(each.startswith("No query ran") for each in elements.texts["p"])
    assert '<body class="no-runs no-queries">' in page_of(trace)


def test_what_is_not_known_is_left_empty() -> None:
    trace = made_up(10)
    raw = trace["picante"]
    raw["totals"]["saved"] = None
    raw["queries"][0]["saved"] = raw["queries"][0]["own"] = None
    elements = Elements(page_of(trace))
    assert "" in elements.texts["td"]
    assert data_in(page_of(trace))["queries"][0]["saved"] is None


# --- Whatever a trace says ----------------------------------------------------------------------------


def test_texts_of_a_trace_stay_texts() -> None:
    trace = made_up(40)
    raw = trace["picante"]
    raw["title"] = raw["created"] = HOSTILE
    raw["machine"] = {HOSTILE: HOSTILE}
    raw["queries"][0] |= {"name": HOSTILE, "short": HOSTILE}
    raw["queries"].append(query(HOSTILE, "input"))
    raw["nodes"]["label"] = [HOSTILE + each for each in raw["nodes"]["label"]]
    for name in ("outcomes", "reasons", "reason_texts", "change_kinds"):
        raw[name] = [HOSTILE] * len(raw[name])
    raw["errors"] = [[0, HOSTILE]]
    for track in raw["tracks"]:
        track["name"] = HOSTILE
    for each in raw["advice"]:
        each |= {"kind": HOSTILE, "text": HOSTILE, "numbers": {HOSTILE: 1}}
    page = page_of(trace)
    harmless = Elements(page_of(made_up(40)))
    elements = Elements(page)
    assert {tag for tag, _ in elements.found} == {tag for tag, _ in harmless.found}
    assert len(elements.all("script")) == 2
    assert elements.texts["script"][1] == harmless.texts["script"][1]
    assert not re.search("[\x00\u202e\ud800]", page)
    page.encode()
    shown = (
        HOSTILE.replace("\u202e", "\\u202e").replace("\x00", "\\x00").replace("\ud800", "\\ud800")
    )
    assert elements.texts["h1"] == [shown]
    assert all(text.isprintable() for text in texts_in(data_in(page)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), []),
        (("version",), 2),
        (("queries",), {}),
        (("queries", 0), "x"),
        (("queries", 0, "name"), 5),
        (("queries", 0, "runs"), -1),
        (("queries", 0, "runs"), 1.5),
        (("queries", 0, "own"), float("nan")),
        (("queries", 0, "size"), "big"),
        (("nodes", "query", 0), 99),
        (("nodes", "label", 0), None),
        (("nodes", "label"), []),
        (("runs", "node", 0), -1),
        (("runs", "node", 0), True),
        (("runs", "parent", 0), 0),
        (("runs", "track", 0), 3),
        (("runs", "start", 0), "0"),
        (("runs", "start", 0), 10**400),
        (("runs", "start", 0), float("inf")),
        (("runs", "own", 0), -5.0),
        (("runs", "outcome", 0), 6),
        (("runs", "reason", 0), 5),
        (("runs", "cause", 0), -2),
        (("runs",), None),
        (("steps", "run", 0), 60),
        (("edges", "dep", 0), 10**6),
        (("edges", "count"), [1]),
        (("changes", "kind"), [0, "set"]),
        (("revisions", "time"), None),
        (("reason_texts",), []),
        (("tracks", 0), None),
        (("errors",), [[60, "x"]]),
        (("errors",), [0]),
        (("advice", 0, "query"), 6),
        (("advice", 0, "numbers"), {"n": "1"}),
        (("duration",), -1),
        (("machine",), []),
    ],
    ids=repr,
)
def test_a_trace_that_is_not_as_it_should_be_is_refused(
    place: tuple[str | int, ...], value: object
) -> None:
    trace: Any = made_up(60)
    target = trace
    for each in ("picante", *place)[:-1]:
        target = target[each]
    target[("picante", *place)[-1]] = value
    with pytest.raises(TraceError):
        checked(trace)


def test_more_than_version_one_had_is_left_out() -> None:
    trace = made_up(10)
    more = copy.deepcopy(trace)
    more["picante"]["later"] = more["later"] = {"a": HOSTILE}
    more["picante"]["runs"]["later"] = [1]
    more["picante"]["queries"][0]["later"] = HOSTILE
    assert checked(more) == checked(trace)


# --- On the command line --------------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["report", *map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_makes_the_page_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = made_up(20)
    (tmp_path / "trace.json").write_text(json.dumps(trace))
    assert shown(capsys, tmp_path / "trace.json", "-o", tmp_path / "page.html") == (0, "", "")
    assert (tmp_path / "page.html").read_text() == page_of(trace)
    code, out, _ = shown(capsys, tmp_path / "trace.json", "-o", "-")
    assert (code, out) == (0, page_of(trace))
    assert read_trace(tmp_path / "trace.json") == checked(trace)


def test_what_is_no_trace_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.json"

    def refused(code: int, content: str | None = None) -> str:
        if content is not None:
            path.write_text(content)
        ended, out, err = shown(capsys, path, "-o", tmp_path / "page.html")
        assert (ended, out) == (code, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert not (tmp_path / "page.html").exists()
        return err

    assert "There is no file" in refused(2)
    assert "it is no JSON" in refused(1, "{")
    assert "was not written by picante's profiler" in refused(1, '{"traceEvents": []}')
    assert "NaN is no number" in refused(1, '{"picante": {"version": NaN}}')
    assert "its version is 7" in refused(1, '{"picante": {"version": 7}}')
    assert "nested too deeply" in refused(1, "[" * 100_000)
    path.unlink()
    path.mkdir()
    assert "cannot be read" in refused(2)
    assert shown(capsys, "a\0b", "-o", tmp_path / "page.html")[0] == 2


# --- From the profiler ------------------------------------------------------------------------------------


class Note(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]


@picante.tracked
async def length(db: picante.Database, note: Note) -> int:
    text = note.text(db)
    if not text:
        raise ValueError("empty </script>")
    return len(text)


@picante.tracked
async def longest(db: picante.Database) -> int:
    return max(await length.map(db, Note.all(db)))


async def profiled() -> Profiler:
    db = picante.Database()
    notes = [Note(db, f"<{i}>", "x" * (i + 1)) for i in range(4)]
    with Profiler(db, title="notes & <more>", sizes=True) as profile:
        await longest(db)
        notes[0].set(db, text="y")
        await longest(db)
        notes[3].set(db, text="")
        with pytest.raises(ValueError, match="empty"):
            await longest(db)
        notes[1].remove(db)
    return profile


def test_the_page_of_a_profile_is_that_of_its_trace_file(tmp_path: Path) -> None:
    profile = asyncio.run(profiled())
    profile.report(tmp_path / "report.html")
    profile.to_chrome_trace(tmp_path / "trace.json")
    page = (tmp_path / "report.html").read_text()
    assert page == render(read_trace(tmp_path / "trace.json"))
    elements = Elements(page)
    assert elements.texts["h1"] == ["notes & <more>"]
    found = data_in(page)
    labels, runs = found["nodes"]["label"], found["runs"]
    ran = [labels[node] for node in runs["node"]]
    assert [each for each in ran if each == "longest()"] == ["longest()"] * 2
    again = next(
        i for i, each in enumerate(ran) if each == 'length(Note("<0>"))' and runs["cause"][i] >= 0
    )
    assert labels[runs["cause"][again]] == 'Note("<0>").text'
    assert found["outcomes"][runs["outcome"][again]] == "equal"
    assert [text for _, text in found["errors"]] == ["ValueError: empty </script>"] * 2
    kinds = [found["change_kinds"][kind] for kind in found["changes"]["kind"]]
    assert kinds == ["set", "set", "removed"]
    assert {query["short"]: query["kind"] for query in found["queries"]}["length"] == "query"
    assert "data-key=size" in page
