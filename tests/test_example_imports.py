"""The import analyser of `examples/imports`: its plain functions, its queries, its command line."""

from __future__ import annotations

import ast
import io
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from examples.imports import queries, scratch
from examples.imports.__main__ import main
from examples.imports.analysis import (
    Import,
    Layout,
    Missing,
    Node,
    Parsed,
    Report,
    Unreadable,
    cycles,
    import_lines,
    parse,
    shortest_cycle,
)
from examples.imports.demo import Demo, Progress, duration, to_edit, to_import
from examples.imports.queries import Database, File
from examples.imports.tree import Tree, decode, read_tree
from examples.imports.warm import cache_file

ROOT = Path(__file__).resolve().parents[1]


# --- One file -------------------------------------------------------------------------------------


def statements(source: str) -> list[str]:
    return [str(wanted) for wanted in parse(source).imports]


def test_every_form_of_import_is_found_in_order() -> None:
    source = (
        "import a, b.c as d\nfrom e import f as g, h\nfrom . import i\nfrom ..j.k import *\n"
        "if x:\n  import l\nelif y:\n  import m\nelse:\n  import n\n"
        "for _ in z:\n  import o\nelse:\n  import p\nwhile z:\n  import q\n"
        "with z:\n  import r\n"
        "try:\n  import s\nexcept ValueError:\n  import t\nelse:\n  import u\nfinally:\n  import v\n"
        "class C:\n  import w\n  def f(self):\n    import x\n"
        "async def f():\n  async with z:\n    import y\n"
        "match z:\n  case 1:\n    import aa\n"
    )
    assert statements(source) == [
        "import a",
        "import b.c",
        "from e import f",
        "from e import h",
        "from . import i",
        "from ..j.k import *",
        *(f"import {name}" for name in [*"lmnopqrstuvwxy", "aa"]),
    ]
    expected = [
        n.lineno
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.Import | ast.ImportFrom)
        for _ in n.names
    ]
    assert sorted(import_lines(source)) == sorted(expected)
    assert list(import_lines(source)) == sorted(expected)


@pytest.mark.parametrize(
    ("source", "deferred", "optional"),
    [
        ("import a", False, False),
        ("class C:\n import a", False, False),
        ("def f():\n import a", True, False),
        ("if TYPE_CHECKING:\n import a", True, False),
        ("if typing.TYPE_CHECKING:\n import a", True, False),
        ("if TYPE_CHECKING:\n pass\nelse:\n import a", False, False),
        ("if __name__ == '__main__':\n import a", True, False),
        ("if __name__ == 'a':\n import a", False, False),
        ("try:\n import a\nexcept ImportError:\n pass", False, True),
        ("try:\n import a\nexcept (OSError, ModuleNotFoundError):\n pass", False, True),
        ("try:\n import a\nexcept:\n pass", False, True),
        ("try:\n import a\nexcept OSError:\n pass", False, False),
        ("try:\n pass\nexcept ImportError:\n import a", False, False),
        ("try:\n def f():\n  import a\nexcept ImportError:\n pass", True, True),
    ],
)
def test_when_an_import_is_taken(source: str, deferred: bool, optional: bool) -> None:
    assert parse(source).imports == (Import(0, "a", None, deferred, optional),)


def test_top_level_names() -> None:
    source = (
        "import a.b, c.d as e\nfrom f import g as h, i\n"
        "j = k = 1\n(l, [m, *n]) = x\no: int = 1\nunbound: int\np += 1\n"
        "for q in x:\n  r = 1\nwith x as (s, t): pass\n"
        "def u(v): w = 1\nasync def y(): pass\nclass z: inner = 1\n"
        "def f():\n  global aa\n  aa = 1\n"
        "if (ab := 1): pass\n"
        "match x:\n  case [ac, *ad] | {'k': ac, **ad}: pass\n  case int() as ae: pass\n"
        "obj.attr = obj[index] = 1\n"
    )
    assert parse(source).names == frozenset("aehijklmnopqrstuyzf") | {
        "aa",
        "ab",
        "ac",
        "ad",
        "ae",
    }


@pytest.mark.parametrize(
    ("source", "dynamic"),
    [
        ("a = 1", False),
        ("# globals(), sys.modules[x] and exec() in a comment", False),
        ("from a import *", True),
        ("def __getattr__(name): pass", True),
        ("globals().update(x)", True),
        ("sys.modules[__name__] = x", True),
        ("@enum.global_enum\nclass C: pass", True),
    ],
)
def test_modules_with_names_that_cannot_be_seen(source: str, dynamic: bool) -> None:
    assert parse(source).dynamic is dynamic


@pytest.mark.parametrize(
    "source", ["def", "a\0b", "(" * 5000, "\ud800", "x = " + "-" * 100_000 + "1", "print 'a'"]
)
def test_what_cannot_be_parsed_is_a_result(source: str) -> None:
    parsed = parse(source)
    assert parsed.problem
    assert parsed == Parsed(problem=parsed.problem)
    assert import_lines(source) == ()


def test_what_cannot_be_read_is_a_result() -> None:
    assert parse(Unreadable("why")) == Parsed(problem="why")
    assert import_lines(Unreadable("why")) == ()


def test_a_long_elif_chain_is_parsed() -> None:
    source = "if x: pass\n" + "elif x: import a\n" * 500
    assert len(statements(source)) in (0, 500)  # the parser itself may refuse; this code may not


def test_a_comment_changes_no_result_but_the_lines() -> None:
    source = "import a\ndef f():\n    import b\n"
    moved = "# one\n\n" + source.replace("def", "# two\ndef")
    assert parse(moved) == parse(source)
    assert import_lines(source) == (1, 3)
    assert import_lines(moved) == (3, 6)


def test_warnings_of_the_parser_are_kept_quiet() -> None:
    assert parse("x = '\\d' is 1").problem is None  # under `-W error` they would be errors


# --- Resolving ------------------------------------------------------------------------------------


def resolved(files: dict[str, str], layout: Layout | None = None) -> dict[str, Node]:
    return {x.path: x for x in analyse(files, layout).graph}


def analyse(files: dict[str, str], layout: Layout | None = None) -> Report:
    return scratch.analyse(files, layout or Layout())


def missing(files: dict[str, str], layout: Layout | None = None) -> list[str]:
    return [f"{x.path}: {x.statement}" for x in analyse(files, layout).unresolved]


PACKAGE = {
    "p/__init__.py": "from .a import x\nVALUE = 1",
    "p/a.py": "x = 1",
    "p/q/__init__.py": "",
    "p/q/b.py": "",
    "top.py": "name = 1",
}


@pytest.mark.parametrize(
    ("path", "source", "targets"),
    [
        ("m.py", "import top", ["top.py"]),
        ("m.py", "import p", ["p/__init__.py"]),
        ("m.py", "import p.q.b", ["p/q/b.py"]),
        ("m.py", "from p import a", ["p/a.py"]),
        ("m.py", "from p import VALUE", ["p/__init__.py"]),
        ("m.py", "from p import a, VALUE", ["p/__init__.py", "p/a.py"]),
        ("m.py", "from p import *", ["p/__init__.py"]),
        ("m.py", "from p.q.b import *", ["p/q/b.py"]),
        ("m.py", "from p import __path__", ["p/__init__.py"]),
        ("m.py", "import top.name", ["top.py"]),  # as `import os.path`
        ("m.py", "from top.name import x", ["top.py"]),
        ("p/m.py", "import top", ["top.py"]),
        ("p/m.py", "import a", None),  # no implicit relative import
        ("p/m.py", "from . import a", ["p/a.py"]),
        ("p/m.py", "from . import VALUE", ["p/__init__.py"]),
        ("p/m.py", "from .q import b", ["p/q/b.py"]),
        ("p/m.py", "from .q.b import x", None),
        ("p/q/m.py", "from .. import a", ["p/a.py"]),
        ("p/q/m.py", "from ..a import x", ["p/a.py"]),
        ("p/q/m.py", "from ...top import name", None),  # beyond the top-level package
        ("p/q/__init__.py", "from . import b", ["p/q/b.py"]),
        ("p/q/__init__.py", "from .. import a", ["p/a.py"]),
        ("m.py", "from . import top", None),  # in no package
        ("m.py", "from p import nothing", None),
        ("m.py", "import p.nothing", None),
        ("m.py", "import nothing", None),
        ("m.py", "import sys, os.path, __main__", []),
        ("p/a.py", "from .a import y\nx = y = 1", []),  # itself
    ],
)
def test_where_an_import_leads(path: str, source: str, targets: list[str] | None) -> None:
    files = {**PACKAGE, path: source}
    assert list(resolved(files)[path].eager) == (targets or [])
    assert len(missing(files)) == (targets is None)


def test_namespace_packages() -> None:
    files = {
        "n/m/a.py": "from . import b\nfrom .b import x",
        "n/m/b.py": "x = 1",
        "c.py": "import n.m\nfrom n.m import a\nimport n.m.b\nfrom n import m\nfrom n.m import *",
        "logging/local.py": "",
        "d.py": "import logging.handlers\nimport logging.local",
    }
    graph = resolved(files)
    assert graph["n/m/a.py"].eager == ("n/m/b.py",)
    assert graph["c.py"].eager == ("n/m/a.py", "n/m/b.py")
    assert graph["d.py"].eager == ("logging/local.py",)
    assert missing(files) == ["c.py: from n.m import *"]


def test_a_package_comes_before_a_module_and_a_module_before_a_folder() -> None:
    files = {"a.py": "", "a/__init__.py": "", "b.py": "", "b/c.py": "", "m.py": "import a, b"}
    assert resolved(files)["m.py"].eager == ("a/__init__.py", "b.py")


def test_a_root_that_is_a_package() -> None:
    layout = Layout("outer.pkg")
    files = {
        "__init__.py": "from .a import x",
        "a.py": "from outer.pkg import sub\nimport outer.pkg\nfrom . import sub\nx = 1",
        "sub/__init__.py": "from .. import a\nfrom ... import other",
    }
    graph = resolved(files, layout)
    assert graph["__init__.py"].eager == ("a.py",)
    assert graph["a.py"].eager == ("__init__.py", "sub/__init__.py")
    assert graph["sub/__init__.py"].eager == ("a.py",)
    assert missing(files, layout) == ["sub/__init__.py: from ... import other"]
    assert layout.module("__init__.py") == ("outer.pkg", True)
    assert layout.module("sub/a.py") == ("outer.pkg.sub.a", False)


def test_a_src_folder() -> None:
    files = {
        "src/p/__init__.py": "",
        "src/p/a.py": "import p\nfrom . import a",
        "t/t.py": "import p.a",
    }
    graph = resolved(files, Layout(sources=("src/", "")))
    assert graph["src/p/a.py"].eager == ("src/p/__init__.py",)
    assert graph["t/t.py"].eager == ("src/p/a.py",)


def test_what_cannot_be_known_is_not_called_missing() -> None:
    files = {
        "broken.py": "def",
        "star.py": "from sys import *",
        "m.py": "from broken import a\nfrom star import b\n"
        "try:\n  import c\nexcept ImportError:\n  c = None\n",
    }
    report = analyse(files)
    assert report.unresolved == ()
    assert report.summary.absent == 1
    assert [path for path, _ in report.summary.problems] == ["broken.py"]


def test_an_unresolved_import_says_which_it_is() -> None:
    files = {"m.py": "import sys\nfrom .x import y"}
    assert analyse(files).unresolved == (Missing("m.py", 1, "from .x import y"),)


def test_deferred_edges_are_no_cycle() -> None:
    files = {
        "a.py": "import b",
        "b.py": "def f():\n  import a",
        "c.py": "import c2",
        "c2.py": "import c",
    }
    report = analyse(files)
    assert report.cycles == (("c.py", "c2.py"),)
    assert resolved(files)["b.py"].deferred == ("a.py",)


# --- Cycles ---------------------------------------------------------------------------------------


def nodes(edges: dict[str, str]) -> tuple[Node, ...]:
    return tuple(Node(path, tuple(successors), ()) for path, successors in edges.items())


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({}, []),
        ({"a": "b", "b": ""}, []),
        ({"a": "b", "b": "a"}, ["ab"]),
        ({"a": "b", "b": "c", "c": "a", "d": "a"}, ["abc"]),
        ({"a": "bc", "b": "a", "c": "d", "d": "c"}, ["ab", "cd"]),
        ({"a": "b", "b": "ac", "c": "b", "d": "e", "e": "d"}, ["abc", "de"]),
        ({"a": "bc", "b": "d", "c": "d", "d": ""}, []),
    ],
)
def test_cycles(edges: dict[str, str], expected: list[str]) -> None:
    assert ["".join(component) for component in cycles(nodes(edges))] == expected


def test_cycles_of_random_graphs_are_what_reachability_says() -> None:
    rng = random.Random(7)
    for _ in range(200):
        names = "abcdefghij"[: rng.randint(1, 10)]
        edges = {a: "".join(b for b in names if b != a and rng.random() < 0.2) for a in names}
        reach = {a: set(edges[a]) for a in names}
        for _ in names:
            for a in names:
                reach[a] |= {c for b in reach[a] for c in reach[b]}
        expected = {frozenset(b for b in names if b in reach[a] and a in reach[b]) for a in names}
        found = cycles(nodes(edges))
        assert {frozenset(component) for component in found} == {x for x in expected if len(x) > 1}
        for component in found:
            way = shortest_cycle(nodes(edges), component)
            assert way[0] == way[-1] == component[0]
            assert all(b in edges[a] for a, b in pairwise(way))


def test_a_cycle_of_any_length_is_found() -> None:
    length = 20_000
    ring = tuple(Node(f"{i:05}", (f"{(i + 1) % length:05}",), ()) for i in range(length))
    (component,) = cycles(ring)
    assert len(component) == length


# --- Reading --------------------------------------------------------------------------------------


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def test_reading_a_tree(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b.py": "import a\r\nx = 1\r",
            "a/__init__.py": "",
            "a/latin.py": b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
            "a/bom.py": b"\xef\xbb\xbfx = 1",
            "a/bad.py": b"x = '\xe9'",
            "a/unknown.py": b"# coding: no-such\n",
            "a/not_text.py": b"# coding: rot13\n",
            "a/data.txt": "no source",
            "a/__pycache__/c.py": "",
            "site-packages/d.py": "",
            ".hidden/e.py": "",
            "tests/f.py": "",
        },
    )
    tree = read_tree(tmp_path, without=frozenset({"tests"}))
    assert list(tree.texts) == [
        "a/__init__.py",
        "a/bad.py",
        "a/bom.py",
        "a/latin.py",
        "a/not_text.py",
        "a/unknown.py",
        "b.py",
    ]
    assert tree.texts["b.py"] == "import a\nx = 1\n"
    assert tree.texts["a/latin.py"] == "# -*- coding: latin-1 -*-\nx = 'é'\n"
    assert tree.texts["a/bom.py"] == "x = 1"
    for name in ("bad", "unknown", "not_text"):
        text = tree.texts[f"a/{name}.py"]
        assert isinstance(text, Unreadable)
        assert text.reason.startswith("cannot be decoded: ")
        assert str(tmp_path) not in text.reason
    assert tree.layout == Layout()
    assert "tests/f.py" in read_tree(tmp_path).texts


def test_links_and_what_is_no_file(tmp_path: Path) -> None:
    write(tmp_path, {"a/b.py": "x = 1"})
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a/itself.py").symlink_to(tmp_path / "a/itself.py")
    (tmp_path / "a/dangling.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "a/link.py").symlink_to(tmp_path / "a/b.py")
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")  # must not be waited for
    tree = read_tree(tmp_path)
    assert list(tree.texts) == ["a/b.py", "a/dangling.py", "a/itself.py", "a/link.py"]
    assert tree.texts["a/link.py"] == "x = 1"
    assert isinstance(tree.texts["a/dangling.py"], Unreadable)
    assert isinstance(tree.texts["a/itself.py"], Unreadable)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such file names")
def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.py")).write_text("import sys")
    assert list(read_tree(tmp_path).texts) == ["\\xff.py"]


def test_layouts_are_recognised(tmp_path: Path) -> None:
    write(tmp_path, {"outer/pkg/__init__.py": "", "outer/__init__.py": "", "src/p/__init__.py": ""})
    assert read_tree(tmp_path).layout == Layout(sources=("src/", ""))
    assert read_tree(tmp_path / "outer").layout == Layout("outer")
    assert read_tree(tmp_path / "outer/pkg").layout == Layout("outer.pkg")
    write(tmp_path, {"src/__init__.py": ""})
    assert read_tree(tmp_path).layout == Layout()


def test_decoding_makes_line_ends_one_kind() -> None:
    assert decode(b"a\r\nb\rc\n") == "a\nb\nc\n"


# --- Queries --------------------------------------------------------------------------------------


FILES = {
    "app.py": "import pkg.one\nimport tool\nfrom pkg import two, CONSTANT",
    "pkg/__init__.py": "CONSTANT = 1",
    "pkg/one.py": "from . import two\nfrom .two import helper",
    "pkg/two.py": "import pkg.one\ndef helper(): pass",
    "tool.py": "import nowhere\nimport sys",
    "broken.py": "def",
}


def database(files: dict[str, str]) -> Database:
    db = Database(Layout())
    with db.batch():
        for path, text in files.items():
            File(db, path, text)
    return db


def file_at(db: Database, path: str) -> File:
    found = File.get(db, path)
    assert found is not None
    return found


async def report(db: Database) -> Report:
    db.ran.clear()
    return await queries.report(db)


async def test_the_queries_say_what_scratch_says() -> None:
    db = database(FILES)
    assert await report(db) == analyse(FILES)
    assert db.ran["parse"] == db.ran["resolve"] == len(FILES)
    assert len(db.memos) == sum(db.ran.values())
    await report(db)
    assert db.ran == {}


async def test_a_comment_reruns_one_parse() -> None:
    db = database(FILES)
    before = await report(db)
    for path, text in FILES.items():
        if path != "broken.py":
            File(db, path, f"# a comment\n{text}")
            assert await report(db) == before
            assert db.ran == {"parse": 1}, path


async def test_an_import_reruns_what_it_must() -> None:
    db = database(FILES)
    await report(db)
    files = {**FILES, "tool.py": FILES["tool.py"] + "\nimport app"}
    File(db, "tool.py", files["tool.py"])
    assert await report(db) == analyse(files)
    # `app` imports `tool`, not a name from it, so the only question asked is the new one.
    once = "parse resolve target locate graph cycles unresolved summary report"
    assert db.ran == dict.fromkeys(once.split(), 1)


async def test_a_new_name_reruns_only_who_asked_for_a_name() -> None:
    db = database(FILES)
    await report(db)
    File(db, "pkg/two.py", FILES["pkg/two.py"] + "\nmore = 1")
    await report(db)
    # The edges are the same, so graph, cycles and unresolved stay; the number of names does not.
    assert db.ran == {"parse": 1, "resolve": 1, "target": 1, "summary": 1, "report": 1}


async def test_files_that_come_and_go() -> None:
    db = database(FILES)
    await report(db)
    files = {**FILES, "nowhere/__init__.py": "import app"}
    File(db, "nowhere/__init__.py", files["nowhere/__init__.py"])
    assert await report(db) == analyse(files)
    assert db.ran["parse"] == 1
    assert db.ran["resolve"] == 2  # the new file, and the one that could not find it before
    file_at(db, "nowhere/__init__.py").remove(db)
    assert await report(db) == analyse(FILES)
    assert db.ran["parse"] == 0


async def test_lines_are_looked_up_for_what_is_shown_only() -> None:
    db = database(FILES)
    await report(db)
    assert "lines" not in db.ran
    app = file_at(db, "app.py")
    assert await queries.lines(db, app) == (1, 2, 3, 3)
    app.set(db, text="\n" + FILES["app.py"])
    assert await queries.lines(db, app) == (2, 3, 4, 4)


async def test_random_edits_say_what_scratch_says() -> None:
    rng = random.Random(11)
    names = ["a", "b", "p", "p.c", "p.d", "q.e"]
    paths = ["a.py", "b.py", "p/__init__.py", "p/c.py", "p/d.py", "q/e.py", "p.py"]

    def text() -> str:
        lines = []
        for _ in range(rng.randint(0, 3)):
            name = rng.choice(names)
            lines.append(
                rng.choice(
                    [
                        f"import {name}",
                        f"from {name} import x",
                        f"x = {rng.random()}",
                        "from . import c, x",
                    ]
                )
            )
        return "\n".join([*lines, rng.choice(["", "x = 1", "def", "from p import *"])])

    files: dict[str, str] = {}
    db = database(files)
    for _ in range(150):
        path = rng.choice(paths)
        if rng.random() < 0.25:
            if files.pop(path, None) is not None:
                file_at(db, path).remove(db)
        else:
            files[path] = text()
            File(db, path, files[path])
        assert await report(db) == analyse(files)


# --- The runs -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def demo_of(files: dict[str, str], progress: Progress | None = None) -> Demo:
    tree = Tree(Path("."), dict(files), Layout(), 0, 0)
    return Demo(tree, progress or Progress(io.StringIO()))


async def test_the_runs_count_and_compare() -> None:
    demo = demo_of(FILES)
    cold = await demo.cold()
    assert cold.same
    assert cold.reused == 0
    assert cold.queries == len(demo.db.memos)
    again = await demo.run("again")
    assert (again.same, again.queries, again.reused) == (True, 0, cold.queries)
    comment = await demo.run("comment", ("tool.py", "# comment\n" + FILES["tool.py"]))
    assert (comment.same, comment.ran, comment.reused) == (True, {"parse": 1}, cold.queries - 1)


async def test_a_wrong_result_is_noticed() -> None:
    demo = demo_of(FILES)
    await demo.cold()
    demo.texts["tool.py"] = "import app"  # what scratch sees, and the database does not
    assert not (await demo.run("again")).same


async def test_progress_is_for_terminals() -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        await demo_of(FILES, Progress(stream)).cold()
        assert ("files parsed" in stream.getvalue()) is shown
        assert stream.getvalue().endswith("\r\x1b[K" if shown else "")


async def test_what_is_edited() -> None:
    found = await demo_of(FILES).cold()
    assert to_edit(found.report) == "pkg/one.py"  # two importers, and the first of those
    assert to_import(found.report, "pkg/one.py", Layout()) == "app"
    alone = analyse({"a.py": ""})
    assert to_edit(alone) == "a.py"
    assert to_import(alone, "a.py", Layout(standard=frozenset({"sys"}))) == "sys"
    assert to_edit(analyse({"broken.py": "def"})) is None
    assert to_edit(analyse({})) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 µs"), (12.3e-6, "12.3 µs"), (0.0123, "12.30 ms"), (3.14159, "3.14 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- The command line -----------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.imports", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
        check=False,
    )


def test_the_command_analyses_a_tree(tmp_path: Path) -> None:
    write(tmp_path, dict(FILES))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    done = command(str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if "same result" in line]
    assert [row[:16].rstrip() for row in rows] == [
        "cold",
        "nothing changed",
        "a comment added",
        "an import added",
        "both taken back",
        "second process",
        "a comment in it",
    ]
    assert [int(row[16:].split()[0]) for row in rows[1:3]] == [0, 1]
    assert [int(row[16:].split()[0]) for row in rows[5:]] == [0, 1]
    assert re.search(r"loaded 0.0 MB in .*\bran 0 of \d+ queries in ", done.stdout, re.DOTALL)
    assert all("times faster" in row for row in rows[1:])
    assert "Ran for the comment: parse 1 (early cutoff)." in done.stdout
    assert "2 files: pkg/one.py > pkg/two.py > pkg/one.py" in done.stdout
    assert "tool.py:1: import nowhere" in done.stdout
    assert "broken.py: SyntaxError: " in done.stdout
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


Capture = pytest.CaptureFixture[str]


def test_a_process_of_another_day_runs_what_has_changed_since(
    tmp_path: Path, capsys: Capture
) -> None:
    tree = write(tmp_path / "tree", dict(FILES))
    cache = tmp_path / "new" / "cache"
    warm = [str(tree), "--warm", "--cache", str(cache)]
    assert main(warm) == 1
    assert "There is no cache" in capsys.readouterr().out
    assert main([str(tree), "--cache", str(cache)]) == 0
    (kept,) = cache.iterdir()
    capsys.readouterr()

    def runs() -> int:
        assert main(warm) == 0
        first, second = [x for x in capsys.readouterr().out.splitlines() if "same result" in x]
        assert int(second[16:].split()[0]) == 1
        return int(first[16:].split()[0])

    assert runs() == 0
    (tree / "tool.py").write_text("# a comment\n" + FILES["tool.py"])
    assert runs() == 1
    (tree / "tool.py").unlink()
    assert runs() > 1
    write(tree, {"tool.py": FILES["tool.py"], "new.py": "import tool"})
    assert runs() > 1
    assert [*cache.iterdir()] == [kept]  # starting warm saves nothing


def test_a_cache_is_that_of_one_tree_and_layout(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {}, Layout(), 0, 0)
    others = [Tree(tmp_path / "a", {}, Layout(), 0, 0), Tree(tmp_path, {}, Layout("package"), 0, 0)]
    names = {cache_file(tmp_path, each).name for each in (tree, *others)}
    assert len(names) == 3
    assert cache_file(tmp_path, Tree(tmp_path, {"a.py": ""}, Layout(), 0, 0)).name in names


def test_starting_warm_needs_a_folder(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--warm"])
    assert exit_.value.code == 2
    assert "--warm needs --cache FOLDER" in capsys.readouterr().err


def test_trees_with_nothing_to_edit(tmp_path: Path, capsys: Capture) -> None:
    assert main([str(tmp_path)]) == 0
    assert "There is nothing to edit" in capsys.readouterr().out
    write(tmp_path, {"broken.py": "def"})
    assert main([str(tmp_path)]) == 0
    assert "There is nothing to edit" in capsys.readouterr().out


def test_a_tree_of_one_file(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path, {"a.py": ""})
    assert main([str(tmp_path)]) == 0
    assert "early cutoff" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no folder"),
        (lambda path: path.write_text("x = 1"), "is not a folder"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
    ids=["nothing", "file", "loop"],
)
def test_a_path_that_is_no_folder(
    tmp_path: Path, capsys: Capture, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "path"
    make(path)
    assert main([str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert str(path) in err
    assert err.count("\n") == 1


def test_help(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    assert "PATH" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    write(tmp_path, dict(FILES))
    read, written = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "examples.imports", str(tmp_path)],
            cwd=ROOT,
            stdout=written,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    finally:
        os.close(written)
    assert done.stderr == b""
