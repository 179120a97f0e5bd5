"""The runs: cold, nothing changed, a comment added, an import added, both taken back.

Each result is compared with one from scratch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from keyword import iskeyword
from typing import TextIO

from . import analysis, queries, scratch
from .analysis import Layout, Report
from .queries import Database, File
from .tree import Tree

LISTED = 5
"""How many cycles, unresolved imports and problems are shown."""


class Progress:
    """A line that is rewritten in place, on a terminal; nothing elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.shown = False
        self.due = 0.0
        self.on = self.stream.isatty()

    def show(self, text: str, *, now: bool = False) -> None:
        """Put `text` in the line, if the last one has stood for a while or it must be `now`."""
        if self.on and (now or time.monotonic() >= self.due):
            self.due = time.monotonic() + 0.1
            self.shown = True
            self.stream.write(f"\r\x1b[K{text}")
            self.stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            self.shown = False
            self.stream.write("\r\x1b[K")
            self.stream.flush()


@dataclass(slots=True)
class Run:
    """What one run took and gave."""

    name: str
    ran: dict[str, int]
    reused: int
    seconds: float
    from_scratch: float
    same: bool
    """Whether the result equals the one from scratch."""
    report: Report

    @property
    def queries(self) -> int:
        """How many queries were computed."""
        return sum(self.ran.values())


class Demo:
    """A tree in a database, and runs over it. Edits are made there: no file is touched.

    A database that was loaded has files, too: they are set as they are now.
    """

    def __init__(self, tree: Tree, progress: Progress, db: Database | None = None) -> None:
        self.texts = dict(tree.texts)
        self.progress = progress
        self.db = Database(tree.layout) if db is None else db
        self.n_stored = 0
        """How many results were loaded."""
        with self.db.batch():
            for file in File.all(self.db):
                if file.path(self.db) not in self.texts:
                    file.remove(self.db)
            for path, text in self.texts.items():
                File(self.db, path, text)

    async def run(self, name: str, edit: tuple[str, str] | None = None) -> Run:
        """Make the edit, ask for the report, and compare it with one from scratch."""
        db = self.db
        db.ran.clear()
        start = time.perf_counter()
        if edit is not None:
            File(db, *edit)
            self.texts[edit[0]] = edit[1]
        report = await queries.report(db)
        seconds = time.perf_counter() - start
        ran = dict(db.ran)

        self.progress.show(f"{name}: comparing with a run from scratch ...", now=True)
        start = time.perf_counter()
        expected = scratch.analyse(self.texts, db.layout)
        from_scratch = time.perf_counter() - start
        self.progress.clear()
        reused = max(len(db.memos), self.n_stored) - sum(ran.values())
        return Run(name, ran, reused, seconds, from_scratch, report == expected, report)

    async def cold(self) -> Run:
        """The first run, with progress."""
        with self._watching():
            return await self.run("cold")

    @contextmanager
    def _watching(self) -> Iterator[None]:
        def on_run(name: str) -> None:
            if name == "parse":
                self.progress.show(f"{self.db.ran[name]} of {len(self.texts)} files parsed")

        # Without a terminal nothing is called, and nothing is paid.
        self.db.on_run = on_run if self.progress.on else None
        try:
            yield
        finally:
            self.db.on_run = None
            self.progress.clear()


def to_edit(report: Report) -> str | None:
    """The file that most others import, of those that can be parsed: the hardest one to edit."""
    broken = {path for path, _ in report.summary.problems}
    importers = {node.path: 0 for node in report.graph if node.path not in broken}
    for node in report.graph:
        for path in (*node.eager, *node.deferred):
            if path in importers:
                importers[path] += 1
    return min(importers, key=lambda path: (-importers[path], path), default=None)


def to_import(report: Report, path: str, layout: Layout) -> str:
    """A module that the file does not import yet: the first of the tree, or one from outside it."""
    broken = {broken for broken, _ in report.summary.problems}
    (node,) = (node for node in report.graph if node.path == path)
    for other in report.graph:
        if other.path not in (path, *node.eager, *node.deferred, *broken):
            name, _ = layout.module(other.path)
            if all(_is_public(part) for part in name.split(".")):
                return name
    return next(name for name in sorted(layout.standard) if name not in report.summary.outside)


def _is_public(part: str) -> bool:
    return part.isidentifier() and not iskeyword(part) and not part.startswith("_")


def with_comment(text: str) -> str:
    """The text with a comment above everything, so that every line of it moves."""
    return f"# A comment that changes nothing.\n{text}"


def with_import(text: str, module: str) -> str:
    """The text with one import more."""
    return f"{text}\nimport {module}\n"


async def play(
    tree: Tree,
    read_seconds: float,
    progress: Progress,
    again: Callable[[Demo, Run], Awaitable[bool]],
) -> bool:
    """All runs, and what they found, on standard output; whether everything was as it must be.

    `again` goes on with what the runs have left: it gets the demo and the cold run.
    """
    size = f"{len(tree.texts):,} files, {tree.size:,} characters"
    print(f"{tree.root}: {size}, read in {duration(read_seconds)}")
    if tree.unreadable_folders:
        print(f"Folders that could not be listed: {tree.unreadable_folders:,}")
    print(
        f"\n{'run':<16}{'queries run':>12}{'reused':>9}{'time':>10}{'than cold':>24}   from scratch"
    )
    demo = Demo(tree, progress)
    cold = await demo.cold()
    good = [print_run(cold, None)]
    unchanged = await demo.run("nothing changed")
    good += [print_run(unchanged, cold.seconds), unchanged.queries == 0]
    path = to_edit(cold.report)
    if path is None:
        print("\nThere is nothing to edit: no file that Python can parse.")
    else:
        original = demo.texts[path]
        assert isinstance(original, str)  # a file that was parsed has a text
        module = to_import(cold.report, path, tree.layout)
        commented = with_comment(original)
        comment = await demo.run("a comment added", (path, commented))
        cutoff = comment.ran == {"parse": 1}
        good += [print_run(comment, cold.seconds), cutoff]
        imported = await demo.run("an import added", (path, with_import(commented, module)))
        good.append(print_run(imported, cold.seconds))
        undone = await demo.run("both taken back", (path, original))
        good += [print_run(undone, cold.seconds), undone.report == cold.report]
        print(f"\nEdited in memory: {path}; a comment on top, then `import {module}` at the end.")
        verdict = "early cutoff" if cutoff else "TOO MUCH"
        print(f"Ran for the comment: {_counts(comment)} ({verdict}).")
        print(f"Ran for the import: {_counts(imported)}.\n")
    good.append(await again(demo, cold))
    await _print_findings(demo, cold.report)
    return all(good)


def print_run(run: Run, cold_seconds: float | None) -> bool:
    """A line of the table; whether the result is right."""
    faster = ""
    if cold_seconds is not None:
        ratio = cold_seconds / max(run.seconds, 1e-9)
        faster = f"{ratio:,.{0 if ratio >= 10 else 1}f} times faster"
    verdict = f"{'same result' if run.same else 'ANOTHER RESULT'}, {duration(run.from_scratch)}"
    print(
        f"{run.name:<16}{run.queries:>12,}{run.reused:>9,}{duration(run.seconds):>10}"
        f"{faster:>24}   {verdict}",
        flush=True,
    )
    return run.same


def _counts(run: Run) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(run.ran.items())) or "nothing"


async def _print_findings(demo: Demo, report: Report) -> None:
    summary = report.summary
    print(
        f"\nThe tree: {summary.files:,} files, {summary.packages:,} of them packages; "
        f"{summary.names:,} top-level names; {summary.imports:,} imports\n"
        f"of {len(summary.outside):,} modules outside the tree and, by {summary.edges:,} edges "
        f"and {summary.deferred:,} deferred ones, inside."
    )
    if summary.most_imported:
        ranked = ", ".join(f"{path} ({count:,})" for path, count in summary.most_imported)
        print(f"Imported by most files: {ranked}.")
    ways = [
        f"{len(group)} files: {' > '.join(analysis.shortest_cycle(report.graph, group))}"
        for group in report.cycles[:LISTED]
    ]
    _print_list(f"Import cycles: {summary.cycles:,}", ways, summary.cycles)
    places = []
    for missing in report.unresolved[:LISTED]:
        file = File.get(demo.db, missing.path)
        assert file is not None  # the report is of the files that are there
        lines = await queries.lines(demo.db, file)
        places.append(f"{missing.path}:{lines[missing.index]}: {missing.statement}")
    optional = f" (and {summary.absent:,} optional ones)" if summary.absent else ""
    _print_list(f"Unresolved imports: {summary.unresolved:,}{optional}", places, summary.unresolved)
    problems = [f"{path}: {problem}" for path, problem in summary.problems[:LISTED]]
    _print_list(f"Files left out: {len(summary.problems):,}", problems, len(summary.problems))


def _print_list(title: str, items: list[str], total: int) -> None:
    print(f"{title}{':' if items else '.'}")
    for item in items:
        print(f"    {item}")
    if total > len(items):
        print(f"    ... and {total - len(items):,} more")


def duration(seconds: float) -> str:
    """A time that a person can read."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds / 1e-6:.1f} µs"
