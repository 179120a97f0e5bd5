"""Comparing what queries did with what a test expects of them, and saying how that differs, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import EllipsisType, TracebackType
from typing import Any, Final, TypeAlias

from picante._core.derived import DerivedIngredient
from picante._core.key import DynKey, Key
from picante._core.tracked import Tracked
from picante.debug.names import Names
from picante.testing.runs import Query, QueryRuns, Runs, kind_of, reasons
from picante.testing.values import listed

__all__ = ["Expected", "assert_ran", "assert_reused"]

Expected: TypeAlias = int | EllipsisType | Iterable[Any]
"""How often a query is to run, `...` for at least once, or with which keys."""

MOST: Final = 10
"""How many keys of a query, and how many reasons, a message lists."""


class _Expecting(Runs):
    """Runs that are compared with something when the block ends."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        super().__exit__(kind, error, traceback)
        if kind is None:
            problems = self._problems()
            if problems:
                raise AssertionError("\n".join(problems))

    def _problems(self) -> list[str]:
        raise NotImplementedError


class _Ran(_Expecting):
    def __init__(self, db: Any, expected: Mapping[Any, Expected], others: bool) -> None:
        super().__init__(db)
        self._expected = [(query, _Wanted(query, what)) for query, what in expected.items()]
        self._others = others

    def _problems(self) -> list[str]:
        wrong: list[tuple[str, str, str]] = []
        to_explain: list[QueryRuns] = []
        known = set()
        for query, wanted in self._expected:
            known.add(kind_of(query))
            found = self.of(query)
            unexpected = wanted.unexpected(found)
            if unexpected is not None:
                wrong.append((_name(query), wanted.text(self._names), _listed(found)))
                to_explain += unexpected
        for kind in {} if self._others else dict.fromkeys(each.kind for each in self._found):
            found = [each for key, each in self._found.items() if key.kind == kind and each.runs]
            if found and kind not in known:
                wrong.append((found[0].name, "not to run", _listed(found)))
                to_explain += found
        return _report("Other queries ran than expected.", wrong, to_explain)


class _Reused(_Expecting):
    def __init__(self, db: Any, expected: Mapping[Any, Expected]) -> None:
        super().__init__(db)
        self._expected = [(query, _Wanted(query, what)) for query, what in expected.items()]

    def _problems(self) -> list[str]:
        if not self._expected:
            ran = [each for each in self.queries if each.runs]
            wrong = [(each.name, "not to run", _listed([each])) for each in ran]
            return _report("Queries ran that were expected to be reused.", wrong, ran)
        wrong = []
        to_explain: list[QueryRuns] = []
        for query, wanted in self._expected:
            found = self.of(query)
            ran = [each for each in found if each.runs and wanted.concerns(each)]
            reused = [each for each in found if each.reused]
            if ran or not wanted.has_all(reused):
                what = f"reused {wanted.text(self._names)}"
                told = _listed(ran) if ran else f"ran not; reused {_labels(reused) or 'not'}"
                wrong.append((_name(query), what, told))
                to_explain += ran
        return _report("Queries were not reused as expected.", wrong, to_explain)


class _Wanted:
    """What is expected of one query."""

    def __init__(self, query: Query, what: Expected) -> None:
        self.query = query
        self.kind = kind_of(query)
        self.count: int | None = None
        self.keys: list[Key] | None = None
        if isinstance(what, (bool, str, bytes)):
            raise TypeError(
                f"Expected of {_name(query)} is a number, `...` or a list of keys, not {what!r}."
            )
        if isinstance(what, int):
            self.count = what
        elif what is not ...:
            self.keys = [Key.encode(each) for each in what]

    def labels(self, names: Names) -> list[str]:
        """The keys, with the name of the query, which the database may not know so far."""
        unknown, name = names.name(self.kind), _name(self.query)
        labels = [names.label(DynKey(self.kind, key)) for key in self.keys or ()]
        return [name + each.removeprefix(unknown) for each in labels]

    def unexpected(self, found: Sequence[QueryRuns]) -> list[QueryRuns] | None:
        """None if `found` is what was expected; else what has to be explained."""
        ran = [each for each in found if each.runs]
        n_runs = sum(each.runs for each in ran)
        if self.keys is not None:
            surplus = [each for each in ran if each.runs > self.keys.count(each.key)]
            return None if n_runs == len(self.keys) and not surplus else surplus
        if self.count is None:
            return None if n_runs else []
        if n_runs == self.count:
            return None
        return ran if n_runs > self.count else []

    def concerns(self, each: QueryRuns) -> bool:
        return self.keys is None or each.key in self.keys

    def has_all(self, reused: Sequence[QueryRuns]) -> bool:
        """Whether all that were to be reused were."""
        if self.keys is not None:
            return {each.key for each in reused} >= set(self.keys)
        return len(reused) == self.count if self.count is not None else bool(reused)

    def text(self, names: Names) -> str:
        if self.keys is not None:
            return ", ".join(self.labels(names)) or "not to run"
        if self.count is None:
            return "at least once"
        return _times(self.count) if self.count else "not to run"


def assert_ran(db: Any, expected: Mapping[Any, Expected], *, others: bool = False) -> Runs:
    """Fail unless exactly these queries run in the block: `with assert_ran(db, {line_count: 1, total: 1}): ...`.

    Args:
        db: the database. What its snapshots run counts as well.
        expected: for each query how often it is to run, `...` for at least once, or a list of the keys with which it is
            to run: arguments, tuples of them where there are several, `()` where there is none.
        others: whether queries that are not named may run.

    Raises:
        AssertionError: something else ran. The message says why it did.
    """
    return _Ran(db, expected, others)


def assert_reused(db: Any, expected: Query | Iterable[Any] | Mapping[Any, Expected] = ()) -> Runs:
    """Fail unless these queries are asked for in the block, and none of them runs.

    `with assert_reused(db): ...` wants that nothing runs at all.

    Args:
        db: the database. What its snapshots run counts as well.
        expected: a query, several, or for each how many keys of it are to be reused, or which.

    Raises:
        AssertionError: one of them ran, or was not asked for. The message says why it ran.
    """
    if isinstance(expected, (Tracked, DerivedIngredient)):
        expected = [expected]
    if not isinstance(expected, Mapping):
        expected = dict.fromkeys(expected, ...)
    return _Reused(db, expected)


# -- messages


def _name(query: Query) -> str:
    return query.name.rpartition(".")[2]


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _labels(found: Sequence[QueryRuns]) -> str:
    told = ", ".join(each.label for each in found[:MOST])
    return told + (f" and {len(found) - MOST} more" if len(found) > MOST else "")


def _listed(found: Sequence[QueryRuns]) -> str:
    """How often what ran."""
    ran = [each for each in found if each.runs]
    n_runs = sum(each.runs for each in ran)
    if not n_runs:
        reused = [each for each in found if each.reused]
        return "ran not" + (f"; reused {_labels(reused)}" if reused else "")
    return f"ran {_times(n_runs)}: {_labels(ran)}"


def _report(
    first: str, wrong: Sequence[tuple[str, str, str]], to_explain: Sequence[QueryRuns]
) -> list[str]:
    if not wrong:
        return []
    lines = [first]
    for name, wanted, found in wrong:
        lines += [f"{name}", f"  expected: {wanted}", f"  but it:   {found}"]
    if to_explain:
        lines += ["Why they ran:", *listed(reasons(to_explain), MOST)]
    return lines
