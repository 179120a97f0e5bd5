"""The command line: `python -m picante graph`, and what all commands share."""

import asyncio
import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import picante
from picante import CacheCorruptError
from picante.__main__ import main
from picante.debug import DependencyGraph
from picante.persist.format import Index, SectionInfo, checksum_of, write_file
from tests.pages import Page, Strict, Words, count, total, words

ROOT = Path(__file__).parents[1]


@picante.tracked
async def counts(db: picante.Database) -> list[int]:
    return await count.map(db, [(page, 1) for page in Page.all(db)])


@picante.db(inputs=[Page, Strict], interned=[Words], tracked=[words, count, total, counts])
class Database(picante.Database): ...


async def fill(path: Path, n: int = 2) -> Database:
    db = Database()
    Strict.set(db, on=True)
    for i in range(n):
        Page(db, path=f"{i}.md", text=f"one two {i}")
    await total(db)
    await db.save(path)
    return db


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("commands") / "app.cache"
    asyncio.run(fill(path))
    return path


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([*map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


def labels(capsys: pytest.CaptureFixture[str], *arguments: object) -> set[str]:
    code, out, err = shown(capsys, "graph", *arguments, "--json")
    assert (code, err) == (0, "")
    return {node["label"] for node in json.loads(out)["nodes"]}


# --- The graph of a file ----------------------------------------------------------------------------


# r[debug.graph]
def test_the_graph_of_a_file_is_that_of_the_database_that_was_saved(tmp_path: Path) -> None:
    db = asyncio.run(fill(tmp_path / "app.cache", 3))
    live = DependencyGraph.from_runtime(db.runtime, db)
    saved = DependencyGraph.from_file(tmp_path / "app.cache")

    def edges(graph: DependencyGraph) -> set[tuple[str, str]]:
        return {(graph.label(a), graph.label(b)) for a, b in graph.edges}

    assert edges(saved) == edges(live)
    assert saved.revision == live.revision
    sorts = {saved.label(node): saved.names.sort(node.kind) for node in saved}
    assert sorts["total()"] == "query"
    assert sorts['Page("0.md")'] == sorts["Page(*)"] == sorts["Strict()"] == "input"
    assert sorts["Words(('one', 'two', '0'))"] == "interned"
    assert saved.names.full_name(words.kind).endswith(".words")


class Place(picante.Input):
    town: picante.KeyField[str]
    number: picante.KeyField[int]
    name: picante.Field[str]


class Tag(picante.Interned):
    text: picante.Field[str]


class Pair(picante.Interned):
    tag: picante.Field[Tag]
    text: picante.Field[str]


@picante.tracked
async def names(db: picante.Database, place: Place, pair: Pair, text: str) -> str:
    return place.name(db) + pair.tag(db).text(db) + text


@picante.tracked
async def all_names(db: picante.Database) -> list[str]:
    pair = Pair(db, Tag(db, "a"), 'it\'s "b"')
    return [await names(db, place, pair, "x") for place in Place.all(db)]


# r[debug.graph]
async def test_labels_are_the_same_for_a_file_and_for_the_database_that_wrote_it(
    tmp_path: Path,
) -> None:
    db = picante.Database()
    Place(db, "Rome", 1, name="")
    Place(db, 'the "Hague"', 2, name="")
    await all_names(db)
    await db.save(tmp_path / "app.cache")
    live = DependencyGraph.from_runtime(db.runtime, db)
    assert sorted(DependencyGraph.from_file(tmp_path / "app.cache").labels) == sorted(live.labels)
    assert 'Place("Rome", 1)' in live.labels
    assert """names(Place("Rome", 1), Pair(Tag("a"), 'it\\'s "b"'), 'x')""" in live.labels


# r[debug.graph]
def test_what_was_read_side_by_side_is_in_the_graph_of_a_file(tmp_path: Path) -> None:
    async def run() -> list[str]:
        db = await fill(tmp_path / "app.cache")
        await counts(db)
        await db.save(tmp_path / "app.cache")
        live = DependencyGraph.from_runtime(db.runtime, db)
        return sorted(labels_read(live))

    def labels_read(graph: DependencyGraph) -> list[str]:
        [node] = graph.named("counts()", exact=True)
        return [graph.label(each) for each in graph.dependencies_of(node)]

    read = asyncio.run(run())
    assert sorted(labels_read(DependencyGraph.from_file(tmp_path / "app.cache"))) == read
    assert 'count(Page("1.md"), 1)' in read


def test_an_outline_shows_what_each_query_read(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = shown(capsys, "graph", cache)
    assert (code, err) == (0, "")
    head, empty, *lines = out.splitlines()
    assert head.endswith("11 nodes and 10 dependencies at revision 3")
    assert not empty
    assert lines == [
        "total()",
        "  Strict()",
        "  Page(*)",
        '  count(Page("0.md"), 3)',
        '    words(Page("0.md"))',
        '      Page("0.md")',
        "    Words(('one', 'two', '0'))",
        '  count(Page("1.md"), 3)',
        '    words(Page("1.md"))',
        '      Page("1.md")',
        "    Words(('one', 'two', '1'))",
    ]
    _, out, _ = shown(capsys, "graph", cache, "--max-nodes", 4)
    assert out.splitlines()[-2:] == ['  count(Page("0.md"), 3)', "(7 more)"]


def test_selections_narrow_it_down(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labels(capsys, cache, "--root", 'words(Page("0.md"))') == {
        'words(Page("0.md"))',
        'Page("0.md")',
    }
    assert labels(capsys, cache, "--root", "total", "--depth", 1) == {
        "total()",
        "Strict()",
        "Page(*)",
        'count(Page("0.md"), 3)',
        'count(Page("1.md"), 3)',
    }
    assert labels(capsys, cache, "--reaching", 'Page("1.md")', "--depth", 2, "--query", "c*") == {
        'count(Page("1.md"), 3)'
    }
    assert labels(capsys, cache, "--query", "words", "--query", "*.pages.total") == {
        'words(Page("0.md"))',
        'words(Page("1.md"))',
        "total()",
    }
    assert len(labels(capsys, cache, "--no-interned")) == 9
    assert labels(capsys, cache, "--by-query", "--root", "count") == {
        "count ×2",
        "words ×2",
        "Page ×2",
        "Words ×2",
    }


def test_every_format_goes_to_a_file_by_its_ending(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("graph.svg", "graph.dot", "graph.json", "graph.txt"):
        assert shown(capsys, "graph", cache, "-o", tmp_path / name) == (0, "", "")
    assert ET.parse(tmp_path / "graph.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "graph.dot").read_text().startswith("digraph picante {")
    found = json.loads((tmp_path / "graph.json").read_text())
    nodes = [node["label"] for node in found["nodes"]]
    assert [nodes.index("total()"), nodes.index("Page(*)")] in found["edges"]
    assert (found["type"], found["revision"], found["left_out"]) == ("graph", 3, 0)
    assert (tmp_path / "graph.txt").read_text().splitlines()[2] == "total()"
    code, out, _ = shown(capsys, "graph", cache, "--format", "dot", "-o", "-")
    assert (code, out) == (0, (tmp_path / "graph.dot").read_text())


def test_a_large_graph_is_cut_and_says_so(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = shown(capsys, "graph", cache, "--json", "--max-nodes", 3)
    assert code == 0
    assert err.startswith("note: shows the 3 most connected of 11 nodes; ")
    found = json.loads(out)
    assert (found["left_out"], len(found["nodes"])) == (8, 3)
    assert "total()" in {node["label"] for node in found["nodes"]}


# --- What is wrong ----------------------------------------------------------------------------------


def test_errors_are_one_line_and_an_exit_code(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(code: int, *arguments: object) -> str:
        ended, out, err = shown(capsys, "graph", *arguments)
        assert (ended, out) == (code, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    assert "There is no file" in refused(2, tmp_path / "missing")
    assert "No node is called 'nothing('" in refused(2, cache, "--root", "nothing(")
    assert "there are: Page, Strict, Words, count, total, words" in refused(
        2, cache, "--query", "x"
    )
    assert "cannot be written" in refused(2, cache, "-o", tmp_path / "no" / "folder")
    refused(2, tmp_path)
    (tmp_path / "text").write_text("no cache")
    assert "it is no cache file" in refused(1, tmp_path / "text")
    (tmp_path / "log").write_bytes(b"picantej" + bytes(24))
    assert "is a log, which has no dependencies" in refused(2, tmp_path / "log")


def test_no_damage_gets_as_far_as_a_picture(cache: Path, tmp_path: Path) -> None:
    whole = cache.read_bytes()
    damaged = tmp_path / "damaged"
    for n in range(0, len(whole), 31):
        damaged.write_bytes(whole[:n] + bytes([whole[n] ^ 0x41]) + whole[n + 1 :])
        with pytest.raises(CacheCorruptError):
            DependencyGraph.from_file(damaged)
        damaged.write_bytes(whole[:n])
        with pytest.raises(CacheCorruptError):
            DependencyGraph.from_file(damaged)


def text(content: bytes) -> bytes:
    """As MessagePack has it."""
    return bytes([0xA0 + len(content)]) + content


def test_hostile_names_and_keys_stay_text(tmp_path: Path) -> None:
    # One derived record with a name and a key that would be markup, control characters, quotes.
    name = 'm.<script>alert(1)</script>\n"&'
    key = text(b"</title>\x1b[2J\r\n\"'")
    read = text(b"<!-- \\ \x00 -->")
    derived = bytes([len(key)]) + key + b"\x01\x01\x91\x00\xc0"
    derived = b"\xc4" + bytes([len(derived)]) + derived
    inputs = b"\xc4" + bytes([len(read) + 2]) + bytes([len(read)]) + read + b"\x01"
    index = Index(
        1,
        (),
        bytes(16),
        (
            SectionInfo(1, name, "input", 1, len(inputs), checksum_of(inputs, 0, len(inputs))),
            SectionInfo(
                2, name, "derived", 1, len(derived), checksum_of(derived, 0, len(derived)), b"1"
            ),
        ),
    )
    path = tmp_path / "hostile"
    with path.open("wb") as file:
        write_file(file, [[inputs], [derived]], index)
    graph = DependencyGraph.from_file(path)
    assert graph.n_edges == 1
    texts = [*graph.labels, graph.names.full_name(graph.nodes[0].kind)]
    assert all(text.isprintable() for text in texts)
    drawn = ET.fromstring(graph.to_svg())
    assert not [each for each in drawn.iter() if each.tag.endswith("script")]
    assert "\x1b" not in graph.to_text() + graph.to_dot()


# --- What all commands share ------------------------------------------------------------------------


@pytest.mark.parametrize("installed", [True, False])
def test_the_version_is_that_which_is_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    def version(name: str) -> str:
        if not installed:
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    python = f"{platform.python_implementation()} {platform.python_version()}"
    shown = "1.2.3" if installed else "unknown"
    assert capsys.readouterr().out == f"picante {shown} ({python})\n"


def test_help_lists_the_commands_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, parts in [
        (["--help"], ["inspect", "graph"]),
        (["graph", "--help"], ["examples:", "--by-query", "with 1 if the file is damaged"]),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out = " ".join(capsys.readouterr().out.split())
        assert ended.value.code == 0
        assert [part for part in parts if part not in out] == []


def test_a_graph_is_drawn_in_a_process_that_knows_no_class_of_the_file(cache: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "picante", "graph", str(cache), "--by-query"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\n    words ×2\n" in ran.stdout
