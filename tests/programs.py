"""Small random programs over a database and its snapshots, checked against an evaluation from scratch.

A query is a list of steps, and so is what happens to the database. The steps of a query are a generator that asks for
what it reads: the engine's queries answer it through the database, the reference answers it from the state at the
revision in question. So both run the same code, and every value that comes out of the engine, at whatever revision,
is compared with what computing everything gives there.

Besides the values it checks what sharing promises: what was valid when a snapshot was taken is a hit in it, nothing is
computed twice for one revision, a failure is one object for all, and no value outlives who can ask for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import weakref
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from picante import (
    DerivedIngredient,
    InputIngredient,
    Key,
    QueryPoisonedError,
    Runtime,
    Snapshot,
)
from picante._core.batch import Batch
from picante.inflight import InFlightKey, InFlightState, Leader, registry, shared_cache
from tests.oracle import Gates, Value, settle

KEYS = ("a", "b", "c")
Op = tuple[Any, ...]
State = dict[str, int]


class FailedError(Exception):
    """What queries fail with."""


def steps(ops: tuple[Op, ...], number: int = 0) -> Generator[Op, Any, int]:
    """The steps of one query; what it asks for is yielded and the answer sent in. Returns its value."""
    for op in ops:
        match op:
            case ("cut", limit):
                number %= limit
            case ("if", inner):
                if number % 2:
                    number = yield from steps(inner, number)
            case ("fail",):
                if number % 4 == 3:
                    raise FailedError(number)
            case ("try", i):
                try:
                    number = 5 * number + (yield ("query", i))
                except FailedError:
                    number += 11
            case _:
                number = (3 * number + (yield op)) % 1009
    return number


def make_ops(rng: random.Random, i: int, gated: bool, depth: int = 0) -> tuple[Op, ...]:
    ops: list[Op] = []
    for _ in range(rng.randint(1, 3)):
        kinds = ["get", "get", "has", "keys", "cut", "fail"] + ["query", "query", "pair", "try"] * (
            i > 0
        )
        kinds += ["gate"] * gated + ["if"] * (depth < 2)
        match rng.choice(kinds):
            case "get":
                ops.append(("get", rng.choice(KEYS)))
            case "has":
                ops.append(("has", rng.choice(KEYS)))
            case "cut":
                ops.append(("cut", rng.randint(1, 3)))
            case "pair":
                ops.append(("pair", rng.randrange(i), rng.randrange(i)))
            case "query" | "try" as kind:
                ops.append((kind, rng.randrange(i)))
            case "if":
                ops.append(("if", make_ops(rng, i, gated, depth + 1)))
            case kind:
                ops.append((kind,))
    return tuple(ops)


class Reference:
    """All queries at one state, computed from scratch."""

    def __init__(self, queries: tuple[tuple[Op, ...], ...], state: State) -> None:
        self.queries = queries
        self.state = state
        self.known: dict[int, int | FailedError] = {}

    def __getitem__(self, i: int) -> int | FailedError:
        """What query `i` gives: a number, or its failure."""
        if i not in self.known:
            try:
                self.known[i] = self.run(i)
            except FailedError as error:
                self.known[i] = FailedError(
                    *error.args
                )  # without the traceback, which keeps frames
        return self.known[i]

    def ask(self, i: int) -> int:
        found = self[i]
        if isinstance(found, FailedError):
            raise FailedError(*found.args)
        return found

    def answer(self, op: Op) -> int:
        match op:
            case ("query", i):
                return self.ask(i)
            case ("pair", i, j):
                return self.ask(i) + 7 * self.ask(j)
            case ("gate",):
                return 0
        return fact(op, self.state.get, self.state.__contains__, lambda: list(self.state))

    def run(self, i: int) -> int:
        running = steps(self.queries[i])
        try:
            op = next(running)
            while True:
                try:
                    answer = self.answer(op)
                except FailedError as error:
                    op = running.throw(FailedError(*error.args))
                else:
                    op = running.send(answer)
        except StopIteration as stop:
            number: int = stop.value
            return number


def fact(op: Op, get: Any, contains: Any, keys: Any) -> int:
    """What an input says, however it is asked."""
    match op:
        case ("get", key):
            value = get(key)
            return 13 if value is None else value
        case ("has", key):
            return int(contains(key))
        case ("keys",):
            return sum((n + 1) * ord(key) for n, key in enumerate(keys()))
    raise AssertionError(op)


class Base:
    """A database made by hand."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.kinds: dict[int, Any] = {}

    def ingredient(self, kind: int) -> Any:
        return self.kinds.get(kind)


# The revision that an evaluation belongs to: computations run in a copy of the context of who asked.
REVISION: contextvars.ContextVar[int] = contextvars.ContextVar("revision")
READER: contextvars.ContextVar[int] = contextvars.ContextVar("reader")  # and who asked


@dataclass
class Taken:
    """A snapshot, or the database itself."""

    db: Any
    name: str
    revision: int | None  # None: whatever is present
    valid: frozenset[int] = frozenset()  # the queries that were valid when it was taken


@dataclass(frozen=True)
class Flavour:
    """What programs are made of."""

    gated: bool = False  # queries wait, readers are tasks, and some of them are cancelled
    kept: bool = False
    n_queries: int = 5
    n_actions: int = 40
    max_entries: tuple[int, ...] = (0, 1, 2, 3, 20_000)
    max_memos: tuple[int | None, ...] = (None,)  # one of them, and now and then another one


@dataclass
class Reader:
    task: asyncio.Task[Any]
    queries: list[int]
    revision: int
    must_hit: bool


@dataclass
class Machine:
    """Runs one program and checks it as it goes."""

    seed: int
    flavour: Flavour
    done: list[str] = field(default_factory=list)  # what has happened, for the message

    def __post_init__(self) -> None:
        rng = self.rng = random.Random(self.seed)
        flavour = self.flavour
        self.ops = tuple(make_ops(rng, i, flavour.gated) for i in range(flavour.n_queries))
        self.db = Base()
        self.gates = Gates()
        self.db.runtime.limits.max_memos = rng.choice(flavour.max_memos)
        self.input = InputIngredient(1, "input")
        self.keeps = [flavour.kept and rng.random() < 0.5 for _ in self.ops]
        self.queries = [
            DerivedIngredient(
                10 + i, f"q{i}", self.compute(i), keep=keep, max_memos=rng.choice(flavour.max_memos)
            )
            for i, keep in enumerate(self.keeps)
        ]
        for each in (self.input, *self.queries):
            self.db.kinds[each.kind] = each
        self.references: dict[int, Reference] = {0: Reference(self.ops, {})}
        self.taken = [Taken(self.db, "db", None)]
        self.runs: Counter[tuple[int, int]] = Counter()
        self.ran_for: Counter[int] = Counter()
        self.cancelled: Counter[tuple[int, int]] = Counter()
        self.errors: dict[tuple[int, int], Exception] = {}
        self.values: list[weakref.ref[Value]] = []
        self.readers: list[Reader] = []
        self.limited = any(each is not None for each in flavour.max_memos)

    # -- the engine's side

    def compute(self, i: int) -> Any:
        async def compute(db: Any, key: None) -> Value:
            at = (REVISION.get(), i)
            self.runs[at] += 1
            self.ran_for[READER.get()] += 1
            running = steps(self.ops[i])
            try:
                op = next(running)
                while True:
                    try:
                        answer = await self.answer(db, op)
                    except FailedError as error:
                        op = running.throw(error)
                    else:
                        op = running.send(answer)
            except StopIteration as stop:
                value = Value(stop.value)
                self.values.append(weakref.ref(value))
                return value
            except asyncio.CancelledError:
                self.cancelled[at] += 1
                raise

        return compute

    async def answer(self, db: Any, op: Op) -> int:
        match op:
            case ("query", i):
                found: int = (await self.queries[i].get(db, None)).n
                return found
            case ("pair", i, j):
                if self.flavour.gated:
                    try:
                        async with asyncio.TaskGroup() as group:
                            one = group.create_task(self.fetch(db, i))
                            two = group.create_task(self.fetch(db, j))
                    except ExceptionGroup as errors:
                        raise errors.exceptions[0] from None
                    return one.result() + 7 * two.result()
                first = (await self.queries[i].get(db, None)).n
                return first + 7 * (await self.queries[j].get(db, None)).n
            case ("gate",):
                await self.gates.wait()
                return 0
        return fact(
            op,
            lambda key: self.input.get(db, key),
            lambda key: self.input.contains(db, key),
            lambda: self.input.keys(db),
        )

    async def fetch(self, db: Any, i: int) -> int:
        found: int = (await self.queries[i].get(db, None)).n
        return found

    # -- running

    async def run(self) -> None:
        bound = shared_cache.max_entries
        try:
            for _ in range(self.flavour.n_actions):
                await self.act()
                self.check_peeks()
            await self.finish()
        except Exception as error:
            queries = "\n".join(f"  q{i} {ops}" for i, ops in enumerate(self.ops))
            error.add_note(f"seed {self.seed}\n{queries}\n  " + "\n  ".join(self.done))
            raise
        finally:
            shared_cache.max_entries = bound
            for reader in self.readers:
                reader.task.cancel()

    @property
    def present(self) -> int:
        return int(self.db.runtime.current_revision)

    @property
    def state(self) -> State:
        return self.references[self.present].state

    def note(self, *what: Any) -> None:
        self.done.append(" ".join(map(str, what)))

    def moved(self, state: State) -> None:
        """The database is at another revision, or still at the same."""
        if self.present not in self.references:
            self.references[self.present] = Reference(self.ops, state)

    async def act(self) -> None:
        rng = self.rng
        choices = {
            "set": 8,
            "remove": 2,
            "batch": 2,
            "bump": 1,
            "snapshot": 4,
            "end": 3,
            "read": 14,
            "invalidate": 1,
            "clear graph": 1,
            "clear cache": 0.5,
            "max entries": 1,
            "lead": 2,
        }
        if self.limited:
            choices["max memos"] = 2
        if self.flavour.gated:
            choices |= {"release": 16, "cancel": 2}
        [what] = rng.choices(list(choices), list(choices.values()))
        target = rng.choice(self.taken)
        i = rng.randrange(len(self.queries))
        key = rng.choice(KEYS)
        match what:
            case "set":
                self.change([(key, rng.randrange(3))], batch=False)
            case "remove":
                self.change([(key, None)], batch=False)
            case "batch":
                self.change(
                    [(rng.choice(KEYS), rng.choice([None, 0, 1, 2])) for _ in range(3)], batch=True
                )
            case "bump":
                self.bump()
            case "snapshot":
                await self.take(target)
            case "end" if target.revision is not None:
                await self.end(target, rng.choice(["close", "drop"]))
            case "read":
                how = rng.choice(["get", "get", "touch", "map", "facts"])
                await self.read(target, i, how)
            case "invalidate":
                self.note("invalidate", i)
                state = self.state
                self.queries[i].invalidate(self.db, None)
                self.moved(state)
            case "clear graph":
                self.note("clear graph")
                self.db.runtime.clear_dependency_graph()
            case "clear cache":
                self.note("clear cache")
                shared_cache.clear()
            case "max entries":
                shared_cache.max_entries = rng.choice(self.flavour.max_entries)
                self.note("max entries", shared_cache.max_entries)
            case "max memos":
                limit = rng.choice(self.flavour.max_memos)
                self.note("max memos", limit)
                self.db.runtime.limits.max_memos = limit
            case "lead":
                await self.lead(target, i)
            case "release":
                self.note("release")
                self.gates.release(rng.randrange(8))
                for _ in range(rng.choice([0, 1, 30])):
                    await asyncio.sleep(0)
                self.look_at_readers()
            case "cancel" if self.readers:
                reader = rng.choice(self.readers)
                self.note("cancel a reader of", reader.queries, "at", reader.revision)
                reader.task.cancel()

    def change(self, changes: list[tuple[str, int | None]], *, batch: bool) -> None:
        self.note("change", changes)
        state = dict(self.state)
        for key, value in changes:
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        with Batch(self.db.runtime) if batch else contextlib.nullcontext():
            for key, value in changes:
                if value is None:
                    self.input.remove(self.db, key)
                else:
                    self.input.set(self.db, key, value)
        self.moved(state)
        if batch:  # where a key is put in and taken out again, the order is the engine's to say
            order = self.input.keys(self.db)
            assert sorted(order) == sorted(state)
            state = {key: state[key] for key in order}
            self.references[self.present] = Reference(self.ops, state)
        assert self.input.keys(self.db) == list(self.state)

    def bump(self) -> None:
        self.note("bump")
        state = self.state
        self.db.runtime.bump_revision()
        self.moved(state)

    async def take(self, target: Taken) -> None:
        if len(self.taken) > 5:
            return
        snap = await Snapshot.from_database(target.db)
        valid = frozenset(i for i in range(len(self.queries)) if self.peek(target, i) is not None)
        name = f"snapshot {len(self.done)}"
        self.taken.append(Taken(snap, name, int(snap.runtime.current_revision), valid))
        self.note(name, "of", target.name, "at", snap.runtime.current_revision, "valid", set(valid))

    async def end(self, target: Taken, how: str) -> None:
        self.note(how, target.name)
        self.taken.remove(target)
        if how == "close":
            target.db.close()
        target.db = None

    def n_values(self) -> int:
        return sum(ref() is not None for ref in self.values)

    def revision_of(self, target: Taken) -> int:
        return self.present if target.revision is None else target.revision

    def peek(self, target: Taken, i: int) -> Any:
        try:
            return self.queries[i].peek(target.db, None)
        except QueryPoisonedError as error:
            return error.__cause__

    def check_peeks(self) -> None:
        """Whatever is known anywhere is right, and what was valid once stays so in its snapshot."""
        for target in self.taken:
            for i in range(len(self.queries)):
                found = self.peek(target, i)
                if found is not None:
                    self.check(i, self.revision_of(target), found)
                assert found is not None or i not in target.valid, (
                    f"q{i} is no hit any more in {target.name}"
                )

    def check(self, i: int, revision: int, found: Any) -> None:
        expected = self.references[revision][i]
        if isinstance(expected, FailedError):
            assert isinstance(found, FailedError), f"q{i} at {revision} is {found}, not a failure"
            assert found.args == expected.args, f"q{i} at {revision} fails with {found!r}"
            known = self.errors.setdefault((revision, i), found)
            assert known is found, f"q{i} at {revision} fails with two objects"
        else:
            assert isinstance(found, Value), f"q{i} at {revision} is {found!r}, not {expected}"
            assert found.n == expected, f"q{i} at {revision} is {found.n}, not {expected}"

    async def read(self, target: Taken, i: int, how: str) -> None:
        revision = self.revision_of(target)
        queries = [i]
        if how == "map":
            queries = [i, self.rng.randrange(len(self.queries))]
        self.note(how, queries, "of", target.name, "at", revision)
        if how == "facts":
            state = self.references[revision].state
            assert self.input.keys(target.db) == list(state)
            for key in KEYS:
                assert self.input.get(target.db, key) == state.get(key)
                assert self.input.contains(target.db, key) == (key in state)
            return
        must_hit = target.revision is not None and set(queries) <= target.valid
        number = len(self.done)
        task = asyncio.ensure_future(self.evaluate(target.db, queries, how, revision, number))
        await asyncio.sleep(0)
        self.readers.append(Reader(task, queries, revision, must_hit))
        if must_hit or not self.flavour.gated:
            await settle()
            assert task.done(), "a reader hangs"
            assert not must_hit or not self.ran_for[number], "what was valid was computed again"
        self.look_at_readers()

    async def evaluate(
        self, db: Any, queries: list[int], how: str, revision: int, number: int = -1
    ) -> list[Any]:
        REVISION.set(revision)
        READER.set(number)
        found: list[Any] = []
        for i in queries:
            try:
                if how == "touch":
                    await self.queries[i].touch(db, None)
                    found.append(None)
                elif how == "map":
                    found += await self.queries[i].map(db, [None])
                else:
                    found.append(await self.queries[i].get(db, None))
            except FailedError as error:
                # The cell keeps its failure; without this that would keep this frame, and so the snapshot.
                found.append(error.with_traceback(None))
            except QueryPoisonedError as error:
                found.append(error.__cause__)
            if how == "map":
                break  # a later read would be of a later revision
        return found

    def look_at_readers(self) -> None:
        for reader in self.readers[:]:
            if not reader.task.done():
                continue
            self.readers.remove(reader)
            if reader.task.cancelled():
                continue
            for i, found in zip(reader.queries, reader.task.result(), strict=False):
                if found is not None:
                    self.check(i, reader.revision, found)

    async def lead(self, target: Taken, i: int) -> None:
        """Lead from outside of the engine, with the right result or none."""
        revision = self.revision_of(target)
        kind = self.queries[i].kind
        led = registry.try_lead(InFlightKey(self.db.runtime.id, revision, kind, Key.encode(None)))
        if not isinstance(led, Leader):
            self.note("follow", i, "at", revision)
            assert self.flavour.gated
            assert led.entry.state is InFlightState.RUNNING
            return
        expected = self.references[revision][i]
        how = self.rng.choice(["complete", "cancel", "drop"])
        if isinstance(expected, FailedError) and how == "complete":
            how = "cancel"  # its failure is an object of the engine's own
        self.note("lead", i, "at", revision, how)
        if how == "complete":
            value = Value(expected)
            self.values.append(weakref.ref(value))
            led.guard.complete(value, [], revision)
        elif how == "cancel":
            led.guard.cancel()

    async def finish(self) -> None:
        """All readers come to an end, and nothing is kept for nobody."""
        for _ in range(10_000):
            if not self.readers and not self.gates.waiting:
                break
            self.gates.release(0)
            await settle()
            self.look_at_readers()
        assert not self.readers, "a reader hangs"
        if not any(self.keeps) and not self.limited:
            for at, n in self.runs.items():
                assert n <= 1 + self.cancelled[at], f"q{at[1]} ran {n} times at {at[0]}"
        for target in self.taken[1:]:
            await self.end(target, "drop")
        self.errors.clear()
        self.bump()  # what the database was given of what snapshots raised lasts up to here
        shared_cache.clear()
        held = self.n_values()
        if held > len(self.queries):
            gc.collect()  # takes longer than all the rest
            held = self.n_values()
        assert held <= len(self.queries), f"{held} values are kept"
        for i, query in enumerate(self.queries):
            found = asyncio.ensure_future(self.evaluate(self.db, [i], "get", self.present))
            while not found.done():
                self.gates.release(0)
                await settle()
            self.check(i, self.present, found.result()[0])
            del query


def run_programs(seeds: range, flavour: Flavour) -> None:
    """Run one program for each seed, all in one event loop."""

    async def main() -> None:
        for seed in seeds:
            await Machine(seed, flavour).run()

    asyncio.run(main())
