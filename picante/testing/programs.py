"""Programs for `check_consistency`: edits, questions and snapshots in some order, how they are run and made small.

A program is a list of steps. Each edit has a random generator of its own, made from the seed of its step, so that a
step does the same whichever other steps there are: that is what makes shrinking by leaving steps out work.

What a question is answered with is compared with a new database in which the edits were made that the question sees:
those before it; of a snapshot, those before the snapshot; and of a question that is under way while an edit is made,
those before the question, since a query sees the revision at which it was asked for and nothing of later ones.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from picante._core.key import DynKey, Key
from picante._core.recorder import INVALIDATED, REMOVED
from picante.debug.names import Names
from picante.snapshot import Snapshot
from picante.testing.values import Difference, difference, portable, shown

__all__ = ["Ask", "Edit", "Program", "Wrong", "named", "run", "shrink"]

Edit: TypeAlias = Callable[[Any, random.Random], object]
Ask: TypeAlias = Callable[[Any], object]

MOST_RUNS: Final = 500
"""How many smaller programs are tried."""


@dataclass(frozen=True)
class Step:
    """An edit with its seed, questions, both, or a snapshot that is taken."""

    edit: str = ""
    seed: int = 0
    asks: tuple[str, ...] = ()
    snapshot: int = 0
    """The number of the snapshot that is asked, or taken, where nothing is asked; 0: the database itself."""
    turns: int = 0
    """How many turns of the event loop the questions are under way when the edit is made."""

    def lines(self, changes: Sequence[str], width: int) -> Iterator[str]:
        """For people."""
        if self.asks:
            whom = f" on snapshot {self.snapshot}" if self.snapshot else ""
            yield f"ask for {', '.join(self.asks)}{whom}{', and meanwhile' if self.edit else ''}"
        elif self.snapshot:
            yield f"take snapshot {self.snapshot}"
        if self.edit:
            what = "; ".join(changes) or "changes nothing"
            yield f"{'   ' if self.asks else ''}{self.edit:{width}}  {what}"


@dataclass
class Program:
    """What is made of a seed."""

    make_db: Callable[[], Any]
    edits: Mapping[str, Edit]
    asks: Mapping[str, Ask]
    same: Callable[[Any, Any], bool] | None = None
    snapshots: bool = True
    overlaps: bool = True

    def steps(self, rng: random.Random, n: int) -> list[Step]:
        """`n` random steps, and all questions at the end."""
        made: list[Step] = []
        taken = 0
        for _ in range(n):
            chance = rng.random()
            if chance < 0.55:
                made.append(self.edit(rng))
            elif chance < 0.62 and self.snapshots:
                taken += 1
                made.append(Step(snapshot=taken))
            else:
                few = tuple(rng.sample(list(self.asks), rng.randint(1, len(self.asks))))
                asked = rng.randrange(taken + 1) if rng.random() < 0.5 else 0
                step = Step(asks=few, snapshot=asked)
                if self.overlaps and rng.random() < 0.4:
                    edit = self.edit(rng)
                    step = replace(step, edit=edit.edit, seed=edit.seed, turns=rng.randint(1, 6))
                made.append(step)
        return [*made, Step(asks=tuple(self.asks))]

    def edit(self, rng: random.Random) -> Step:
        return Step(rng.choice(list(self.edits)), rng.randrange(2**32))


@dataclass
class Answer:
    """What a question got: a value, or the exception of a query."""

    value: Any
    failed: bool = False

    def __str__(self) -> str:
        if self.failed:
            return f"raises {shown(self.value)}"
        return shown(self.value)


@dataclass
class Wrong:
    """A program whose results depend on what was asked before, and where that shows."""

    ask: str
    incremental: Answer
    fresh: Answer
    place: Difference | None
    steps: list[Step]
    changes: dict[int, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people: what to do, and what comes of it."""
        width = max(len(step.edit) for step in self.steps)
        told = []
        for i, step in enumerate(self.steps, 1):
            first, *more = step.lines(self.changes.get(i - 1, []), width)
            told += [f"  {i}. {first}", *(f"  {each}" for each in more)]
        last = self.steps[-1]
        whose = f" on snapshot {last.snapshot}" if last.snapshot else ""
        inputs = "the inputs of that time" if last.snapshot or last.edit else "these inputs"
        fresh = f"in a new database with {inputs}:"
        then = "as it was answered:" if last.snapshot or last.edit else "after all these steps:"
        told += [
            f"Then {self.ask}{whose} is",
            f"  {then:{len(fresh)}}  {self.incremental}",
            f"  {fresh}  {self.fresh}",
        ]
        if self.place is not None and self.place.place != "result":
            place = self.place
            told.append(f"  They differ first at {place.place}: {place.first} and {place.second}.")
        return told


class EditsDifferError(AssertionError):
    """An edit does one thing in one database, and another thing in the next."""


def named(functions: Mapping[str, Any] | Sequence[Any], what: str) -> dict[str, Any]:
    """Functions by the name under which a report shows them.

    Raises:
        TypeError: one of them cannot be called.
        ValueError: there are none, or two have one name.
    """
    if isinstance(functions, Mapping):
        found = dict(functions)
    else:
        found = {}
        for each in functions:
            inner = getattr(each, "func", each)  # of a functools.partial
            name = getattr(inner, "__name__", None) or repr(each)
            if name in found or name == "<lambda>":
                name = f"{name} {len(found) + 1}"
            found[name] = each
    if not found:
        raise ValueError(f"There are no {what}: give at least one.")
    for name, each in found.items():
        if not callable(each):
            raise TypeError(f"{name!r} among the {what} is {each!r}, which cannot be called.")
    return found


class _Edited:
    """A database, and what the edits have changed in it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.db = program.make_db()
        self.recorder = self.db.runtime.record_changes()
        self.done: list[list[tuple[Any, ...]]] = []

    def edit(self, step: Step) -> None:
        """Do a step, and note what it has changed."""
        self.program.edits[step.edit](self.db, random.Random(step.seed))
        changes: list[tuple[Any, ...]] = []
        for _, some in self.recorder.take():
            changes += some or [("everything",)]
        self.done.append(changes)

    def comparable(self, changes: list[tuple[Any, ...]]) -> list[Any]:
        return [tuple(portable(part, self.db) for part in each) for each in changes]

    def told(self, changes: list[tuple[Any, ...]]) -> list[str]:
        """What has changed, for people."""
        names = Names(self.db)
        lines: list[str] = []
        for change in changes:
            if len(change) == 1:
                lines.append("a cache was loaded")
                continue
            how, kind, key, value = change
            label = names.label(DynKey(kind, key if isinstance(key, Key) else Key.encode(key)))
            if how == REMOVED:
                lines.append(f"{label} is removed")
            elif how == INVALIDATED:
                lines.append(f"{label} is invalidated")
            else:
                lines.append(f"{label} = {self.shown(kind, value)}")
        return lines

    def shown(self, kind: Any, value: Any) -> str:
        """The value of an input; records with the names of their fields."""
        lookup = getattr(self.db, "ingredient", None)
        fields = getattr(lookup(kind) if callable(lookup) else None, "fields", ())
        if fields and isinstance(value, tuple) and len(value) == len(fields):
            pairs = zip(fields, value, strict=True)
            return ", ".join(f"{name} {shown(each)}" for name, each in pairs)
        return shown(value)

    def begin(self, name: str, db: Any) -> Any:
        """Ask `db`, which is the database or a snapshot of it: what the question returns, or how it failed."""
        try:
            return self.program.asks[name](db)
        except Exception as error:  # a query that fails: it must fail in both
            return Answer(error, failed=True)

    async def finish(self, found: Any) -> Answer:
        try:
            if inspect.isawaitable(found):
                found = await found
        except Exception as error:
            return Answer(error, failed=True)
        return found if isinstance(found, Answer) else Answer(portable(found, self.db))

    async def answers(self, step: Step, db: Any) -> list[Answer]:
        """The answers to the questions of a step, in whose midst its edit is made."""
        if not step.edit:
            return [await self.finish(self.begin(name, db)) for name in step.asks]
        tasks: list[asyncio.Task[Answer]] = []
        try:
            for name in step.asks:
                found = self.begin(name, db)
                tasks.append(asyncio.create_task(self.finish(found)))
                if inspect.iscoroutine(found) and not step.snapshot:
                    # A function of the user's may ask twice, before the edit and after it: let it end.
                    await asyncio.wait(tasks[-1:])
            for _ in range(step.turns):
                await asyncio.sleep(0)
            self.edit(step)
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


async def run(program: Program, steps: Sequence[Step]) -> Wrong | None:
    """Run `steps` in one database, and before each answer the edits that it sees in a new one.

    Raises:
        EditsDifferError: an edit did not do the same in both.
    """
    live = _Edited(program)
    edits: list[Step] = []
    snapshots: dict[int, tuple[Any, int]] = {}
    for i, step in enumerate(steps):
        if not step.asks:
            if step.snapshot:
                taken = await Snapshot.from_database(live.db)
                snapshots[step.snapshot] = taken, len(edits)
            else:
                live.edit(step)
                edits.append(step)
            continue
        db, n_edits = snapshots[step.snapshot] if step.snapshot else (live.db, len(edits))
        answers = await live.answers(step, db)
        if step.edit:
            edits.append(step)
        fresh = _Edited(program)
        if fresh.db.runtime is live.db.runtime:
            raise TypeError("`make_db` returned the same database twice: it must make a new one.")
        for edit, before in zip(edits[:n_edits], live.done, strict=False):
            fresh.edit(edit)
            if difference(live.comparable(before), fresh.comparable(fresh.done[-1])) is not None:
                raise EditsDifferError(
                    f"The edit {edit.edit} with seed {edit.seed} did {live.told(before)}, and in another database "
                    f"{fresh.told(fresh.done[-1])}: an edit may depend on nothing but the inputs and the random "
                    "generator that it is given."
                )
        for name, answer in zip(step.asks, answers, strict=True):
            expected = await fresh.finish(fresh.begin(name, fresh.db))
            place = _differ(program, answer, expected)
            if place is not None:
                changes = iter(live.done)
                done = {
                    n: live.told(next(changes))
                    for n, each in enumerate(steps[: i + 1])
                    if each.edit
                }
                last = replace(step, asks=(name,))
                return Wrong(name, answer, expected, place, [*steps[:i], last], done)
    return None


def _differ(program: Program, answer: Answer, expected: Answer) -> Difference | None:
    if answer.failed != expected.failed:
        return Difference("result", str(answer), str(expected))
    if answer.failed:
        mine, other = answer.value, expected.value
        if type(mine) is type(other) and str(mine) == str(other):
            return None
        return Difference("result", str(answer), str(expected))
    if program.same is not None:
        if program.same(answer.value, expected.value):
            return None
        return Difference("result", str(answer), str(expected))
    return difference(answer.value, expected.value)


async def shrink(program: Program, wrong: Wrong) -> Wrong:
    """The smallest program found that is wrong as well: steps are left out, many at first, then one by one."""
    budget = MOST_RUNS

    async def attempt(steps: list[Step]) -> Wrong | None:
        nonlocal budget
        budget -= 1
        try:
            return await run(program, steps)
        except Exception:  # an edit that relies on one that was left out
            return None

    best = wrong
    size = len(best.steps) // 2 or 1
    while budget > 0:
        start = 0
        smaller = False
        while start < len(best.steps) and budget > 0:
            found = None
            if start + size < len(
                best.steps
            ):  # in the last step it shows: that can only become simpler
                found = await attempt([*best.steps[:start], *best.steps[start + size :]])
            if found is None and size == 1:
                found = await _simpler(attempt, best.steps, start)
            if found is not None:
                best = found
                smaller = True
            else:
                start += size
        if size > 1:
            size //= 2
        elif not smaller:
            break
    return best


async def _simpler(attempt: Any, steps: list[Step], i: int) -> Wrong | None:
    """Ask for less in step `i`, with no edit meanwhile or one that comes first, or the database, not a snapshot."""
    step = steps[i]
    if not step.asks:
        return None
    simpler = [[replace(step, asks=(one,))] for one in step.asks if len(step.asks) > 1]
    if step.snapshot:
        simpler.append([replace(step, snapshot=0)])
    if step.edit:
        edit = Step(step.edit, step.seed)
        asks = replace(step, edit="", seed=0, turns=0)
        simpler += [[asks], [edit, asks], [asks, edit]]
    for less in simpler:
        found: Wrong | None = await attempt([*steps[:i], *less, *steps[i + 1 :]])
        if found is not None:
            return found
    return None
