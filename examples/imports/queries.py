"""The analysis as picante queries.

    text (input)  the text of a file, by path
    parse         its imports and top-level names, no positions  <- text
    folders       all folders that hold files                    <- the list of texts
    locate        the file of a dotted name                      <- presence of texts, folders
    target        where `from module import name` leads          <- locate, parse
    resolve       where all imports of a file lead               <- parse, target
    graph         who imports whom                               <- resolve of all files
    cycles        groups of files that import each other         <- graph
    unresolved    imports that lead nowhere                      <- resolve of all files
    summary       the tree in numbers                            <- parse, resolve, graph, cycles
    report        the last four together
    lines         where a file's imports stand, for those shown  <- text

A comment changes a text, so `parse` of that file runs again. Its value has no positions and comes
out equal, and there it ends. An import changes what `parse` returns: `resolve` of that file runs,
and the question `target` of whoever imports a name from it, and what sums up the tree if it came
out different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from picante import DerivedIngredient, IngredientRegistry, InputIngredient, QueryKindId, Runtime

from . import analysis
from .analysis import (
    Graph,
    Layout,
    Location,
    Missing,
    Parsed,
    Question,
    Report,
    Resolved,
    Summary,
    Target,
    Text,
)

K = TypeVar("K")
V = TypeVar("V")

TREE = ()
"""The key of the queries about the whole tree."""


class Database:
    """A tree of texts and all that is known of it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.runtime = Runtime()
        self.ingredients = IngredientRegistry()
        self.ran: Counter[str] = Counter()
        """How often each query was computed since `reset`."""
        self.on_run: Callable[[str], None] | None = None
        """Called with its name whenever a query is computed."""
        self._computed: set[tuple[str, object]] = set()

        self.text: InputIngredient[str, Text] = InputIngredient(kind("text"), "text")
        self.ingredients.register(self.text)
        self.parse = self._query("parse", parse)
        self.folders = self._query("folders", folders)
        self.locate = self._query("locate", locate)
        self.target = self._query("target", target)
        self.resolve = self._query("resolve", resolve)
        self.graph = self._query("graph", graph)
        self.cycles = self._query("cycles", cycles)
        self.unresolved = self._query("unresolved", unresolved)
        self.summary = self._query("summary", summary)
        self.report = self._query("report", report)
        self.lines = self._query("lines", lines)

    def ingredient(self, kind: QueryKindId) -> Any:
        """The ingredient of a kind: what picante asks a database for."""
        return self.ingredients.ingredient(kind)

    @property
    def memos(self) -> int:
        """How many results there are."""
        return len(self._computed)

    def reset(self) -> None:
        """Begin to count anew in `ran`."""
        self.ran = Counter()

    def _query(
        self, name: str, compute: Callable[[Database, K], Awaitable[V]]
    ) -> DerivedIngredient[K, V]:
        async def counted(db: Database, key: K) -> V:
            db.ran[name] += 1
            db._computed.add((name, key))
            if db.on_run is not None:
                db.on_run(name)
            return await compute(db, key)

        query: DerivedIngredient[K, V] = DerivedIngredient(kind(name), name, counted)
        self.ingredients.register(query)
        return query


def kind(name: str) -> QueryKindId:
    """The kind of an ingredient of this program."""
    return QueryKindId.from_str(f"examples.imports.{name}")


async def parse(db: Database, path: str) -> Parsed:
    """The imports and top-level names of a file; an empty file's, if there is none."""
    return analysis.parse(db.text.get(db, path) or "")


async def folders(db: Database, _: tuple[()]) -> frozenset[str]:
    """All folders that hold files."""
    return analysis.folders(db.text.keys(db))


async def locate(db: Database, name: str) -> Location | None:
    """The module of a dotted name, if it is in the tree."""
    for candidate in db.layout.candidates(name):
        if db.text.contains(db, candidate.path):
            return candidate
    known = await db.folders.get(db, TREE)
    return analysis.NAMESPACE if not known.isdisjoint(db.layout.stems(name)) else None


async def target(db: Database, asked: Question) -> Target:
    """Where an import leads."""
    package = asked[0].rpartition(".")[0]
    here = await db.locate.get(db, asked[0])
    inner = analysis.submodule(asked, here)
    below = await db.locate.get(db, inner) if inner else None
    above = await db.locate.get(db, package) if here is None and package else None
    held = None
    if holder := analysis.holder(asked, here, below, above):
        path, name = holder
        held = path if analysis.may_bind(await db.parse.get(db, path), name) else None
    return analysis.target(asked, here, below, held, db.layout.standard)


async def resolve(db: Database, path: str) -> Resolved:
    """Where all imports of a file lead."""
    imports = (await db.parse.get(db, path)).imports
    module, is_package = db.layout.module(path)
    found = []
    for wanted in imports:
        asked = analysis.question(wanted, module, is_package)
        found.append(analysis.MISSING if asked is None else await db.target.get(db, asked))
    return analysis.collect(path, imports, found)


async def graph(db: Database, _: tuple[()]) -> Graph:
    """Which file imports which."""
    return analysis.graph(await _of_all(db, db.resolve))


async def cycles(db: Database, _: tuple[()]) -> tuple[tuple[str, ...], ...]:
    """The groups of files that import each other while they load."""
    return analysis.cycles(await db.graph.get(db, TREE))


async def unresolved(db: Database, _: tuple[()]) -> tuple[Missing, ...]:
    """The imports that lead nowhere."""
    return analysis.unresolved(await _of_all(db, db.resolve))


async def summary(db: Database, _: tuple[()]) -> Summary:
    """The tree in numbers."""
    return analysis.summary(
        await _of_all(db, db.parse),
        await _of_all(db, db.resolve),
        await db.graph.get(db, TREE),
        await db.cycles.get(db, TREE),
    )


async def report(db: Database, _: tuple[()]) -> Report:
    """All there is to say about the tree."""
    return Report(
        await db.summary.get(db, TREE),
        await db.graph.get(db, TREE),
        await db.cycles.get(db, TREE),
        await db.unresolved.get(db, TREE),
    )


async def lines(db: Database, path: str) -> tuple[int, ...]:
    """The line of each of a file's imports."""
    return analysis.import_lines(db.text.get(db, path) or "")


async def _of_all(db: Database, query: DerivedIngredient[str, V]) -> dict[str, V]:
    return {path: await query.get(db, path) for path in db.text.keys(db)}
