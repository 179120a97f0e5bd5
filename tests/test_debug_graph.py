"""Pictures of the dependency graph: what is in them, ways through them, DOT and SVG, names, counts."""

import itertools
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, strategies as st

import picante
from picante import Dep, DynKey, ForeignDatabaseError, InputIngredient, Key, Runtime
from picante.debug import CacheStats, DependencyGraph, Names
from picante.debug.layout import layered
from picante.debug.names import cells, one_line, shortened
from tests.pages import Page, Strict, count, total, words


async def checked() -> picante.Database:
    db = picante.Database()
    Strict.set(db, on=True)
    Page(db, path="a.md", text="one two")
    Page(db, path="b.md", text="to three")
    assert await total(db) == 3
    return db


def node(number: int, kind: int = 1) -> DynKey:
    return DynKey(kind, Key.encode(number))


def graph_of(reads: dict[int, list[int]]) -> DependencyGraph:
    return DependencyGraph({node(i): [node(j) for j in read] for i, read in reads.items()})


def numbers(keys: Any) -> list[int]:
    return [key.key.decode() for key in keys]


# --- What is in a picture -----------------------------------------------------------------------------


# r[debug.graph]
async def test_a_picture_shows_who_read_what() -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    labelled = {(graph.label(a), graph.label(b)) for a, b in graph.edges}
    assert ("total()", "Strict()") in labelled
    assert ("total()", "Page(*)") in labelled
    assert ("total()", 'count(Page("a.md"), 3)') in labelled
    assert ('count(Page("a.md"), 3)', "Words(('one', 'two'))") in labelled
    assert ('words(Page("b.md"))', 'Page("b.md")') in labelled
    assert len(graph.edges) == graph.n_edges == 10
    assert {graph.label(each) for each in graph} == {label for edge in labelled for label in edge}
    assert graph.revision == db.runtime.current_revision
    assert "10 edges at revision 3" in repr(graph)
    deps = db.runtime.forward_deps()
    for query in graph.nodes:
        assert type(query) is DynKey
        assert graph.dependencies_of(query) == deps.get(query, ())


# r[debug.graph]
async def test_a_root_reads_nothing_and_a_leaf_is_read_by_nobody() -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    assert [graph.label(each) for each in graph.leaf_queries()] == ["total()"]
    assert sorted(map(graph.label, graph.root_queries())) == [
        'Page("a.md")',
        'Page("b.md")',
        "Page(*)",
        "Strict()",
        "Words(('one', 'two'))",
        "Words(('to', 'three'))",
    ]
    [page] = graph.named('Page("a.md")', exact=True)
    assert [graph.label(each) for each in graph.dependents_of(page)] == ['words(Page("a.md"))']
    assert graph.dependencies_of(page) == ()


# r[debug.graph]
async def test_a_picture_stands_still() -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    before = graph.edges
    Page(db, path="c.md", text="another page")
    await total(db)
    assert graph.edges == before
    assert len(DependencyGraph.from_runtime(db.runtime).edges) > len(before)


# r[debug.graph]
async def test_a_snapshot_has_its_own_picture() -> None:
    db = await checked()
    async with await db.snapshot() as snap:
        Page(db, path="c.md", text="another page")
        await total(db)
        graph = DependencyGraph.from_runtime(snap.runtime, snap)
        assert graph.revision == 3
        assert not graph.named("c.md")
        labels = sorted(graph.labels)
        assert 'words(Page("a.md"))' in labels
        assert sorted(DependencyGraph.from_runtime(snap.runtime, db).labels) == labels
    assert len(graph.labels) == len(graph)


# r[debug.graph]
def test_an_empty_database_has_an_empty_picture(tmp_path: Path) -> None:
    graph = DependencyGraph.from_runtime(Runtime())
    assert (graph.nodes, graph.edges, graph.root_queries(), len(graph)) == ((), (), (), 0)
    assert graph.find_paths(node(1), node(2)) == []
    assert parsed_dot(graph.to_dot()) == ({}, [], {})
    graph.write_svg(tmp_path / "empty.svg")
    assert boxes(ET.parse(tmp_path / "empty.svg").getroot()) == {}


async def test_taking_a_picture_inside_a_query_records_nothing() -> None:
    db = await checked()

    @picante.tracked(name="looking")
    async def looking(db: picante.Database) -> int:
        return len(DependencyGraph.from_runtime(db.runtime, db).to_dot())

    assert await looking(db) > 100
    assert not DependencyGraph.from_runtime(db.runtime, db).named("looking")


def test_only_the_runtime_of_the_named_database_is_taken() -> None:
    db = picante.Database()
    with pytest.raises(TypeError, match=r"takes the runtime of a database, `db\.runtime`, not"):
        DependencyGraph.from_runtime(db)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ForeignDatabaseError, match="has another runtime"):
        DependencyGraph.from_runtime(db.runtime, picante.Database())
    with pytest.raises(TypeError, match=r"CacheStats\.collect takes the runtime"):
        CacheStats.collect(db)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="look it up with `named`"):
        DependencyGraph.from_runtime(db.runtime).around("a.md")  # type: ignore[arg-type]  # the mistake


def test_picante_does_not_import_its_debug_tools() -> None:
    code = "import picante, sys; print([m for m in sys.modules if m.startswith('picante.debug')])"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout == "[]\n"


# --- Ways through it ----------------------------------------------------------------------------------


# r[debug.graph]
async def test_the_ways_from_a_query_to_what_it_depends_on() -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    [goal] = graph.named("Words(('one'", exact=False)
    [start] = graph.leaf_queries()
    found = [[graph.label(each) for each in path] for path in graph.find_paths(start, goal)]
    assert found == [["total()", 'count(Page("a.md"), 3)', "Words(('one', 'two'))"]]
    assert graph.find_paths(goal, start) == []
    assert graph.find_paths(start, start) == []
    assert graph.find_paths(start, Dep(goal.kind, goal.key)) == graph.find_paths(start, goal)
    assert graph.find_paths(start, node(99)) == []


# r[debug.graph]
def test_ways_come_shortest_first_and_only_so_many() -> None:
    graph = graph_of({1: [2, 3, 9], 2: [3, 4], 3: [4], 4: [9], 9: []})
    ways = [numbers(way) for way in graph.find_paths(node(1), node(9))]
    assert ways[0] == [1, 9]
    assert [len(way) for way in ways] == [2, 4, 4, 5]
    assert [numbers(way) for way in graph.find_paths(node(1), node(9), max_paths=2)] == ways[:2]
    assert graph.find_paths(node(1), node(9), max_paths=0) == []


# r[debug.graph]
def test_a_detour_around_its_own_beginning_comes_in_its_place() -> None:
    beginning = {0: [1, 7], 1: [6, 2], 2: [1, 3]}
    graph = graph_of(beginning | {3: [4], 4: [5], 5: [6], 7: [8], 8: [9], 9: [10], 10: [6]})
    ways = [numbers(way) for way in graph.find_paths(node(0), node(6))]
    assert ways == [[0, 1, 6], [0, 7, 8, 9, 10, 6], [0, 1, 2, 3, 4, 5, 6]]


def simple_paths(reads: dict[int, list[int]], way: list[int], end: int) -> Iterator[list[int]]:
    if way[-1] == end:
        yield way
    else:
        for child in reads.get(way[-1], []):
            if child not in way:
                yield from simple_paths(reads, [*way, child], end)


# r[debug.graph]
@given(
    st.dictionaries(
        st.integers(0, 6), st.lists(st.integers(0, 6), unique=True, max_size=5), max_size=7
    )
)
def test_the_ways_are_all_simple_ones_cycles_or_not(reads: dict[int, list[int]]) -> None:
    ways = [numbers(way) for way in graph_of(reads).find_paths(node(0), node(6), max_paths=10_000)]
    assert sorted(ways) == sorted(simple_paths(reads, [0], 6))
    assert [len(way) for way in ways] == sorted(len(way) for way in ways)


# r[debug.graph]
def test_long_chains_and_countless_ways_are_no_trouble() -> None:
    n = 10_000
    chain = graph_of({i: [i + 1] for i in range(n)})
    [way] = chain.find_paths(node(0), node(n))
    assert len(way) == n + 1
    assert len(chain.reaching(node(n))) == n + 1
    ladder = graph_of({i: [i + 1, i + 2] for i in range(200)})
    assert len(ladder.find_paths(node(0), node(200), max_paths=50)) == 50
    everything = graph_of({i: list(range(40)) for i in range(40)})
    ways = everything.find_paths(node(0), node(39), max_paths=60)
    assert sorted({len(way) for way in ways}) == [2, 3, 4]


# r[debug.graph]
def test_cycles_made_by_hand_end_nowhere() -> None:
    runtime = Runtime()
    for i in range(5):
        runtime.update_query_deps(node(i), [node((i + 1) % 5), node(i)])
    graph = DependencyGraph.from_runtime(runtime)
    assert [numbers(way) for way in graph.find_paths(node(3), node(2))] == [[3, 4, 0, 1, 2]]
    assert graph.root_queries() == graph.leaf_queries() == ()
    assert len(graph.around(node(0), depth=100)) == 5
    assert len(drawn_edges(ET.fromstring(graph.to_svg()))) == 10
    assert len(parsed_dot(graph.to_dot())[1]) == 10


# --- Parts of it --------------------------------------------------------------------------------------


# r[debug.graph]
async def test_parts_of_a_picture_keep_their_edges_and_names() -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    [page] = graph.named('Page("a.md")', exact=True)
    [query] = graph.named('count(Page("a.md"), 3)', exact=True)

    def labels(part: DependencyGraph) -> list[str]:
        assert set(part.edges) == {(a, b) for a, b in graph.edges if a in part and b in part}
        assert part.revision == graph.revision
        return sorted(part.labels)

    near = ['Page("a.md")', 'words(Page("a.md"))']
    assert labels(graph.around(page)) == near
    assert labels(graph.around(page, 0)) == near[:1]
    assert labels(graph.around(page, 2)) == [near[0], 'count(Page("a.md"), 3)', near[1]]
    assert labels(graph.reaching(page)) == [
        'Page("a.md")',
        'count(Page("a.md"), 3)',
        "total()",
        'words(Page("a.md"))',
    ]
    assert labels(graph.reaching(page, max_nodes=2)) == near
    assert labels(graph.reached_from(query)) == [
        'Page("a.md")',
        "Words(('one', 'two'))",
        'count(Page("a.md"), 3)',
        'words(Page("a.md"))',
    ]
    assert labels(graph.of_kinds(words.kind, total.kind)) == [
        "total()",
        'words(Page("a.md"))',
        'words(Page("b.md"))',
    ]
    assert "Words(('one', 'two'))" not in labels(graph.without_interned())
    assert len(graph.without_interned()) == len(graph) - 2
    assert labels(graph.limited(1)) == ["total()"]
    assert graph.limited(1000) is graph
    assert labels(graph.around(node(99))) == []


# --- Names --------------------------------------------------------------------------------------------


async def test_names_are_those_of_error_messages() -> None:
    db = await checked()
    page = Page(db, path="it's", text="")

    @picante.tracked(name="x.y.failing")
    async def failing(db: picante.Database, page: Page, text: str) -> int:
        return await failing(db, page, text)

    with pytest.raises(picante.CycleError) as caught:
        await failing(db, page, "a\nb")
    shown = str(caught.value).splitlines()[1]
    assert f"→ {Names(db).label(caught.value.requested)}  [" in shown


async def test_handles_are_named_after_the_given_database_not_the_last_one() -> None:
    db, other = await checked(), picante.Database()
    Page(other, path="another", text="")
    graph = DependencyGraph.from_runtime(db.runtime, db)
    Page(other, path="another", text="x")
    assert graph.named('words(Page("a.md"))')
    assert not graph.named("another")


async def test_without_a_database_names_fall_back_to_kinds() -> None:
    runtime = Runtime()
    runtime.update_query_deps(node(1, kind=7), [DynKey(8, Key.encode(("a", 2)))])
    runtime.update_query_deps(node(2, kind=7), [DynKey(8, Key.from_bytes(b"\x01\x02"))])
    graph = DependencyGraph.from_runtime(runtime)
    damaged = Key.from_bytes(b"\x01\x02").hash
    assert sorted(graph.labels) == [
        "kind_7(1)",
        "kind_7(2)",
        "kind_8('a', 2)",
        f"kind_8(key_{damaged:016x})",
    ]
    names = Names()
    assert (names.full_name(graph.nodes[0].kind), names.sort(graph.nodes[0].kind)) == (
        "kind_7",
        "unknown",
    )


async def test_a_closed_snapshot_still_gives_what_names_it_can() -> None:
    db = await checked()
    snap = await db.snapshot()
    graph = DependencyGraph.from_runtime(snap.runtime, snap)
    snap.close()
    assert "total()" in graph.labels
    assert any(label.startswith("words(Page(") for label in graph.labels)


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no")


def test_names_leave_as_one_printable_line() -> None:
    assert one_line("a\nb\x00\u202e\ud800é") == "a\\nb\\x00\\u202e\\ud800é"
    assert len(one_line("x" * 5000)) == 1000
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert cells(shortened("日本語" * 10, 9)) <= 9
    assert shortened("日本語", 6) == "日本語"

    class Lookup:
        def ingredient(self, kind: int) -> Any:
            raise RuntimeError("no")

    assert Names(Lookup()).label(node(1)) == "kind_1(1)"
    assert Names(object()).label(node(1)) == "kind_1(1)"
    assert Names()._shown(Unprintable()) == "<Unprintable>"


# --- DOT ----------------------------------------------------------------------------------------------

STRING = r'"((?:[^"\\]|\\.)*)"'
TOKEN = re.compile(rf"\s*(?:{STRING}|(->)|(\w[\w.]*)|([{{}}\[\]=;,]))", re.DOTALL)


def tokens_of(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = TOKEN.match(text, at)
        assert found, f"no token at {text[at : at + 40]!r}"
        at = found.end()
        if found[1] is None:
            tokens.append(found[2] or found[3] or found[4])
        else:  # a string: what the lexer, and then a label, make of it
            assert "\n" not in found[1]
            inner = re.sub(r"\\(.)", r"\1", found[1])
            tokens.append("'" + inner.replace("&amp;", "&"))
    return tokens


def parsed_dot(text: str) -> tuple[dict[str, str], list[tuple[str, str]], dict[str, list[str]]]:
    """Nodes with their labels, edges, and clusters with the labels in them: a parser of what is written here."""
    tokens = tokens_of(text)
    assert tokens[:3] == ["digraph", "picante", "{"]
    assert tokens[-1] == "}"
    nodes: dict[str, str] = {}
    edges: list[tuple[str, str]] = []
    clusters: dict[str, list[str]] = {}
    cluster: list[str] | None = None
    at = 3
    while at < len(tokens) - 1:
        word = tokens[at]
        if word == "subgraph":
            assert tokens[at + 2 : at + 5] == ["{", "label", "="]
            cluster = clusters.setdefault(tokens[at + 5][1:], [])
            at += 7
        elif word == "}":
            cluster = None
            at += 1
        elif tokens[at + 1] == "=":  # rankdir=LR;
            at += 4
        elif tokens[at + 1] == "->":
            edges.append((word, tokens[at + 2]))
            at += 4
        else:
            assert tokens[at + 1] == "["
            end = tokens.index("]", at)
            facts = tokens[at + 2 : end]
            assert tokens[end + 1] == ";"
            if word not in {"graph", "node", "edge"}:
                assert facts[0:2] == ["label", "="]
                nodes[word] = facts[2][1:]
                assert cluster is not None
                cluster.append(nodes[word])
            at = end + 2
    return nodes, edges, clusters


# r[debug.graph]
async def test_dot_says_what_the_graph_is(tmp_path: Path) -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    path = tmp_path / "graph.dot"
    graph.write_dot(path)
    nodes, edges, clusters = parsed_dot(path.read_text(encoding="utf-8"))
    assert sorted(nodes.values()) == sorted(graph.labels)
    assert sorted((nodes[a], nodes[b]) for a, b in edges) == sorted(
        (graph.label(a), graph.label(b)) for a, b in graph.edges
    )
    prefix = Page.__module__
    assert clusters[f"{prefix}.words"] == ['words(Page("a.md"))', 'words(Page("b.md"))']
    assert clusters[f"{prefix}.Page"] == ['Page("a.md")', 'Page("b.md")', "Page(*)"]
    styles = dict(re.findall(r'label="([^"]*)";\n    node \[(.*)\];', graph.to_dot()))
    shapes = [styles[f"{prefix}.{name}"] for name in ("Page", "Words", "words")]
    assert len(set(shapes)) == 3, "inputs, interned values and queries look different"
    assert styles[f"{prefix}.words"] == styles[f"{prefix}.total"]
    assert len(parsed_dot(graph.to_dot(max_nodes=4))[0]) == 4


# r[debug.graph]
async def test_dot_does_not_depend_on_the_order_of_what_happened() -> None:
    texts = []
    for order in (["a.md", "b.md", "c.md"], ["c.md", "a.md", "b.md"]):
        db = picante.Database()
        pages = {path: Page(db, path=path, text=path) for path in order}
        for path in order:
            await count(db, pages[path], 1)
        graph = DependencyGraph.from_runtime(db.runtime, db)
        texts.append((graph.to_dot(), graph.to_svg()))
    assert texts[0] == texts[1]


HOSTILE = [
    'quote " and \\ backslash \\" both',
    "\\N \\G \\l \\",
    "line\nbreak\r\n",
    "<b>bold</b>",
    "&lt; &amp; &#65;",
    "]; } // /* # -> {",
    "nul\x00 bell\x07 escape\x1b",
    "lone\ud800surrogate",
    "日本語 🌶 é",
    "right\u202eto left",
    "x" * 5_000,
    "",
]


# r[debug.graph]
def test_hostile_names_stay_in_their_labels() -> None:
    db = picante.Database()
    deps: dict[DynKey, list[DynKey]] = {}
    for kind, text in enumerate(HOSTILE, 1):
        db.ingredients.register(InputIngredient(kind, f"{text}{kind}"))
        # No key holds a lone surrogate; names and the results of `repr` may.
        key = Key.encode(text.encode("utf-8", "replace").decode())
        deps[DynKey(kind, key)] = [DynKey(kind, Key.encode(kind))]
    graph = DependencyGraph(deps, Names(db))
    assert all(label.isprintable() and len(label) <= 1000 for label in graph.labels)
    text = graph.to_dot()
    nodes, edges, clusters = parsed_dot(text)
    assert sorted(nodes.values()) == sorted(shortened(label, 80) for label in graph.labels)
    assert sorted((nodes[a], nodes[b]) for a, b in edges) == sorted(
        (shortened(graph.label(a), 80), shortened(graph.label(b), 80)) for a, b in graph.edges
    )
    assert len(clusters) == len(HOSTILE)
    assert not re.search(r"=\s*<", text), "a value in angle brackets would be HTML"
    root = ET.fromstring(graph.to_svg())
    assert boxes(root).keys() == set(graph.labels)
    assert drawn_edges(root).keys() == {
        f"{graph.label(a)} reads {graph.label(b)}" for a, b in graph.edges
    }
    texts = {text.text for text in root.iter(f"{SVG}text")}
    assert {shortened(label, 44) for label in graph.labels} <= texts


# --- SVG ----------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def titled(root: ET.Element, classes: set[str]) -> Iterator[tuple[str, ET.Element]]:
    for group in root.iter(f"{SVG}g"):
        if classes & set(group.get("class", "").split()):
            title = group.findtext(f"{SVG}title")
            assert title
            yield title, group


def boxes(root: ET.Element) -> dict[str, tuple[float, float, float, float]]:
    """By title: left, top, right and bottom of each node."""
    found = {}
    for title, group in titled(root, {"query", "input", "interned", "unknown"}):
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        x, y, w, h = (float(rect.get(each, "")) for each in ("x", "y", "width", "height"))
        if title not in {"query", "input", "interned", "unknown"}:  # the legend
            found[title] = (x, y, x + w, y + h)
    return found


def drawn_edges(root: ET.Element) -> dict[str, str]:
    found = {}
    for title, group in titled(root, {"edge"}):
        line = group.find(f"{SVG}path")
        assert line is not None
        found[title] = line.get("d", "")
    return found


# r[debug.graph]
async def test_svg_shows_the_whole_graph_and_fetches_nothing(tmp_path: Path) -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    path = tmp_path / "graph.svg"
    graph.write_svg(path)
    text = path.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert boxes(root).keys() == set(graph.labels)
    assert drawn_edges(root).keys() == {
        f"{graph.label(a)} reads {graph.label(b)}" for a, b in graph.edges
    }
    assert "prefers-color-scheme: dark" in text
    assert root.findtext(f"{SVG}title", "").startswith(f"Dependency graph: {len(graph)} nodes")
    assert not re.search(r"<script|<image|<use|@import|href|\son\w+=", text)
    assert [url for url in re.findall(r"\w+://[^\"' )]*", text) if "w3.org" not in url] == []


# r[debug.graph]
async def test_svg_puts_what_was_read_to_the_right_and_nothing_on_top_of_another() -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    root = ET.fromstring(graph.to_svg())
    places = boxes(root)
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for a, b in graph.edges:
        assert places[graph.label(a)][2] < places[graph.label(b)][0]
    for one, other in itertools.combinations(places.values(), 2):
        assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
    for left, top, right, bottom in places.values():
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
    for title, path in drawn_edges(root).items():
        reader, read = title.split(" reads ")
        points = re.findall(r"-?[\d.]+", path)
        start = (float(points[0]), float(points[1]))
        end = (float(points[-2]), float(points[-1]))
        middle = [(places[each][1] + places[each][3]) / 2 for each in (reader, read)]
        assert start == pytest.approx((places[reader][2], middle[0]), abs=0.11)
        assert end == pytest.approx((places[read][0], middle[1]), abs=0.11)


# r[debug.graph]
def test_an_edge_that_leads_back_runs_from_left_to_right_side() -> None:
    root = ET.fromstring(graph_of({1: [2], 2: [1]}).to_svg())
    places, edges = boxes(root), drawn_edges(root)
    one, two = places["kind_1(1)"], places["kind_1(2)"]
    assert one[2] < two[0]
    back = re.findall(r"-?[\d.]+", edges["kind_1(2) reads kind_1(1)"])
    assert (float(back[0]), float(back[-2])) == pytest.approx((two[0], one[2]), abs=0.11)
    forth = re.findall(r"-?[\d.]+", edges["kind_1(1) reads kind_1(2)"])
    assert (float(forth[0]), float(forth[-2])) == pytest.approx((one[2], two[0]), abs=0.11)


# r[debug.graph]
def test_labels_fit_their_boxes() -> None:
    graph = DependencyGraph(
        {DynKey(1, Key.encode("日本語" * 3)): [DynKey(1, Key.encode("e\u0301" * 9 + "x" * 200))]}
    )
    root = ET.fromstring(graph.to_svg())
    texts = [t.text or "" for t in root.iter(f"{SVG}text") if "kind_1" in (t.text or "")]
    assert len(texts) == 2
    assert max(map(len, texts)) < 60
    wide = [sum(unicodedata.east_asian_width(c) in "WF" for c in text) for text in texts]
    assert max(wide) == 9
    for group in root.iter(f"{SVG}g"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        if rect is not None and text is not None:
            assert float(text.get("textLength", "")) < float(rect.get("width", ""))


# r[debug.graph]
def test_svg_of_too_many_nodes_says_what_to_do_instead() -> None:
    graph = graph_of({i: [i + 1] for i in range(600)})
    with pytest.raises(ValueError, match=r"has 601 nodes, .* `reaching`, .* `write_dot`"):
        graph.to_svg()
    assert len(boxes(ET.fromstring(graph.limited(500).to_svg()))) == 500
    with pytest.raises(ValueError, match="has 501 nodes"):
        graph.limited(501).to_svg()
    assert len(boxes(ET.fromstring(graph.to_svg(max_nodes=601)))) == 601


@given(
    st.dictionaries(
        st.integers(0, 12), st.lists(st.integers(0, 12), unique=True, max_size=6), max_size=13
    )
)
def test_a_drawing_has_every_edge_once_and_leads_down_unless_it_says_so(
    reads: dict[int, list[int]],
) -> None:
    links = [reads.get(i, []) for i in range(13)]
    layout = layered(links)
    layer = {item: number for number, items in enumerate(layout.layers) for item in items}
    assert sorted((i, j) for i, j, _, _ in layout.edges) == sorted(
        (i, j) for i, read in enumerate(links) for j in read if i != j
    )
    for i, j, joints, back in layout.edges:
        step = 1 if back else -1
        levels = [layer[each] for each in (i, *joints, j)]
        assert levels == list(range(layer[i], layer[j] + step, step))
    for items in layout.layers:
        heights = [layout.y[item] for item in items]
        assert all(b - a >= 11.99 for a, b in itertools.pairwise(heights))
    acyclic = all(j > i for i, read in enumerate(links) for j in read)
    assert not (acyclic and any(back for *_, back in layout.edges))


def test_a_drawing_untangles_what_it_can() -> None:
    n = 6
    layout = layered([[2 * n - 1 - i] for i in range(n)] + [[]] * n)
    for i, j, *_ in layout.edges:
        assert layout.y[i] == layout.y[j], (
            "each reader stands level with the one thing that it read"
        )
    assert sorted(layout.y[:n]) == [34.0 * i for i in range(n)]


def test_a_drawing_with_too_many_joints_still_comes() -> None:
    dense = [list(range(i + 1, 120)) for i in range(120)]
    layout = layered(dense)
    assert len(layout.edges) == 120 * 119 // 2
    assert all(not joints for _, _, joints, _ in layout.edges)


# --- Counts -------------------------------------------------------------------------------------------


# r[debug.cache-stats]
async def test_cache_stats_count_the_graph() -> None:
    db = await checked()
    graph = DependencyGraph.from_runtime(db.runtime, db)
    stats = CacheStats.collect(db.runtime)
    assert stats.forward_deps == len(db.runtime.forward_deps()) == 5
    assert stats.reverse_deps == len(db.runtime.reverse_deps()) == 10
    assert stats.total_edges == graph.n_edges == 10
    assert stats.root_queries == len(graph.root_queries()) == 6
    assert dict(stats.dep_count_histogram) == {1: 2, 2: 2, 4: 1}
    assert list(stats.dep_count_histogram) == [1, 2, 4]
    with pytest.raises(TypeError):
        stats.dep_count_histogram[1] = 5  # type: ignore[index]  # it is read-only
    assert stats.format() == (
        "queries that read something    5\n"
        "records that are read         10\n"
        "dependencies                  10\n"
        "records that read nothing      6\n"
        "\n"
        "dependencies  queries\n"
        "           1        2\n"
        "           2        2\n"
        "           4        1"
    )
    async with await db.snapshot() as snap:
        assert CacheStats.collect(snap.runtime) == stats


# r[debug.cache-stats]
def test_cache_stats_of_nothing() -> None:
    stats = CacheStats.collect(Runtime())
    assert (stats.forward_deps, stats.reverse_deps, stats.total_edges) == (0, 0, 0)
    assert (stats.root_queries, dict(stats.dep_count_histogram)) == (0, {})
    assert stats.format().count("\n") == 3


async def test_an_interned_value_is_called_as_its_handle_is() -> None:
    class Tag(picante.Interned):
        name: picante.Field[str]

    @picante.tracked
    async def shouted(db: picante.Database, tag: Tag) -> str:
        return tag.name(db).upper()

    db = picante.Database()
    tag = Tag(db, name="it's")
    await shouted(db, tag)
    graph = DependencyGraph.from_runtime(db.runtime, db)
    assert (
        set(graph.labels)
        == {repr(tag), f"shouted({tag!r})"}
        == {'Tag("it\'s")', 'shouted(Tag("it\'s"))'}
    )
