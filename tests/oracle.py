"""Random programs against a reference that recomputes everything.

A *program* is data: queries in a small language, and the actions of a driver (writes, readers, cancellations, the
release of a gate at which some query waits). Data can be printed, replayed and shrunk. Both sides run the same
queries through one interpreter, `steps`, a generator that yields its reads: the reference answers them from a plain
dict, the engine's side from ingredients, so neither can be wrong about the language alone.

What is checked (design: one mechanism, versions and views):

* *Values.* An access has the outcome of a from-scratch evaluation on the inputs *of the revision at which it began*,
  and all accesses of one query at one revision have one outcome, failures the same exception object.
* *Cells.* Whatever `cell_state` and `peek` show is right for the revision that they name, the recorded dependencies are
  those that the reference reads, in order, and no two outcomes of a query share a `changed_at`.
* *Runs.* One query never runs twice at one revision, unless a cancellation undid the first run. It does not run if an
  earlier run read the same input facts, however indirectly, and none of them has changed between the two
  (`Runner.unjustified`). Where nothing overlaps, `Memos` says exactly what has to run: early cutoff, order
  of verification, and events included.
* *Snapshots.* All of this holds for who reads through a snapshot, at the revision at which that was taken.
* *Ends.* Nobody waits for ever, and afterwards no outcome is kept but the present ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import random
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from picante import (
    DerivedIngredient,
    InputIngredient,
    InputNotFoundError,
    InternedIngredient,
    Key,
    Ready,
    Runtime,
    Snapshot,
    SnapshotClosedError,
    Touch,
)
from picante._core.facts import contradictions
from picante.events import (
    InputRemoved,
    InputSet,
    QueryChanged,
    QueryInvalidated,
    RevisionBumped,
)
from picante.inflight import shared_cache

INPUT, ASYNC, PLAIN, WORDS = 1, 2, 3, 4  # kinds

# What a query reads of the inputs: ("value", k), ("has", k) or ("keys",).
Fact = tuple[Any, ...]
# What it reads at all: a fact or ("ask", query).
Read = tuple[Any, ...]
# An instruction of a query; its head says what the rest means, see `steps`.
Op = tuple[Any, ...]
Action = tuple[Any, ...]
State = dict[int, int]


@dataclass(frozen=True)
class Query:
    """`ops` make a number; the value of the query is that number modulo `modulus`."""

    ops: tuple[Op, ...]
    modulus: int

    @property
    def plain(self) -> bool:
        """Whether a plain function can compute it: it awaits nothing."""
        return not any(head in AWAITING for head in heads(self.ops))


@dataclass(frozen=True)
class Program:
    queries: tuple[Query, ...]
    actions: tuple[Action, ...]
    lookup: bool = True  # whether the database has `.ingredient`
    listening: bool = False  # whether somebody has subscribed to events

    def __str__(self) -> str:
        lines = [f"Program(lookup={self.lookup}, listening={self.listening}, queries=("]
        lines += [f"    {query!r},  # {i}" for i, query in enumerate(self.queries)]
        lines += ["), actions=("]
        lines += [f"    {action!r}," for action in self.actions]
        return "\n".join([*lines, "))"])


AWAITING = {"ask", "pick", "try", "both", "pause", "abandon"}


def heads(ops: tuple[Op, ...]) -> Iterator[str]:
    for op in ops:
        yield op[0]
        if op[0] == "if":
            yield from heads(op[2])
            yield from heads(op[3])
        elif op[0] == "swap":
            yield from heads(op[1:])


class FailedError(Exception):
    """A query has failed because of what it read: the same each time."""


class TransientError(Exception):
    """A query has failed for a reason outside of the database."""

    def __init__(self, query: int, revision: int) -> None:
        super().__init__(query, revision)
        self.revision = revision


class MissingError(Exception):
    """What stands for the `InputNotFoundError` of a read."""


# -- the language


def steps(ops: tuple[Op, ...], number: int = 0) -> Generator[Read, Any, int]:
    """Run `ops`, yielding each read and being sent its answer."""
    for op in ops:
        head, args = op[0], op[1:]
        if head in {"value", "pick_value"}:
            key = args[0] if head == "value" else args[number % len(args)]
            found = yield ("value", key)
            number = number * 3 + (0 if found is None else found + 1)
        elif head == "require":
            number = number * 3 + (yield ("require", args[0]))
        elif head == "has":
            number = number * 2 + (yield ("has", args[0]))
        elif head == "keys":
            for key in (yield ("keys",)):
                number = number * 5 + key + 1
        elif head in {"ask", "pick"}:
            number = number * 3 + (yield ("ask", args[number % len(args)]))
        elif head == "try":
            try:
                number = number * 3 + (yield ("ask", args[0]))
            except (FailedError, MissingError):
                number = number * 3 + 2
        elif head == "both":
            first, second = yield ("both", *args)
            number = number * 9 + first * 3 + second
        elif head == "intern":
            number = number * 3 + (yield ("intern", number % args[0]))
        elif head in {"pause", "abandon"}:
            yield op
        elif head == "if":
            number = yield from steps(args[1] if number % args[0] == 0 else args[2], number)
        elif head == "swap":
            number = yield from steps(args if number % 2 else args[::-1], number)
        elif head == "mod":
            number %= args[0]
        elif head == "fail":
            if number % args[0] == args[1]:
                raise FailedError(number)
        else:
            raise AssertionError(op)
        number %= 1_000_003
    return number


class Value:
    """A value that can be watched: equal by number, but each an object of its own."""

    __slots__ = ("__weakref__", "n")

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.n == other.n

    def __hash__(self) -> int:
        return hash(self.n)

    def __repr__(self) -> str:
        return f"Value({self.n})"


# -- the reference


@dataclass
class Outcome:
    value: int | None
    error: tuple[Any, ...] | None
    reads: list[Read]  # in order, each once
    facts: frozenset[Fact]  # what it read of the inputs, however indirectly
    asked: frozenset[int]  # the queries that it read, however indirectly
    fleeting: bool  # it, or something beneath, failed or was given up: good for one revision only


class Reference:
    """All outcomes at one revision, from scratch."""

    def __init__(self, queries: tuple[Query, ...], state: State) -> None:
        self.queries = queries
        self.state = state
        self.known: dict[int, Outcome] = {}

    def __getitem__(self, i: int) -> Outcome:
        if i not in self.known:
            self.known[i] = self.compute(i)
        return self.known[i]

    def compute(self, i: int) -> Outcome:
        reads: list[Read] = []
        facts: set[Fact] = {("outside", i)}  # what it reads elsewhere, see `actors`
        asked: set[int] = {i}
        fleeting = False

        def ask(j: int) -> int:
            nonlocal fleeting
            reads.append(("ask", j))
            facts.update(self[j].facts)
            asked.update(self[j].asked)
            fleeting = fleeting or self[j].fleeting
            return result_of(self[j])

        program = steps(self.queries[i].ops)
        answer: Any = None
        error: BaseException | None = None
        value = None
        try:
            while True:
                read = program.throw(error) if error is not None else program.send(answer)
                answer = error = None
                try:
                    if read[0] == "ask":
                        answer = ask(read[1])
                    elif read[0] == "both":
                        answer = ask(read[1]), None
                        answer = answer[0], ask(read[2])
                    elif read[0] == "abandon":
                        reads.append(("ask", read[1]))
                        fleeting = True
                    elif read[0] == "intern":
                        answer = read[1]
                    elif read[0] != "pause":
                        fact = ("value", read[1]) if read[0] == "require" else read
                        reads.append(fact)
                        facts.add(fact)
                        answer = fact_in(self.state, fact)
                        if read[0] == "require" and answer is None:
                            raise MissingError(read[1])
                except (FailedError, MissingError) as raised:
                    error = raised
        except StopIteration as stop:
            value = stop.value % self.queries[i].modulus
            error = None
        except (FailedError, MissingError) as raised:
            error = raised
            fleeting = True
        reads = list(dict.fromkeys(reads))
        shown = None if error is None else (type(error).__name__, *error.args)
        error = None  # its traceback has this frame, and by that all who called it
        return Outcome(value, shown, reads, frozenset(facts), frozenset(asked), fleeting)


def fact_in(state: State, fact: Fact) -> Any:
    if fact[0] == "keys":
        return tuple(state)
    return fact[1] in state if fact[0] == "has" else state.get(fact[1])


def result_of(outcome: Outcome) -> int:
    if outcome.error is not None:
        raise {"FailedError": FailedError, "MissingError": MissingError}[outcome.error[0]](
            *outcome.error[1:]
        )
    assert outcome.value is not None
    return outcome.value


class History:
    """The inputs at every revision, and when each fact about them changed."""

    def __init__(self, queries: tuple[Query, ...]) -> None:
        self.queries = queries
        self.state: State = {}
        self.present = 0
        self.references = {0: Reference(queries, {})}
        self.changes: dict[Fact, list[int]] = {}

    def advance(self, revision: int, changed: list[Fact]) -> None:
        # A revision that is skipped holds what the one before it holds.
        for between in range(self.present + 1, revision):
            self.references[between] = self.references[self.present]
        self.present = revision
        self.references[revision] = Reference(self.queries, dict(self.state))
        for fact in changed:
            self.changes.setdefault(fact, []).append(revision)

    def set(self, key: int, value: int) -> list[Fact] | None:
        """The facts that change, or None where nothing does; `advance` comes afterwards."""
        if self.state.get(key) == value:
            return None
        changed: list[Fact] = [("value", key)]
        if key not in self.state:
            changed += [("has", key), ("keys",)]
        self.state[key] = value
        return changed

    def remove(self, key: int) -> list[Fact] | None:
        if key not in self.state:
            return None
        del self.state[key]
        return [("value", key), ("has", key), ("keys",)]

    def last_change(self, fact: Fact) -> int:
        return self.changes.get(fact, [0])[-1]

    def unchanged(self, facts: frozenset[Fact], a: int, b: int) -> bool:
        """Whether none of `facts` changed between the revisions `a` and `b`, in whichever order."""
        low, high = min(a, b), max(a, b)
        return not any(low < when <= high for f in facts for when in self.changes.get(f, ()))


# -- what exactly must run, where nothing overlaps


@dataclass
class Memo:
    value: int | None  # None: it failed
    error: BaseException | None
    reads: dict[Read, int]  # and the name of the outcome seen
    name: int
    verified_at: int


class Memos:
    """A model of the memos of a database in which every access ends before anything else happens."""

    def __init__(self, queries: tuple[Query, ...], history: History) -> None:
        self.queries = queries
        self.history = history
        self.memos: dict[int, Memo] = {}
        self.ran: list[int] = []
        self.changed: list[int] = []  # the queries with a new outcome, in the order of ending

    def access(self, i: int) -> Memo:
        memo = self.memos.get(i)
        if memo is None or not self.holds(memo):
            memo = self.memos[i] = self.run(i, memo)
        return memo

    def holds(self, memo: Memo) -> bool:
        if memo.verified_at == self.history.present:
            return True
        if memo.value is None:  # failures end with their revision
            return False
        for read, name in memo.reads.items():
            if (
                self.access(read[1]).name if read[0] == "ask" else self.history.last_change(read)
            ) != name:
                return False
        memo.verified_at = self.history.present
        return True

    def run(self, i: int, before: Memo | None) -> Memo:
        self.ran.append(i)
        present = self.history.present
        reads: dict[Read, int] = {}

        def ask(j: int) -> int:
            memo = self.access(j)
            reads.setdefault(("ask", j), memo.name)
            if memo.error is not None:
                raise memo.error
            assert memo.value is not None
            return memo.value

        program = steps(self.queries[i].ops)
        answer: Any = None
        error: BaseException | None = None
        try:
            while True:
                read = program.throw(error) if error is not None else program.send(answer)
                answer = error = None
                try:
                    if read[0] == "ask":
                        answer = ask(read[1])
                    elif read[0] == "both":
                        # Both are started before the first failure is seen.
                        for j in read[1:]:
                            reads.setdefault(("ask", j), self.access(j).name)
                        answer = ask(read[1]), ask(read[2])
                    elif read[0] == "intern":
                        answer = read[1]
                    elif read[0] != "pause":
                        fact = ("value", read[1]) if read[0] == "require" else read
                        reads.setdefault(fact, self.history.last_change(fact))
                        answer = fact_in(self.history.state, fact)
                        if read[0] == "require" and answer is None:
                            raise MissingError(read[1])
                except (FailedError, MissingError) as raised:
                    error = raised
        except StopIteration as stop:
            value = stop.value % self.queries[i].modulus
            if before is not None and before.value == value:
                return Memo(value, None, reads, before.name, present)
            self.changed.append(i)
            return Memo(value, None, reads, present, present)
        except (FailedError, MissingError) as raised:
            return Memo(None, raised, reads, present, present)

    def dependents(self, changed: list[Fact]) -> set[int]:
        """All queries whose memos read one of these facts, however indirectly."""
        found = {i for i, memo in self.memos.items() if any(fact in memo.reads for fact in changed)}
        while True:
            more = {
                i
                for i, memo in self.memos.items()
                if i not in found and any(("ask", j) in memo.reads for j in found)
            }
            if not more:
                return found
            found |= more


# -- the engine's side


class Gates:
    """Where queries wait until the driver lets them go on, in an order of its own."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        gate = asyncio.get_running_loop().create_future()
        self.waiting.append(gate)
        try:
            await gate
        finally:
            if gate in self.waiting:
                self.waiting.remove(gate)

    def release(self, which: int) -> None:
        if self.waiting:
            gate = self.waiting.pop(which % len(self.waiting))
            if not gate.done():  # else whoever waited was cancelled a moment ago
                gate.set_result(None)


async def settle() -> None:
    """Let everybody go on as far as they can without the driver."""
    loop: Any = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._ready:  # noqa: ASYNC110  # there is nobody who could set an event
        await asyncio.sleep(0)


class Database:
    """The least that a database can be."""

    def __init__(self) -> None:
        self.runtime = Runtime()


class LookupDatabase(Database):
    def __init__(self) -> None:
        super().__init__()
        self.ingredients: dict[int, Any] = {}

    def ingredient(self, kind: int) -> Any:
        return self.ingredients.get(kind)


class World(LookupDatabase):
    """A database for examples: its queries wait at `gates` and leave their names in `ran`."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = Gates()
        self.ran: list[str] = []

    def add(self, ingredient: Any) -> Any:
        self.ingredients[ingredient.kind] = ingredient
        return ingredient

    def input(self, name: str = "text", **options: Any) -> InputIngredient:
        found: InputIngredient = self.add(
            InputIngredient(len(self.ingredients) + 1, name, **options)
        )
        return found

    def words(self, name: str = "words") -> InternedIngredient:
        found: InternedIngredient = self.add(InternedIngredient(len(self.ingredients) + 1, name))
        return found

    def query(self, compute: Callable[[Any, Any], Any], **options: Any) -> DerivedIngredient:
        """A derived ingredient named as `compute`. Use as a decorator."""
        name = compute.__name__
        ran = self.ran
        counted: Callable[[Any, Any], Any]
        if inspect.iscoroutinefunction(compute):

            async def counted(db: Any, key: Any) -> Any:
                ran.append(name)
                return await compute(db, key)
        else:

            def counted(db: Any, key: Any) -> Any:
                ran.append(name)
                return compute(db, key)

        found: DerivedIngredient = self.add(
            DerivedIngredient(len(self.ingredients) + 1, name, counted, **options)
        )
        return found

    def took(self) -> list[str]:
        """The names of the queries that ran since this was asked last, in order."""
        ran = self.ran[:]
        self.ran.clear()
        return ran


@dataclass
class Run:
    query: int
    revision: int
    state: str = "running"  # then "done", "failed" or "cancelled"
    clean: bool = False  # nothing that it read had changed when it ended


@dataclass
class Reader:
    query: int
    revision: int
    task: asyncio.Task[Any] = field(init=False)
    cancelled: bool = False


class WrongError(AssertionError):
    """What a program has shown to be wrong."""


@dataclass
class Runner:
    """Runs one program on the engine and checks it against the reference."""

    program: Program
    exact: bool = False  # each access ends before anything else happens: predict the runs
    failing: set[int] = field(default_factory=set)  # queries that fail now, for a reason outside
    ordered: bool = True  # the loop starts the two sides of a `gather` in order

    def __post_init__(self) -> None:
        queries = self.program.queries
        self.history = History(queries)
        self.memos = Memos(queries, self.history)
        self.gates = Gates()
        self.db: Any = LookupDatabase() if self.program.lookup else Database()
        self.input = InputIngredient(INPUT, "Input")
        self.words = InternedIngredient(WORDS, "Words")
        self.derived = {
            True: DerivedIngredient(PLAIN, "Plain", self.compute_plain),
            False: DerivedIngredient(ASYNC, "Async", self.compute_async),
        }
        self.plain = [query.plain for query in queries]
        if self.program.lookup:
            for each in (self.input, self.words, *self.derived.values()):
                self.db.ingredients[each.kind] = each
        self.events = self.db.runtime.subscribe_events() if self.program.listening else None
        self.at: contextvars.ContextVar[int] = contextvars.ContextVar("at")
        self.runs: dict[int, list[Run]] = {i: [] for i in range(len(queries))}
        self.ran: list[int] = []
        self.readers: list[Reader] = []
        self.outcomes: dict[tuple[int, int], Any] = {}
        self.names: dict[tuple[int, int], Any] = {}
        self.values: weakref.WeakSet[Value] = weakref.WeakSet()
        self.snapshots: list[tuple[Any, int]] = []  # each with its revision
        self.failed_outside: set[int] = set()  # no interval reaches over one of their failures
        self.problem: WrongError | None = None

    # what queries do

    def value(self, n: int) -> Value:
        value = Value(n)
        self.values.add(value)
        return value

    def begin(self, i: int) -> Run:
        run = Run(i, self.at.get())
        try:
            self.check_justified(run)
        except WrongError as wrong:
            self.problem = self.problem or wrong
        self.runs[i].append(run)
        self.ran.append(i)
        return run

    def end(self, run: Run, error: BaseException | None) -> None:
        if error is None:
            run.state = "done"
        elif isinstance(error, Exception):
            run.state = "failed"
        else:
            run.state = "cancelled"
        facts = self.history.references[run.revision][run.query].facts
        run.clean = self.history.unchanged(facts, run.revision, self.history.present)

    def check_justified(self, run: Run) -> None:
        why = self.unjustified(run)
        if why is not None:
            raise WrongError(f"query {run.query} had no reason to run at {run.revision}: {why}")

    def unjustified(self, run: Run) -> str | None:
        for other in self.runs[run.query]:
            if other.state == "cancelled":
                continue
            if other.revision == run.revision:
                return f"it is {other.state} there already"
            outcome = self.history.references[other.revision][run.query]
            if (
                other.state == "done"
                and other.clean
                and not outcome.fleeting
                and not self.failed_outside & outcome.asked
                and self.history.unchanged(outcome.facts, other.revision, run.revision)
            ):
                return f"nothing that it read at {other.revision} has changed"
        return None

    def fact(self, db: Any, read: Read) -> Any:
        if read[0] == "has":
            return self.input.contains(db, read[1])
        if read[0] == "keys":
            return tuple(self.input.keys(db))
        if read[0] == "intern":
            return self.words.get(db, self.words.intern(("word", read[1])))[1]
        if read[0] == "require":
            return self.input.require(db, read[1]).n
        found = self.input.get(db, read[1])
        return None if found is None else found.n

    def compute_plain(self, db: Any, i: int) -> Value:
        run = self.begin(i)
        try:
            self.fail_outside(run)
            program = steps(self.program.queries[i].ops)
            answer = None
            try:
                while True:
                    answer = self.fact(db, program.send(answer))
            except StopIteration as stop:
                number = stop.value
        except BaseException as error:
            self.end(run, error)
            raise
        self.end(run, None)
        # No variable: the traceback of an error that was caught here refers to this frame.
        return self.value(number % self.program.queries[i].modulus)

    async def compute_async(self, db: Any, i: int) -> Value:
        run = self.begin(i)
        try:
            program = steps(self.program.queries[i].ops)
            answer: Any = None
            error: BaseException | None = None
            try:
                while True:
                    read = program.throw(error) if error is not None else program.send(answer)
                    answer = error = None
                    try:
                        answer = await self.answer(db, read, run)
                    except InputNotFoundError as missing:
                        error = missing_error(missing)
                    except (FailedError, MissingError) as raised:
                        error = raised
            except StopIteration as stop:
                number = stop.value
            self.fail_outside(run)
        except BaseException as error:
            self.end(run, error)
            raise
        self.end(run, None)
        # No variable: the traceback of an error that was caught here refers to this frame.
        return self.value(number % self.program.queries[i].modulus)

    def fail_outside(self, run: Run) -> None:
        if run.query in self.failing:
            self.failed_outside.add(run.query)
            raise TransientError(run.query, run.revision)

    async def answer(self, db: Any, read: Read, run: Run) -> Any:
        if read[0] == "pause":
            await self.gates.wait()
            return None
        if read[0] == "ask":
            return (await self.fetch(db, read[1])).n
        if read[0] == "both":
            found = await asyncio.gather(
                *(self.fetch(db, j) for j in read[1:]), return_exceptions=True
            )
            for each in found:
                if isinstance(each, BaseException):
                    raise each
            return [each.n for each in found]
        if read[0] == "abandon":
            task = asyncio.ensure_future(self.aside(db, read[1], run))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            await self.gates.wait()  # if this is cancelled, the task goes on by itself
            task.cancel()
            await asyncio.wait([task])
            return None
        return self.fact(db, read)

    async def aside(self, db: Any, i: int, run: Run) -> None:
        if run.state != "running":  # the query has ended before this began, which is outside of it
            self.at.set(self.history.present)
        await self.fetch(db, i)

    def fetch(self, db: Any, i: int) -> Any:
        return self.derived[self.plain[i]].get(db, i)

    # what the driver does

    async def run(self) -> None:
        try:
            for action in self.program.actions:
                self.act(action)
                if self.exact:
                    await settle()
                    self.expect_exactly(action)
                elif action[0] == "step":
                    for _ in range(action[1]):
                        await asyncio.sleep(0)
                elif action[0] == "settle":
                    await settle()
                    self.check_cells()
                self.raise_problem()
            await self.finish()
        finally:
            for reader in self.readers:
                reader.task.cancel()
            await asyncio.gather(*(reader.task for reader in self.readers), return_exceptions=True)

    def raise_problem(self) -> None:
        if self.problem is not None:
            raise self.problem

    def act(self, action: Action) -> None:
        head, args = action[0], action[1:]
        changed = None
        if head == "set":
            changed = self.history.set(*args)
            revision = self.input.set(self.db, args[0], self.value(args[1]))
            if changed is None and revision != self.history.last_change(("value", args[0])):
                raise WrongError(f"{action}: a no-op says {revision!r}")
        elif head == "remove":
            changed = self.history.remove(*args)
            if self.input.remove(self.db, *args) is (changed is None):
                raise WrongError(f"{action} says the contrary of what it did")
        elif head == "bump":
            changed = []
            self.db.runtime.bump_revision()
        elif head == "jump":
            self.db.runtime.set_current_revision(self.history.present + args[0])
            self.history.advance(self.history.present + args[0], [])
        elif head in {"read", "touch"}:
            self.start_reader(head, args[0])
        elif head == "peek":
            self.peek(args[0])
        elif head == "snapshot":
            self.take_snapshot(self.db, self.history.present)
        elif head in {"read_at", "touch_at", "peek_at", "snapshot_at", "close_at", "drop_at"}:
            if self.snapshots:
                self.act_at(head, args[0] % len(self.snapshots), *args[1:])
        elif head == "cancel":
            running = [each for each in self.readers if not each.task.done()]
            if running:
                reader = running[args[0] % len(running)]
                reader.cancelled = True
                reader.task.cancel()
        elif head == "release":
            self.gates.release(args[0])
        elif head == "toggle":
            self.failing ^= {args[0]}
        if changed is not None:
            self.history.advance(self.history.present + 1, changed)
        if self.db.runtime.current_revision != self.history.present:
            raise WrongError(f"{action} ends at {self.db.runtime.current_revision!r}")

    def act_at(self, head: str, which: int, *args: int) -> None:
        """An action on one of the snapshots."""
        snapshot, revision = self.snapshots[which]
        if head in {"read_at", "touch_at"}:
            self.start_reader(head.removesuffix("_at"), args[0], snapshot, revision)
        elif head == "peek_at":
            self.peek(args[0], snapshot, revision)
        elif head == "snapshot_at":
            self.take_snapshot(snapshot, revision)
        else:
            del self.snapshots[which]
            if head == "close_at":  # else it is up to the readers that still use it
                snapshot.close()

    def take_snapshot(self, db: Any, revision: int) -> None:
        try:
            Snapshot.from_database(db).send(None)
        except StopIteration as taken:
            self.snapshots.append((taken.value, revision))
        else:
            raise WrongError("taking a snapshot has awaited something")

    def start_reader(self, how: str, i: int, db: Any = None, revision: int | None = None) -> None:
        query = self.derived[self.plain[i]]
        ask = query.get if how == "read" else query.touch

        async def read() -> Any:
            reader.revision = self.history.present if revision is None else revision
            self.at.set(reader.revision)
            try:
                got = await ask(self.db if db is None else db, i)
            except SnapshotClosedError:
                if db is None or db in [snapshot for snapshot, _ in self.snapshots]:
                    raise
                return  # it was closed before this began
            except Exception as error:
                got = error
            if how == "read":
                self.check_value(i, reader.revision, got)
            else:
                self.check_touch(i, reader.revision, got)

        reader = Reader(i, self.history.present)
        reader.task = asyncio.ensure_future(read())
        self.readers.append(reader)

    def peek(self, i: int, db: Any = None, revision: int = 0) -> None:
        if db is None:
            db, revision = self.db, self.history.present
        try:
            found = self.derived[self.plain[i]].peek(db, i)
        except Exception as error:
            found = error.__cause__
        if found is not None:
            self.check_value(i, revision, found)

    def check_value(self, i: int, revision: int, got: Any) -> None:
        if self.outcomes.setdefault((i, revision), got) is not got:
            other = self.outcomes[i, revision]
            if isinstance(got, Exception) or isinstance(other, Exception) or other != got:
                raise WrongError(f"query {i} at {revision} gave {other!r}, and then {got!r}")
        if isinstance(got, TransientError):
            if got.revision != revision:
                raise WrongError(f"query {i} at {revision} fails with a failure of {got.revision}")
            return
        wanted = self.history.references[revision][i]
        if isinstance(got, InputNotFoundError):
            got = missing_error(got)
        if isinstance(got, FailedError | MissingError):
            right = wanted.error == (type(got).__name__, *got.args)
        else:
            right = wanted.error is None and isinstance(got, Value) and got.n == wanted.value
        if not right:
            shown = wanted.value if wanted.error is None else wanted.error
            raise WrongError(f"query {i} at {revision} is {got!r}, not {shown!r}") from (
                got if isinstance(got, BaseException) else None
            )

    def check_touch(self, i: int, revision: int, got: Any) -> None:
        if isinstance(got, Touch):
            self.check_name(i, got.changed_at, revision)
        elif got.__cause__ is None:
            raise WrongError(f"touching query {i} raised {got!r}") from got
        else:
            self.check_value(i, revision, got.__cause__)

    def check_name(self, i: int, name: int, revision: int) -> None:
        value = self.history.references[revision][i].value
        if self.names.setdefault((i, name), value) != value:
            raise WrongError(
                f"query {i} calls {self.names[i, name]} and {value} the outcome of {name}"
            )

    def check_cells(self) -> None:
        if wrong := contradictions(self.db.runtime):
            raise WrongError("; ".join(wrong))
        for i, plain in enumerate(self.plain):
            state = self.derived[plain].cell_state(i)
            if not isinstance(state, Ready):
                continue
            wanted = self.history.references[state.verified_at][i]
            if wanted.error is not None or state.value.n != wanted.value:
                raise WrongError(f"the cell of {i} shows {state}, not {wanted}")
            self.check_name(i, state.changed_at, state.verified_at)
            reads = [(dep.kind, dep.key) for dep in state.deps if dep.kind != WORDS]
            named = list(dict.fromkeys(self.dep(read) for read in wanted.reads))
            both = not self.ordered and "both" in heads(self.program.queries[i].ops)
            if set(reads) != set(named) if both else reads != named:
                raise WrongError(f"the cell of {i} shows the dependencies {reads}, not {named}")

    def dep(self, read: Read) -> tuple[int, Any]:
        if read[0] == "ask":
            return (PLAIN if self.plain[read[1]] else ASYNC), Key.encode(read[1])
        return INPUT, Key.from_bytes(b"") if read[0] == "keys" else Key.encode(read[1])

    def expect_exactly(self, action: Action) -> None:
        """After an action that nothing overlaps: exactly what has to run has run."""
        if action[0] in {"read", "touch"}:
            self.memos.access(action[1])
        # Two sides of a `gather` run side by side: the order is theirs.
        if Counter(self.ran) != Counter(self.memos.ran):
            raise WrongError(f"{action} ran {sorted(self.ran)}, not {sorted(self.memos.ran)}")
        if self.events is not None:
            self.expect_events(action)
        self.ran.clear()
        self.memos.ran.clear()
        self.memos.changed.clear()
        self.check_cells()

    def expect_events(self, action: Action) -> None:
        assert self.events is not None
        seen = list(iter(self.events.try_recv, None))
        expected: Counter[Any] = Counter()
        present = self.history.present
        if action[0] in {"set", "remove", "bump"} and seen:
            expected[RevisionBumped] += 1
            if seen[0] != RevisionBumped(present):
                raise WrongError(f"{action} begins with the event {seen[0]}")
            if action[0] != "bump":
                wanted = InputSet if action[0] == "set" else InputRemoved
                expected[wanted] += 1
                if type(seen[1]) is not wanted:
                    raise WrongError(f"{action} goes on with the event {seen[1]}")
                changed = [
                    fact
                    for fact in [("value", action[1]), ("has", action[1]), ("keys",)]
                    if self.history.last_change(fact) == present
                ]
                for i in self.memos.dependents(changed):
                    expected[QueryInvalidated, i] += 1
        for i in self.memos.changed:
            expected[QueryChanged, i] += 1
        got = Counter(
            (type(event), event.key.decode())
            if isinstance(event, QueryChanged | QueryInvalidated)
            else type(event)
            for event in seen
        )
        if action[0] != "jump" and got != expected:
            raise WrongError(f"{action} emitted {got}, not {expected}")

    async def finish(self) -> None:
        """Let all readers end; then everything is right at once, and nothing old is kept."""
        await settle()
        while self.gates.waiting:
            self.gates.release(0)
            await settle()
        self.raise_problem()
        for reader in self.readers:
            if not reader.task.done():
                raise WrongError(
                    f"the reader of {reader.query} at {reader.revision} waits for ever"
                )
            if reader.task.cancelled():
                if not reader.cancelled:
                    raise WrongError(f"the reader of {reader.query} was cancelled by nobody")
            elif reader.task.exception() is not None:
                raise WrongError(str(reader.task.exception())) from reader.task.exception()
        self.readers.clear()
        self.check_cells()
        everything = range(len(self.plain))
        for snapshot, revision in self.snapshots:
            for i in everything:
                self.start_reader("read", i, snapshot, revision)
            await self.finish_readers()
            snapshot.close()
        self.snapshots.clear()
        for _ in range(2):
            self.ran.clear()
            for i in everything:
                self.start_reader("read", i)
            await self.finish_readers()
        self.check_quiet()
        self.outcomes.clear()
        shared_cache.clear()
        most = self.most_memos() + len(self.history.state)
        if len(self.values) > most:
            gc.collect()  # what a query raised on a snapshot is part of a cycle with it
        kept = len(self.values)
        if kept > most:
            raise WrongError(f"{kept} values are kept, of at most {most} that are present")

    def check_quiet(self) -> None:
        """Everything was read a second time."""
        if self.ran:
            raise WrongError(f"{self.ran} ran although nothing had happened")

    def most_memos(self) -> int:
        """How many memos can be there when nothing is under way."""
        return len(self.plain)

    async def finish_readers(self) -> None:
        """Let the last readers end, which nobody disturbs."""
        await settle()
        while self.gates.waiting:
            self.gates.release(-1)
            await settle()
        self.raise_problem()
        for reader in self.readers:
            if not reader.task.done():
                raise WrongError(f"the last reader of {reader.query} waits for ever")
            reader.task.result()
        self.readers.clear()


def missing_error(error: InputNotFoundError) -> MissingError:
    return MissingError(error.key.decode() if error.key is not None else None)


# -- making programs


@dataclass(frozen=True)
class Taste:
    """Which programs to make."""

    queries: int = 6
    inputs: int = 4
    actions: int = 24
    pauses: float = 0.35  # per query that awaits
    failures: float = 0.12
    abandon: float = 0.03
    writes: float = 0.35
    bumps: int = 2  # of 12 writes, or more, so many only begin a revision
    overlap: bool = True
    transient: bool = False
    snapshots: float = 0.0  # of the actions that are no writes


def make_program(rng: random.Random, taste: Taste) -> Program:
    queries = tuple(make_query(rng, taste, i) for i in range(rng.randint(2, taste.queries)))
    actions: list[Action] = [
        ("set", k, rng.randrange(3)) for k in range(taste.inputs) if rng.random() < 0.7
    ]
    for _ in range(rng.randint(4, taste.actions)):
        actions.append(make_action(rng, taste, len(queries)))
        if taste.overlap and rng.random() < 0.6:
            actions.append(("settle",) if rng.random() < 0.6 else ("step", rng.randint(1, 4)))
    return Program(queries, tuple(actions), lookup=rng.random() < 0.6, listening=rng.random() < 0.3)


def make_query(rng: random.Random, taste: Taste, i: int) -> Query:
    ops = [make_op(rng, taste, i) for _ in range(rng.randint(1, 4))]
    if i and rng.random() < 0.7 and not any(head in AWAITING for head in heads(tuple(ops))):
        ops.insert(rng.randrange(len(ops) + 1), ("ask", rng.randrange(i)))
    if taste.overlap and rng.random() < taste.pauses:
        ops.insert(rng.randrange(len(ops) + 1), ("pause",))
    if rng.random() < taste.failures and not taste.transient:
        ops.append(("fail", 3, rng.randrange(3)))
    return Query(tuple(ops), rng.choice([2, 2, 3, 7]))


def make_op(rng: random.Random, taste: Taste, i: int, depth: int = 0) -> Op:
    key = rng.randrange(taste.inputs)
    kinds = ["value"] * 5 + ["pick_value", "has", "has", "keys", "mod", "intern"]
    if not taste.transient:
        kinds += ["require"] * (rng.random() < taste.failures)
    if depth < 2:
        kinds += ["if", "if", "swap"]
    if i:
        kinds += ["ask"] * 6 + ["pick", "pick", "both"]
        if not taste.transient:
            kinds.append("try")
        if taste.overlap and rng.random() < taste.abandon * 5:
            kinds.append("abandon")
    head = rng.choice(kinds)
    below = max(i, 1)
    if head == "pick_value":
        return (head, *rng.sample(range(taste.inputs), 2))
    if head == "keys":
        return (head,)
    if head in {"mod", "intern"}:
        return (head, rng.randint(2, 3))
    if head == "if":
        return (
            head,
            rng.randint(2, 3),
            tuple(make_op(rng, taste, i, depth + 1) for _ in range(rng.randint(0, 2))),
            tuple(make_op(rng, taste, i, depth + 1) for _ in range(rng.randint(0, 2))),
        )
    if head == "swap":
        return (head, make_op(rng, taste, i, depth + 1), make_op(rng, taste, i, depth + 1))
    if head in {"pick", "both"}:
        return (head, rng.randrange(below), rng.randrange(below))
    if head in {"ask", "try", "abandon"}:
        return (head, rng.randrange(below))
    return (head, key)


def make_action(rng: random.Random, taste: Taste, n_queries: int) -> Action:
    key = rng.randrange(taste.inputs)
    if rng.random() < taste.writes:
        head = rng.choice(["set"] * 8 + ["remove"] * 3 + ["bump"] * taste.bumps + ["jump"])
        if head == "set":
            return (head, key, rng.randrange(3))
        return {"remove": ("remove", key), "bump": ("bump",), "jump": ("jump", rng.randint(0, 3))}[
            head
        ]
    if taste.snapshots and rng.random() < taste.snapshots:
        return make_snapshot_action(rng, n_queries)
    # The last queries see the most.
    i = n_queries - 1 - min(rng.randrange(n_queries), rng.randrange(n_queries))
    kinds = ["read"] * 8 + ["touch", "peek"]
    if taste.transient:
        kinds += ["toggle"] * 3
    if taste.overlap:
        kinds += ["release"] * 6 + ["cancel"] * 2
    head = rng.choice(kinds)
    if head in {"release", "cancel"}:
        return (head, rng.randrange(8))
    if head == "toggle":
        return (head, rng.randrange(n_queries))
    return (head, i)


def make_snapshot_action(rng: random.Random, n_queries: int) -> Action:
    head = rng.choice(
        ["snapshot"] * 3
        + ["read_at"] * 8
        + ["touch_at", "peek_at", "snapshot_at", "close_at", "close_at", "drop_at"]
    )
    if head == "snapshot":
        return (head,)
    i = n_queries - 1 - min(rng.randrange(n_queries), rng.randrange(n_queries))
    which = rng.randrange(8)
    return (head, which, i) if head in {"read_at", "touch_at", "peek_at"} else (head, which)


# -- running and shrinking them


@dataclass(frozen=True)
class Setting:
    """How to run programs."""

    runner: Callable[[Program, bool], Runner] = Runner
    exact: bool = False
    eager: bool = False  # tasks start at once, on the stack of who makes them

    def failure_of(self, program: Program) -> str | None:
        """What is wrong with the program, or None."""
        try:
            with self.loop() as loop:
                loop.run(self.runner(program, self.exact).run())
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    def first_failure(self, programs: list[Program]) -> Program | None:
        """Run all of them in one loop, which is quicker; the first that fails."""
        with self.loop() as loop:
            for program in programs:
                try:
                    loop.run(self.runner(program, self.exact).run())
                except Exception:
                    return program
        return None

    def loop(self) -> asyncio.Runner:
        runner = asyncio.Runner()
        if self.eager:
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        return runner


def check(seeds: range, taste: Taste, setting: Setting) -> None:
    """Run a program for each seed; of the first that fails, show a small one that fails as well."""
    made = {seed: make_program(random.Random(seed), taste) for seed in seeds}
    failed = setting.first_failure(list(made.values()))
    if failed is None:
        return
    seed = next(seed for seed, program in made.items() if program is failed)
    why = setting.failure_of(failed)
    if why is None:
        raise WrongError(f"seed {seed} of {taste} failed among others, but not alone:\n{failed}")
    small = shrink(failed, lambda program: setting.failure_of(program) is not None)
    raise WrongError(
        f"seed {seed} of {taste}, {setting}: {why}\nshrunk: {setting.failure_of(small)}\n{small}"
    )


def shrink(program: Program, fails: Callable[[Program], bool], attempts: int = 3000) -> Program:
    """Take away what is not needed for the failure."""
    tried = 0
    shrunk = True
    while shrunk and tried < attempts:
        shrunk = False
        for smaller in simpler(program):
            tried += 1
            if fails(smaller):
                program, shrunk = smaller, True
                break
            if tried >= attempts:
                break
    return program


def simpler(program: Program) -> Iterator[Program]:
    actions, queries = program.actions, program.queries
    for size in (8, 4, 2, 1):
        for i in range(0, len(actions) - size + 1, max(1, size // 2)):
            yield replace(program, actions=actions[:i] + actions[i + size :])
    used = {action[1] for action in actions if action[0] in {"read", "touch", "peek", "toggle"}}
    used |= {action[2] for action in actions if action[0] in {"read_at", "touch_at", "peek_at"}}
    if len(queries) > 1 and len(queries) - 1 not in used:
        yield replace(program, queries=queries[:-1])
    for i, query in enumerate(queries):
        for ops in simpler_ops(query.ops):
            yield replace(
                program, queries=(*queries[:i], replace(query, ops=ops), *queries[i + 1 :])
            )
    for i, action in enumerate(actions):
        if len(action) > 1 and action[-1]:
            yield replace(program, actions=(*actions[:i], (*action[:-1], 0), *actions[i + 1 :]))
    for flag in ("lookup", "listening"):
        if getattr(program, flag):
            yield replace(program, **{flag: False})


def simpler_ops(ops: tuple[Op, ...]) -> Iterator[tuple[Op, ...]]:
    for i, op in enumerate(ops):
        yield ops[:i] + ops[i + 1 :]
        if op[0] == "if":
            yield ops[:i] + op[2] + ops[i + 1 :]
            yield ops[:i] + op[3] + ops[i + 1 :]
        elif op[0] == "swap":
            yield ops[:i] + op[1:] + ops[i + 1 :]
        elif op[0] == "both":
            yield (*ops[:i], ("ask", op[1]), ("ask", op[2]), *ops[i + 1 :])
        elif op[0] in {"pick", "pick_value"}:
            yield (*ops[:i], ("ask" if op[0] == "pick" else "value", op[1]), *ops[i + 1 :])
