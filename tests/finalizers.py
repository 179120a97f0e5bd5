"""Calls into a database while the collector runs, in the middle of another call: `python -m tests.finalizers`.

On CPython 3.11 making any object may start a collection, and so may run finalizers, which may call whatever they
like. Each case does something again and again, and each time something else in a collection that comes a little later
on the way. What is wrong shows as a crash, with PYTHONMALLOC=debug at once, so `test_finalizers` runs this in a process
of its own. From 3.12 on collections wait until Python code runs, and little can go wrong.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable
from typing import Any

from picante import (
    DerivedIngredient,
    InputIngredient,
    InputNotFoundError,
    Runtime,
    SnapshotClosedError,
)
from picante._core.batch import Batch
from picante.observe import observe

N_OBJECTS = 50  # no case makes many more of them on its way

variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")


class Db:
    def __init__(self, runtime: Runtime | None = None) -> None:
        self.runtime = Runtime() if runtime is None else runtime
        self.input = InputIngredient[str, Any](1, "input", fields=("one", "two"))
        self.flag = InputIngredient[str, bool](2, "flag")
        self.query = DerivedIngredient[str, Any](4, "query", self.compute)
        self.part = DerivedIngredient[str, Any](5, "part", self.compute_part)
        self.waiting = DerivedIngredient[str, Any](6, "waiting", self.wait)

    def compute(self, db: Any, key: str) -> Any:
        return list(self.input.get(db, key) or ())

    def compute_part(self, db: Any, key: str) -> Any:
        return self.input.get_field(db, key, 0) if self.flag.get(db, "on", True) else None

    async def wait(self, db: Any, key: str) -> None:
        await asyncio.sleep(0)

    def set(self, one: Any) -> None:
        self.input.set(self, "a", (one, 2))


class View:
    """A snapshot made by hand."""

    def __init__(self, db: Db) -> None:
        self.runtime = db.runtime.snapshot()


def value(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something")


def sweep(db: Db) -> None:
    """Have slots forgotten that are of no use."""
    db.flag.set(db, "for a moment", True)
    db.flag.remove(db, "for a moment")


def set_variables() -> None:
    """Put other maps of variables into the present context."""
    variable.set(object())
    variable.set(object())


# Each case makes a database, and returns what to do and what to do in the middle of that.
Case = Callable[[Db], tuple[Callable[[], Any], Callable[[], Any]]]


def batch_ends(db: Db) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def change() -> None:
        with Batch(db.runtime):
            for number in range(5):
                db.flag.remove(db, f"gone {number}")

    return change, lambda: sweep(db)


def batch_sets_its_variable(db: Db) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def change() -> None:
        with Batch(db.runtime):
            db.set(1)
        assert db.input.get(db, "a") == (1, 2)

    return change, set_variables


def batch_within_a_batch_that_begins(db: Db) -> tuple[Callable[[], Any], Callable[[], Any]]:
    other = Db()

    def change() -> None:
        with Batch(db.runtime):
            db.set(1)
        assert db.input.get(db, "a") == (1, 2)

    def interfere() -> None:
        with Batch(other.runtime):
            other.set(2)

    return change, interfere


def record_is_removed_from_a_batch(db: Db) -> tuple[Callable[[], Any], Callable[[], Any]]:
    db.set(1)

    def change() -> None:
        with Batch(db.runtime):
            db.set(3)
            try:
                db.input.set_fields(db, "a", {1: 4})
            except InputNotFoundError:
                pass
        assert db.input.get(db, "a") in [None, (3, 4)], db.input.get(db, "a")

    return change, lambda: db.input.remove(db, "a")


def observers_are_told(db: Db) -> tuple[Callable[[], Any], Callable[[], Any]]:
    observer = observe(db.runtime, lambda event: None)

    def compute() -> None:
        with observer:
            value(db.query.get(db, "a"))

    return compute, set_variables


def field_is_forgotten(db: Db) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The only query that has read a field reads it no more, while the record is compared."""
    db.set(1)
    value(db.part.get(db, "a"))
    db.flag.set(db, "on", False)
    return lambda: db.set(3), lambda: value(db.part.get(db, "a"))


def snapshot_is_closed(db: Db) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Just when a query in it begins. Its view must not end before that query has done so."""
    pending = [
        db.waiting.get(db, str(number)) for number in range(70)
    ]  # use up what is kept for it
    for each in pending:
        each.send(None)
    db.set(1)
    view = View(db)
    db.set(3)

    def read() -> None:
        try:
            found = value(db.query.get(view, "a"))
        except SnapshotClosedError:
            return
        assert found == [1, 2], found
        for each in pending:
            each.close()

    return read, view.runtime.close


CASES: list[Case] = [
    batch_ends,
    batch_sets_its_variable,
    batch_within_a_batch_that_begins,
    record_is_removed_from_a_batch,
    observers_are_told,
    field_is_forgotten,
    snapshot_is_closed,
]


def run(case: Case, number: int, is_scarce: bool) -> None:
    """Let a collection come where there are so many new objects, and do what interferes.

    Containers that are kept to be used again are made without a collection. With `is_scarce` there are none of these,
    and what interferes does so again in the next collections.
    """
    to_do: list[Callable[[], Any]] = []

    def interfere(phase: str, info: Any) -> None:
        if phase == "start" and to_do:
            if is_scarce:
                gc.set_threshold(1)
            to_do.pop()()

    action, between = case(Db())
    gc.collect()  # which empties the stores of containers that are kept to be used again, too
    _used: list[Any] = [[[], {}, (i,), (i, i)] for i in range(100 * is_scarce)]
    gc.callbacks.append(interfere)
    to_do.extend([between] * (30 if is_scarce else 1))
    gc.set_threshold(gc.get_count()[0] + number)
    gc.enable()
    try:
        action()
    finally:
        gc.disable()
        gc.callbacks.remove(interfere)
        to_do.clear()


def main() -> None:
    gc.disable()
    gc.freeze()
    for case in CASES:
        print(case.__name__, flush=True)
        for number in range(N_OBJECTS):
            for is_scarce in (False, True):
                contextvars.copy_context().run(run, case, number, is_scarce)
    print("done")


if __name__ == "__main__":
    main()
