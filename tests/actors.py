"""Actors for `interleave` in the language of `oracle`: readers, writers and cancellers that run side by side.

A *case* is data, as a program of the oracle is: queries, whose "pause" is a point at which anything else may
happen, and actors, each a list of actions with such a point between any two. `Case.scenario` runs it on the engine, in
an order that a chooser chooses, and checks at every step and at the end what the oracle checks of its programs, and:

* An actor ends cancelled if and only if somebody has cancelled it.
* When all is done nothing is running, and no value is alive but those that the present cells and inputs show.

The actions:

    read i, touch i, peek i      one query, awaited where that is needed
    map i j ..., gather i j ...  several at once
    timeout i, wait_for i        a read that is given up when its timer goes off
    group i j ...                reads in a task group, one member of which fails
    close i n, drop i n          a read whose coroutine is closed, or forgotten, after at most n steps
    set k v, remove k, bump      changes of the inputs
    batch (k, v) ...             several as one; v None removes
    invalidate i                 what query i reads outside of the database may have changed
    cancel name                  another actor
    snapshot s                   take a snapshot and call it s
    snapshot s of                ... of another one
    read_at s i, map_at s i ...  the same as read and map, through a snapshot, if it is there
    end s, forget s              close a snapshot, or drop it
    pause                        nothing, at one more point
"""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from picante import DerivedIngredient, Running, Snapshot, Vacant
from picante._core.batch import Batch
from picante.inflight import shared_cache
from tests.interleave import InterleavingError, Stage, checkpoint, gate, sample, watched
from tests.oracle import (
    ASYNC,
    Action,
    Program,
    Query,
    Read,
    Run,
    Runner,
    Taste,
    Value,
    WrongError,
    make_query,
    missing_error,
    simpler_ops,
)


@dataclass(frozen=True)
class Case:
    """Some inputs, memos made beforehand, changes that follow, and then the actors, all at once."""

    queries: tuple[Query, ...]
    actors: dict[str, tuple[Action, ...]]
    state: dict[int, int] = field(default_factory=dict)
    warm: tuple[int, ...] = ()
    then: tuple[Action, ...] = ()
    lookup: bool = True
    gates: bool = False  # pauses of queries are gates
    by_map: bool = False  # "both" is a map, not a gather
    keep: bool = False  # computations go on without their callers
    limit: int | None = None  # how many memos the database keeps

    async def scenario(self, stage: Stage) -> None:
        program = Program(self.queries, (), lookup=self.lookup)
        ordered = stage.loop.overtaking == 0
        await Actors(program, ordered=ordered, case=self, stage=stage).go()

    def __str__(self) -> str:
        lines = ["Case(", "    queries=("]
        lines += [f"        {query!r},  # {i}" for i, query in enumerate(self.queries)]
        lines += ["    ),", "    actors={"]
        lines += [f"        {name!r}: {actions!r}," for name, actions in self.actors.items()]
        lines += ["    },"]
        for name in ("state", "warm", "then", "lookup", "gates", "by_map", "keep", "limit"):
            lines.append(f"    {name}={getattr(self, name)!r},")
        return "\n".join([*lines, ")"])


class BoomError(Exception):
    """What the failing member of a task group raises."""


class Pauses:
    """What the oracle's runner waits at."""

    def __init__(self, gates: bool) -> None:
        self.wait: Any = gate if gates else checkpoint


@dataclass
class Actors(Runner):
    case: Any = None
    stage: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gates: Any = Pauses(self.case.gates)
        if self.case.keep:
            kept = DerivedIngredient(ASYNC, "Async", self.compute_async, keep=True)
            self.derived[False] = kept
            if self.program.lookup:
                self.db.ingredients[ASYNC] = kept
        self.db.runtime.limits.max_memos = self.case.limit
        self.cancelled: set[str] = set()
        self.snapshots: dict[str, tuple[Any, int]] = {}
        self.forgotten: list[weakref.ref[Any]] = []
        self.failed_at: dict[Exception, int] = {}

    # -- the course of things

    async def go(self) -> None:
        for key, value in self.case.state.items():
            self.change(("set", key, value))
        for i in self.case.warm:
            await self.access(i)
        for action in self.case.then:
            await self.do(action)
        tasks = await self.stage.play(
            after_step=self.watch,
            **{name: self.actor(actions) for name, actions in self.case.actors.items()},
        )
        task = None
        for name, task in tasks.items():
            if task.cancelled() != (name in self.cancelled):
                if name in self.cancelled and self.may_lose_it(name):
                    continue
                raise WrongError(
                    f"{name} was cancelled by nobody"
                    if task.cancelled()
                    else f"{name} was cancelled and went on as if nothing had happened"
                )
            if not task.cancelled():
                task.result()
        del tasks, task
        self.check_nothing_runs()
        for name in list(self.snapshots):
            for i in range(len(self.plain)):
                await self.access(i, *self.snapshots[name])
            await self.do(("end" if len(self.snapshots) % 2 else "forget", name))
        await checkpoint()  # until a task's next step, the loop knows what it was woken with
        self.act(("bump",))  # what snapshots raised at the present revision lasts up to here
        self.check_forgotten()
        await self.check_kept("when all was done")
        for again in (False, True):
            self.ran.clear()
            for i in range(len(self.plain)):
                await self.access(i)
            self.raise_problem()
            if again and self.ran and self.case.limit is None:
                raise WrongError(f"{self.ran} ran although nothing had happened")
        self.check_cells()
        await self.check_kept("after everything was read again")

    def may_lose_it(self, name: str) -> bool:
        """asyncio's own task groups, and its `wait_for` on 3.11, lose a cancellation that comes while they end."""
        return any(action[0] in {"group", "wait_for"} for action in self.case.actors[name])

    async def actor(self, actions: tuple[Action, ...]) -> None:
        for n, action in enumerate(actions):
            if n:
                await checkpoint()
            await self.do(action)

    def watch(self) -> None:
        self.raise_problem()
        if len(self.plain) < 20:  # else it takes too long to do it at every step
            self.check_cells()

    # -- what actors do

    async def do(self, action: Action) -> None:
        head, args = action[0], action[1:]
        if head in {"set", "remove", "bump", "invalidate"}:
            self.change(action)
        elif head == "batch":
            await self.batch(args)
        elif head == "read":
            await self.access(args[0])
        elif head == "touch":
            await self.touch(args[0])
        elif head == "peek":
            self.peek(args[0])
        elif head == "map":
            await self.map(args)
        elif head == "gather":
            await asyncio.gather(*(self.access(i) for i in args))
        elif head == "group":
            await self.group(args)
        elif head == "timeout":
            await self.time_out(args[0])
        elif head == "wait_for":
            try:
                await asyncio.wait_for(self.access(args[0]), 1)
            except TimeoutError:
                pass
        elif head in {"close", "drop"}:
            await self.leave(head, *args)
        elif head == "cancel":
            if self.stage.tasks[args[0]].cancel():
                self.cancelled.add(args[0])
        elif head == "snapshot":
            await self.take_snapshot(*args)
        elif head == "read_at":
            if args[0] in self.snapshots:
                await self.access(args[1], *self.snapshots[args[0]])
        elif head == "map_at":
            if args[0] in self.snapshots:
                await self.map(args[1:], *self.snapshots[args[0]])
        elif head in {"end", "forget"}:
            if args[0] in self.snapshots:
                snapshot, _ = self.snapshots.pop(args[0])
                if head == "end":
                    snapshot.close()
                else:
                    self.forgotten.append(weakref.ref(snapshot))
                del snapshot
        elif head == "pause":
            await checkpoint()
        else:
            raise AssertionError(action)

    def check_justified(self, run: Run) -> None:
        if self.case.limit is None:  # what is evicted runs again
            super().check_justified(run)

    def change(self, action: Action) -> None:
        if action[0] != "invalidate":
            self.act(action)
            return
        i = action[1]
        query = self.derived[self.plain[i]]
        known = not isinstance(query.cell_state(i), Vacant)
        revision = query.invalidate(self.db, i)
        if self.case.limit is not None:  # an evicted memo looks as if there had been none
            known = known or revision > self.history.present
        if (revision > self.history.present) != known:
            raise WrongError(f"{action} ends at {revision!r}, and there was a memo: {known}")
        if known:
            self.history.advance(revision, [("outside", i)])

    async def batch(self, writes: tuple[Any, ...]) -> None:
        pending = {}
        with Batch(self.db.runtime):
            for n, (key, value) in enumerate(writes):
                if n:
                    await checkpoint()
                if value is None:
                    self.input.remove(self.db, key)
                else:
                    self.input.set(self.db, key, self.value(value))
                pending[key] = value
                found = self.input.get(self.db, key)
                if (None if found is None else found.n) != value:
                    raise WrongError(f"a batch that sets {key} to {value} sees {found}")
        changed = []
        for key, value in pending.items():
            one = self.history.remove(key) if value is None else self.history.set(key, value)
            changed += one or []
        if changed:
            self.history.advance(self.history.present + 1, list(dict.fromkeys(changed)))
        if self.db.runtime.current_revision != self.history.present:
            raise WrongError(f"a batch of {writes} ends at {self.db.runtime.current_revision!r}")

    async def answer(self, db: Any, read: Read, run: Run) -> Any:
        if read[0] == "both" and self.case.by_map and self.plain[read[1]] == self.plain[read[2]]:
            query = self.derived[self.plain[read[1]]]
            return [each.n for each in await query.map(db, read[1:])]
        if read[0] == "both":
            sides = (self.side(db, i, run) for i in read[1:])
            found = await asyncio.gather(*sides, return_exceptions=True)
            errors = [each for each in found if isinstance(each, BaseException)]
            numbers = [each.n for each in found if isinstance(each, Value)]
            found.clear()  # an error keeps this frame
            if errors:
                raise errors[0]
            return numbers
        if read[0] == "abandon":
            begun = asyncio.get_running_loop().create_future()
            task = asyncio.ensure_future(self.begin_aside(db, read[1], run, begun))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            await begun
            await checkpoint()
            task.cancel()
            await asyncio.wait([task])
            return None
        return await super().answer(db, read, run)

    async def side(self, db: Any, i: int, run: Run) -> Any:
        if run.state != "running":  # the query was left before this began, which is outside of it
            self.at.set(self.history.present)
        return await self.fetch(db, i)

    async def begin_aside(self, db: Any, i: int, run: Run, begun: Any) -> None:
        if not begun.done():
            begun.set_result(None)
        await self.aside(db, i, run)

    async def take_snapshot(self, name: str, of: str | None = None) -> None:
        db, revision = self.db, self.history.present
        if of is not None:
            if of not in self.snapshots:
                return
            db, revision = self.snapshots[of]
        snapshot = await Snapshot.from_database(db)
        if snapshot.runtime.current_revision != revision:
            raise WrongError(f"a snapshot at {revision} is {snapshot!r}")
        if name in self.snapshots:
            self.forgotten.append(weakref.ref(self.snapshots[name][0]))
        self.snapshots[name] = snapshot, revision

    def begin_access(self, db: Any = None, revision: int = -1) -> tuple[Any, int]:
        """Through which database the access goes, and at which revision it begins."""
        if db is None:
            db, revision = self.db, self.history.present
        self.at.set(revision)
        return db, revision

    async def access(self, i: int, *at: Any) -> None:
        db, revision = self.begin_access(*at)
        try:
            got = await self.fetch(db, i)
        except Exception as error:
            got = error.with_traceback(None)
        # No error that is kept, here or beneath, shall keep anything by way of this frame.
        db = at = None  # type: ignore[assignment]
        self.check_value(i, revision, got)
        got = None

    async def touch(self, i: int) -> None:
        db, revision = self.begin_access()
        try:
            got = await self.derived[self.plain[i]].touch(db, i)
        except Exception as error:
            got = error.with_traceback(None)
        self.check_touch(i, revision, got)
        got = None

    async def map(self, members: tuple[int, ...], *at: Any) -> None:
        db, revision = self.begin_access(*at)
        try:
            found = await self.derived[False].map(db, members)
        except Exception as error:
            wanted = [self.history.references[revision][i].error for i in members]
            shown: Any = missing_error(error) if isinstance(error, LookupError) else error  # type: ignore[arg-type]
            if (type(shown).__name__, *shown.args) not in wanted:
                raise
            return
        for i, got in zip(members, found, strict=True):
            self.check_value(i, revision, got)

    async def group(self, members: tuple[int, ...]) -> None:
        async def boom() -> None:
            await checkpoint()
            raise BoomError

        try:
            async with asyncio.TaskGroup() as group:
                for i in members:
                    group.create_task(self.access(i))
                group.create_task(boom())
        except* BoomError:
            pass

    async def time_out(self, i: int) -> None:
        try:
            async with asyncio.timeout(1) as scope:
                await self.access(i)
                if scope.expired():
                    raise WrongError("an access that ran out of time went on as if nothing had")
        except TimeoutError:
            pass

    async def leave(self, how: str, i: int, n: int) -> None:
        """Drive the coroutine of an access by hand, and leave it in the middle."""
        db, _ = self.begin_access()
        coroutine = self.fetch(db, i)
        waits = False
        try:
            for _ in range(n):
                try:
                    waits = waits or coroutine.send(None) is not None  # for somebody else
                except Exception:  # StopIteration, too: it has ended
                    return
                await checkpoint()
        finally:
            if how == "close":
                coroutine.close()
            del coroutine

    # -- what must be true

    def check_value(self, i: int, revision: int, got: Any) -> None:
        super().check_value(i, revision, got)
        if isinstance(got, Exception) and self.failed_at.setdefault(got, revision) != revision:
            raise WrongError(f"{got!r} of {self.failed_at[got]} is that of {revision}, too")

    def check_nothing_runs(self) -> None:
        for i, plain in enumerate(self.plain):
            state = self.derived[plain].cell_state(i)
            if isinstance(state, Running):
                raise WrongError(f"the cell of {i} is left behind as {state}")

    def check_forgotten(self) -> None:
        """Nobody keeps a snapshot that was forgotten: what a query raised on it is part of a cycle with it."""
        self.outcomes.clear()  # among them what was raised, whose traceback has the snapshot
        self.failed_at.clear()
        if any(each() is not None for each in self.forgotten):
            gc.collect()
        kept = [each() for each in self.forgotten if each() is not None]
        if kept:
            raise WrongError(f"{kept} were forgotten, and are kept by somebody")

    async def check_kept(self, when: str) -> None:
        """No value is alive but those that are to be seen."""
        await checkpoint()
        self.outcomes.clear()
        self.failed_at.clear()
        shared_cache.clear()
        cells = [self.derived[plain].cell_state(i) for i, plain in enumerate(self.plain)]
        shown = [getattr(cell, "value", None) for cell in cells]
        shown += [self.input.get(self.db, key) for key in self.history.state]
        ids = {id(each) for each in shown}
        if any(id(value) not in ids for value in self.values):
            gc.collect()  # a query that catches an error may be part of a cycle with it
        kept = [value for value in self.values if id(value) not in ids]
        if kept:
            raise WrongError(f"{when}, {kept} were kept beside {shown}")


# -- cases at random


TASTE = Taste(queries=5, inputs=3, pauses=0.6)
NAMES = ("a", "b", "c", "d")


def make_case(rng: random.Random, *, length: int = 4) -> Case:
    """Some queries, and two to four actors with up to `length` actions each."""
    queries = tuple(make_query(rng, TASTE, i) for i in range(rng.randint(2, TASTE.queries)))
    names = NAMES[: rng.randint(2, len(NAMES))]
    return Case(
        queries,
        {
            name: tuple(make_action(rng, queries, names) for _ in range(rng.randint(1, length)))
            for name in names
        },
        {key: rng.randrange(3) for key in range(TASTE.inputs) if rng.random() < 0.8},
        tuple(i for i in range(len(queries)) if rng.random() < 0.4),
        tuple(make_write(rng, queries) for _ in range(rng.randrange(3))),
        lookup=rng.random() < 0.6,
        gates=rng.random() < 0.5,
        by_map=False,
        keep=rng.random() < 0.1,
    )


def make_write(rng: random.Random, queries: tuple[Query, ...]) -> Action:
    key = rng.randrange(TASTE.inputs)
    head = rng.choice(["set"] * 6 + ["remove", "bump", "invalidate", "batch", "batch"])
    if head == "set":
        return head, key, rng.randrange(3)
    if head == "batch":
        others = [(rng.randrange(TASTE.inputs), rng.choice([None, 0, 1, 2])) for _ in range(2)]
        return head, *others
    if head == "invalidate":
        return head, rng.randrange(len(queries))
    return (head, key) if head == "remove" else (head,)


def make_action(rng: random.Random, queries: tuple[Query, ...], names: tuple[str, ...]) -> Action:
    draw = rng.random()
    if draw < 0.3:
        return make_write(rng, queries)
    if draw < 0.38:
        return "cancel", rng.choice(names)
    # The last queries see the most.
    i = max(rng.randrange(len(queries)), rng.randrange(len(queries)))
    name = rng.choice("st")
    several = [j for j, query in enumerate(queries) if not query.plain]
    if draw < 0.48:
        head = rng.choice(["snapshot", "snapshot", "end", "forget"])
        if head == "snapshot" and rng.random() < 0.2:
            return head, rng.choice("st"), name
        return head, name
    if draw < 0.6:
        return "read_at", name, i
    head = rng.choice(
        ["read"] * 8 + ["touch", "peek", "map", "gather", "timeout", "group", "close", "drop"]
    )
    if head in {"close", "drop"}:
        return head, i, rng.randint(1, 3)
    if head == "map":
        members = tuple(rng.choice(several) for _ in range(3)) if several else ()
        return (head, *members) if rng.random() < 0.7 else ("map_at", name, *members)
    if head in {"gather", "group"}:
        return head, i, rng.randrange(len(queries))
    return head, i


def check_cases(seeds: range, orders: int, *, limited: bool = False, **taste: int) -> None:
    """Run a case for each seed, each in some orders; of the first that fails, show a small one that fails as well."""
    with watched():
        for seed in seeds:
            case = make_case(random.Random(seed), **taste)
            if limited:
                case = replace(case, limit=1 + seed % 3, by_map=seed % 2 == 0)
            overtaking = (0, 0, 2, None)[seed % 4]
            why = failure_of(case, seed, orders, overtaking)
            if why is not None:
                case, why = shrink_case(case, why, seed, 5 * orders, overtaking)
                raise WrongError(
                    f"seed {seed}, overtaking={overtaking}, made smaller:\n{case}\n{why}"
                )


def failure_of(case: Case, seed: int, orders: int, overtaking: int | None) -> str | None:
    try:
        sample(case.scenario, seed, orders, overtaking=overtaking)
    except InterleavingError as error:
        return str(error)
    return None


def shrink_case(
    case: Case, why: str, seed: int, orders: int, overtaking: int | None
) -> tuple[Case, str]:
    """Take away what is not needed for a failure."""
    again = True
    while again:
        again = False
        for smaller in simpler_cases(case):
            shown = failure_of(smaller, seed, orders, overtaking)
            if shown is not None:
                case, why, again = smaller, shown, True
                break
    return case, why


def simpler_cases(case: Case) -> Iterator[Case]:
    for name, actions in case.actors.items():
        others = {key: value for key, value in case.actors.items() if key != name}
        if not any(("cancel", name) in each for each in others.values()):
            yield replace(case, actors=others)
        for i in range(len(actions)):
            yield replace(case, actors={**case.actors, name: actions[:i] + actions[i + 1 :]})
    for which in ("warm", "then"):
        had = getattr(case, which)
        for i in range(len(had)):
            yield replace(case, **{which: had[:i] + had[i + 1 :]})
    for i, query in enumerate(case.queries):
        for ops in simpler_ops(query.ops):
            smaller = replace(query, ops=ops)
            # What was computed by an `async def` stays so: the actions may rely on it.
            if smaller.plain == query.plain:
                queries = (*case.queries[:i], smaller, *case.queries[i + 1 :])
                yield replace(case, queries=queries)
    for flag in ("lookup", "gates", "keep"):
        if getattr(case, flag):
            yield replace(case, **{flag: False})
