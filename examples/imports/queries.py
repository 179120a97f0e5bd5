"""The analysis as picante queries.

    File (input)  the text of a file, by path
    parse         its imports and top-level names, no positions  <- its text
    folders       all folders that hold files                    <- the list of files
    locate        the file of a dotted name                      <- presence of files, folders
    target        where `from module import name` leads          <- locate, parse
    resolve       where all imports of a file lead               <- parse, target
    graph         who imports whom                               <- resolve of all files
    cycles        groups of files that import each other         <- graph
    unresolved    imports that lead nowhere                      <- resolve of all files
    summary       the tree in numbers                            <- parse, resolve, graph, cycles
    report        the last four together
    lines         where a file's imports stand, for those shown  <- its text

A comment changes a text, so `parse` of that file runs again. Its value has no positions and comes
out equal, and there it ends. An import changes what `parse` returns: `resolve` of that file runs,
and the question `target` of whoever imports a name from it, and what sums up the tree if it came
out different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import picante

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

P = ParamSpec("P")
R = TypeVar("R")


def counted(
    compute: Callable[Concatenate[Database, P], R],
) -> Callable[Concatenate[Database, P], R]:
    """Let the database know of every time that a query is computed."""

    @wraps(compute)
    def counting(db: Database, /, *args: P.args, **kwargs: P.kwargs) -> R:
        db.count(compute.__name__, args)
        return compute(db, *args, **kwargs)

    return counting


class File(picante.Input):
    """A file of the tree."""

    path: picante.KeyField[str]
    text: picante.Field[Text]


@picante.tracked
@counted
def parse(db: Database, file: File) -> Parsed:
    """The imports and top-level names of a file."""
    return analysis.parse(file.text(db))


@picante.tracked
@counted
def folders(db: Database) -> frozenset[str]:
    """All folders that hold files."""
    return analysis.folders(file.path(db) for file in File.all(db))


@picante.tracked
@counted
async def locate(db: Database, name: str) -> Location | None:
    """The module of a dotted name, if it is in the tree."""
    for candidate in db.layout.candidates(name):
        if File.get(db, candidate.path) is not None:
            return candidate
    known = await folders(db)
    return analysis.NAMESPACE if not known.isdisjoint(db.layout.stems(name)) else None


@picante.tracked
@counted
async def target(db: Database, asked: Question) -> Target:
    """Where an import leads."""
    package = asked[0].rpartition(".")[0]
    here = await locate(db, asked[0])
    inner = analysis.submodule(asked, here)
    below = await locate(db, inner) if inner else None
    above = await locate(db, package) if here is None and package else None
    held = None
    if holder := analysis.holder(asked, here, below, above):
        path, name = holder
        file = File.get(db, path)
        if file is not None and analysis.may_bind(await parse(db, file), name):
            held = path
    return analysis.target(asked, here, below, held, db.layout.standard)


@picante.tracked
@counted
async def resolve(db: Database, file: File) -> Resolved:
    """Where all imports of a file lead."""
    path = file.path(db)
    imports = (await parse(db, file)).imports
    module, is_package = db.layout.module(path)
    found = []
    for wanted in imports:
        asked = analysis.question(wanted, module, is_package)
        found.append(analysis.MISSING if asked is None else await target(db, asked))
    return analysis.collect(path, imports, found)


@picante.tracked
@counted
async def graph(db: Database) -> Graph:
    """Which file imports which."""
    return analysis.graph(await of_all(resolve, db))


@picante.tracked
@counted
async def cycles(db: Database) -> tuple[tuple[str, ...], ...]:
    """The groups of files that import each other while they load."""
    return analysis.cycles(await graph(db))


@picante.tracked
@counted
async def unresolved(db: Database) -> tuple[Missing, ...]:
    """The imports that lead nowhere."""
    return analysis.unresolved(await of_all(resolve, db))


@picante.tracked
@counted
async def summary(db: Database) -> Summary:
    """The tree in numbers."""
    return analysis.summary(
        await of_all(parse, db), await of_all(resolve, db), await graph(db), await cycles(db)
    )


@picante.tracked
@counted
async def report(db: Database) -> Report:
    """All there is to say about the tree."""
    return Report(await summary(db), await graph(db), await cycles(db), await unresolved(db))


@picante.tracked
@counted
def lines(db: Database, file: File) -> tuple[int, ...]:
    """The line of each of a file's imports."""
    return analysis.import_lines(file.text(db))


async def of_all(query: picante.Tracked[Database, [File], R], db: Database) -> dict[str, R]:
    """What a query says of each file, by path."""
    files = File.all(db)
    values = await query.map(db, files)
    return {file.path(db): value for file, value in zip(files, values, strict=True)}


@picante.db(
    inputs=[File],
    tracked=[
        parse,
        folders,
        locate,
        target,
        resolve,
        graph,
        cycles,
        unresolved,
        summary,
        report,
        lines,
    ],
)
class Database(picante.Database):
    """A tree of files and all that is known of it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.ran: Counter[str] = Counter()
        """How often each query was computed since this was cleared."""
        self.memos: set[tuple[str, tuple[object, ...]]] = set()
        """What has a result: the names of the queries, and their arguments."""
        self.on_run: Callable[[str], None] | None = None
        """Called with its name whenever a query is computed."""

    def count(self, name: str, args: tuple[object, ...]) -> None:
        """A query is about to be computed."""
        self.ran[name] += 1
        self.memos.add((name, args))
        if self.on_run is not None:
            self.on_run(name)
