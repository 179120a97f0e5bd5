"""Results that somebody changes after they were cached: who reads them later gets what no query has returned.

`assert_unmutated` keeps a copy of each value as it was when it was cached, or set, and compares: whenever the query is
asked for again, and at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from picante._core.derived import DerivedIngredient
from picante._core.errors import PicanteError
from picante._core.input import InputIngredient
from picante._core.key import DynKey, Key
from picante._core.states import Ready
from picante.debug.names import Names
from picante.observe import Event, EventKind, Observer, RunOutcome, observe
from picante.testing.values import Unwatchable, difference, frozen, listed

__all__ = ["Mutation", "MutationError", "Mutations", "assert_unmutated"]

MISSING: Final = object()

KINDS: Final = (
    EventKind.HIT,
    EventKind.VERIFIED,
    EventKind.COMPUTE_BEGIN,
    EventKind.COMPUTE_END,
    EventKind.INPUT_SET,
)


class MutationError(AssertionError):
    """A cached result, or the value of an input, has been changed behind picante's back. `mutations` says which."""

    mutations: tuple[Mutation, ...]

    def __init__(self, message: str, mutations: Iterable[Mutation]) -> None:
        super().__init__(message)
        self.mutations = tuple(mutations)


@dataclass(frozen=True)
class Mutation:
    """A value that is not what it was.

    Attributes:
        query: the query, or the input, with its key.
        place: where in its value: `result[3].name`.
        before: what was there when it was cached.
        after: what is there now.
        noticed: when that was noticed.
    """

    query: str
    place: str
    before: str
    after: str
    noticed: str

    def __str__(self) -> str:
        return f"{self.query}: {self.place} was {self.before}, and is {self.after} (noticed {self.noticed})"


@dataclass
class _Kept:
    value: Any
    copy: Any
    mutated: bool = False


class Mutations:
    """Looks for values that change. Made by `assert_unmutated`.

    Attributes:
        found: what has changed, in the order in which that was noticed.
        unwatched: of which queries the values could not be watched, and why.
    """

    def __init__(self, db: Any) -> None:
        self._db = db
        self._names = Names(db)
        self._kept: dict[DynKey, _Kept] = {}
        self._observer: Observer | None = None
        self._lock = threading.Lock()  # queries may run in several threads
        self.found: list[Mutation] = []
        self.unwatched: dict[str, str] = {}

    def check(self) -> None:
        """Compare all values with what they were.

        Raises:
            MutationError: one has changed.
        """
        __tracebackhide__ = True
        for dyn_key in tuple(self._kept):
            self._compare(dyn_key, "at the end")
        if self.found:
            lines = [
                "Values were changed after they were cached. Others get them, too, and nothing that was computed from "
                "them runs again:",
                *listed(self.found),
                "Return a new value, or one that cannot be changed (a tuple, a frozen dataclass).",
            ]
            raise MutationError("\n".join(lines), self.found)

    def _compare(self, dyn_key: DynKey, noticed: str) -> None:
        kept = self._kept.get(dyn_key)
        if kept is None or kept.mutated:
            return
        sort = self._names.sort(dyn_key.kind)
        place = difference(kept.copy, kept.value, "value" if sort == "input" else "result")
        if place is not None:
            kept.mutated = True
            label = self._names.label(dyn_key)
            self.found.append(Mutation(label, place.place, place.first, place.second, noticed))

    def _keep(self, dyn_key: DynKey, value: Any) -> None:
        if value is MISSING:
            self._kept.pop(dyn_key, None)
            return
        kept = self._kept.get(dyn_key)
        if kept is not None and kept.value is value:
            return
        try:
            self._kept[dyn_key] = _Kept(value, frozen(value))
        except Unwatchable as error:
            self._kept.pop(dyn_key, None)
            self.unwatched[self._names.label(dyn_key)] = str(error)

    def _see(self, event: Event) -> None:
        with self._lock:
            self._look(event)

    def _look(self, event: Event) -> None:
        assert event.subject is not None
        if event.subject.part:
            return
        dyn_key = event.subject.dyn_key
        ingredient: Any = self._db.ingredient(dyn_key.kind)
        match event.kind:
            case EventKind.HIT | EventKind.VERIFIED:
                self._compare(dyn_key, "when it was asked for again")
                if dyn_key not in self._kept:
                    self._keep(dyn_key, _memo(ingredient, event.subject.key))
            case EventKind.COMPUTE_BEGIN:  # its old value goes
                self._compare(dyn_key, "when it ran again")
            case EventKind.COMPUTE_END if event.detail in {RunOutcome.NEW, RunOutcome.EQUAL}:
                self._keep(dyn_key, _memo(ingredient, event.subject.key))
            case EventKind.INPUT_SET:
                self._compare(dyn_key, "when it was set again")
                self._keep(dyn_key, ingredient.get(self._db, event.subject.key, MISSING))

    def _keep_all(self) -> None:
        """What is cached already. Memos that have read nothing are found when they are asked for."""
        for dyn_key in self._db.runtime.forward_deps():
            ingredient = self._db.ingredient(dyn_key.kind)
            if isinstance(ingredient, DerivedIngredient):
                try:
                    self._keep(dyn_key, _memo(ingredient, dyn_key.key.decode(self._db)))
                except PicanteError:  # a key that names a class which is gone
                    continue
        for ingredient in getattr(self._db, "ingredients", ()):
            if isinstance(ingredient, InputIngredient):
                for key in ingredient.keys(self._db):
                    value = ingredient.get(self._db, key, MISSING)
                    self._keep(DynKey(ingredient.kind, Key.encode(key)), value)

    def __enter__(self) -> Self:
        self._observer = observe(self._db.runtime, self._see, kinds=KINDS)
        self._keep_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        try:
            if kind is None:
                self.check()
        finally:
            self.close()

    def close(self) -> None:
        """Watch no more. What was found stays."""
        if self._observer is not None:
            self._observer.close()
            self._observer = None
        self._kept.clear()


def _memo(ingredient: Any, key: Any) -> Any:
    state = ingredient.cell_state(key)
    return state.value if isinstance(state, Ready) else MISSING


def assert_unmutated(db: Any) -> Mutations:
    """Fail if a cached result, or the value of an input, is changed in this block: `with assert_unmutated(db): ...`.

    Each value is copied when the block begins, or when it is cached or set in it, and compared when its query is asked
    for again, and at the end. What cannot be copied is listed in `unwatched`.

    Args:
        db: the database. It needs a method `ingredient(kind)`, as all databases have but the simplest hand-made ones.

    Raises:
        MutationError: at the end of the block, if nothing else was raised in it. It says which query, and where.
    """
    return Mutations(db)
