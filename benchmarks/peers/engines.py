"""Libraries that know what a value was made from, behind one face: each makes a `Running` of a sheet.

They do not all do the same. Signals (reaktiv, observ, signified) have an object for each formula instead of a function
with keys, are plain calls, and know nothing of several readers. The queries of `revlet` and `pyinc` are plain functions
too, those of `query-cascade` plain or asynchronous. Where a library has a choice to make, it is made for speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import picante

from ..sheets import Sheet


@dataclass(frozen=True)
class Running:
    """A sheet that somebody computes."""

    set: Callable[[int, int], object]
    get: Callable[
        [int], Any
    ]  # the value of a formula; what one awaits for it, of asynchronous ones
    asynchronous: bool = False
    updates: int = 8  # how many are measured at once: more of those that take microseconds

    @property
    def repeat(self) -> int:
        """The same for what has to be got ready each time."""
        return max(1, self.updates // 4)

    async def value(self, formula: int) -> int:
        found: int = await self.get(formula) if self.asynchronous else self.get(formula)
        return found


Engine = Callable[[Sheet], Running]


def by_decorators(sheet: Sheet) -> Running:
    """picante, as its guide shows it."""

    class Cell(picante.Input):
        number: picante.KeyField[int]
        value: picante.Field[int]

    db = picante.Database()
    cells = [Cell(db, number=i, value=value) for i, value in enumerate(sheet.inputs)]
    reads, formulas = sheet.reads, sheet.formulas

    @picante.tracked
    async def formula(db: picante.Database, i: int) -> int:
        values = [await formula(db, k) if k >= 0 else cells[~k].value(db) for k in reads[i]]
        return formulas[i](values)

    def change(i: int, value: int) -> None:
        cells[i].set(db, value=value)

    return Running(change, partial(formula, db), asynchronous=True, updates=64)


def scratch(sheet: Sheet) -> Running:
    """Plain functions that remember nothing: a value is computed again whenever it is asked for.

    What a formula asks for twice is computed once each time, by remembering within one question.
    """
    reads, formulas, inputs = sheet.reads, sheet.formulas, list(sheet.inputs)

    def get(i: int) -> int:
        known: dict[int, int] = {}

        def formula(i: int) -> int:
            if i in known:
                return known[i]
            values = [formula(k) if k >= 0 else inputs[~k] for k in reads[i]]
            known[i] = value = formulas[i](values)
            return value

        return formula(i)

    return Running(inputs.__setitem__, get)


def reaktiv(sheet: Sheet) -> Running:
    from reaktiv import computed, signal

    inputs = [signal(value) for value in sheet.inputs]
    nodes: list[Any] = []

    def node(reads: tuple[int, ...], formula: Any) -> Any:
        sources = [nodes[k] if k >= 0 else inputs[~k] for k in reads]
        return computed(lambda: formula([source() for source in sources]))

    for reads, formula in zip(sheet.reads, sheet.formulas, strict=True):
        nodes.append(node(reads, formula))
    return Running(lambda i, value: inputs[i].set(value), lambda i: nodes[i]())


def observ(sheet: Sheet) -> Running:
    from observ import computed, reactive

    inputs: Any = reactive(dict(enumerate(sheet.inputs)))
    nodes: list[Any] = []

    def node(reads: tuple[int, ...], formula: Any) -> Any:
        sources = [(nodes[k], 0) if k >= 0 else (None, ~k) for k in reads]

        def value() -> Any:
            return formula([source() if source else inputs[n] for source, n in sources])

        return computed(value)

    for reads, formula in zip(sheet.reads, sheet.formulas, strict=True):
        nodes.append(node(reads, formula))
    return Running(inputs.__setitem__, lambda i: nodes[i](), updates=64)


def signified(sheet: Sheet) -> Running:
    from signified import Computed, Signal

    inputs = [Signal(value) for value in sheet.inputs]
    nodes: list[Any] = []

    def node(reads: tuple[int, ...], formula: Any) -> Any:
        sources = [nodes[k] if k >= 0 else inputs[~k] for k in reads]
        return Computed(lambda: formula([source.value for source in sources]))

    for reads, formula in zip(sheet.reads, sheet.formulas, strict=True):
        nodes.append(node(reads, formula))

    def change(i: int, value: int) -> None:
        inputs[i].value = value

    return Running(change, lambda i: nodes[i].value, updates=64)


def _cascade(sheet: Sheet) -> tuple[Any, Any]:
    """An engine with the inputs of a sheet, and how they are read.

    Its default keeps no more than 10,000 results. Traces cannot be switched off, only kept short.
    """
    from cascade import Engine as Cascade

    engine = Cascade(max_entries=10_000_000, trace_limit=1)

    @engine.input
    def cell(i: int) -> int:
        return 0

    for i, value in enumerate(sheet.inputs):
        cell.set(i, value)
    return engine, cell


def query_cascade(sheet: Sheet) -> Running:
    engine, cell = _cascade(sheet)
    reads, formulas = sheet.reads, sheet.formulas

    @engine.query
    def formula(i: int) -> int:
        values = [formula(k) if k >= 0 else cell(~k) for k in reads[i]]
        return formulas[i](values)

    return Running(cell.set, formula, updates=4)


def cascade_async(sheet: Sheet) -> Running:
    engine, cell = _cascade(sheet)
    reads, formulas = sheet.reads, sheet.formulas

    @engine.query
    async def formula(i: int) -> int:
        values = [await formula(k) if k >= 0 else cell(~k) for k in reads[i]]
        return formulas[i](values)

    return Running(cell.set, formula, asynchronous=True, updates=4)


def revlet(sheet: Sheet) -> Running:
    from revlet import Database, tracked

    db = Database()
    inputs = [db.input(value) for value in sheet.inputs]
    reads, formulas = sheet.reads, sheet.formulas

    @tracked
    def formula(i: int) -> int:
        values = [formula(k) if k >= 0 else inputs[~k].value for k in reads[i]]
        return formulas[i](values)

    def change(i: int, value: int) -> None:
        inputs[i].value = value

    return Running(change, db.bind(formula))


def pyinc(sheet: Sheet) -> Running:
    from pyinc import Database, Input, query

    # In this mode values are not watched for being changed in place. What a query captures is looked at whenever
    # one is asked for, so it captures the rule and no tables.
    db = Database(mode="fast")
    rule, first, rest = sheet.rule, sheet.first, sheet.rest

    @query
    def formula(db: Any, i: int) -> int:
        values = [formula(db, k) if k >= 0 else Input[int](f"cell.{~k}").read(db) for k in rule(i)]
        return (rest if i else first)(values)

    inputs = [Input[int](f"cell.{i}") for i in range(len(sheet.inputs))]
    db.set_many(zip(inputs, sheet.inputs, strict=True))
    return Running(
        lambda i, value: db.set(inputs[i], value), lambda i: db.get(formula, i), updates=2
    )


ENGINES: dict[str, Engine] = {
    "picante": by_decorators,
    "scratch": scratch,
    "reaktiv": reaktiv,
    "observ": observ,
    "signified": signified,
    "revlet": revlet,
    "query_cascade": query_cascade,
    "cascade_async": cascade_async,
    "pyinc": pyinc,
}
LEAST = {  # from which version on they can do it, on CPython 3.12 and later
    "signified": (0, 7),  # before, all that a change affects was computed at once
    "cascade_async": (0, 3),
}


def installed(name: str) -> bool:
    """Whether the library of this engine is there, and new enough."""
    if name in {"picante", "scratch"}:
        return True
    try:
        version = metadata.version("query-cascade" if name == "cascade_async" else name)
    except metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in version.split(".")[:2]) >= LEAST.get(name, (0, 0))
