"""A long random run of everything at once, on several threads with event loops of their own.

    python -m tests.soak --seconds 600 --seed 1

Readers, writers, batches, invalidations, cancellations, timeouts, maps, kept queries, leaders from outside, and
snapshots that are taken, read, closed and dropped. Every value is compared with what computing everything from scratch
gives at its revision. A watchdog ends the run, with the stacks of all threads, when a thread stands still; and memory,
once warm, must stay flat. What the threads do depends on the seed, when they do it on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import contextvars
import faulthandler
import gc
import random
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

from picante import DerivedIngredient, InputIngredient, InternedIngredient, Key, Runtime, Snapshot
from picante._core.batch import Batch
from picante.inflight import InFlightKey, Leader, registry, shared_cache
from tests.oracle import Value

N_INPUTS = 6
N_CELLS = 8  # of each query
STALLED = 60.0  # seconds without an action in some thread

Facts = tuple[int, ...]

# The revision as of which a computation runs: it has a copy of the context of who asked for it.
FACTS: contextvars.ContextVar[Any] = contextvars.ContextVar("facts")


class FailedError(Exception):
    """What queries fail with."""


# What each query gives, from scratch. They are functions of the inputs and of the key alone.


def leaf(facts: Facts, key: int) -> int:
    return facts[key % N_INPUTS] + facts[(key + 1) % N_INPUTS]


def cut(facts: Facts, key: int) -> int:
    return leaf(facts, key) % 3


def fussy(facts: Facts, key: int) -> int:
    number = cut(facts, key)
    if number == 2:
        raise FailedError(key)
    return number


def wide(facts: Facts, key: int) -> int:
    return sum(cut(facts, key + i) * (i + 1) for i in range(4))


def top(facts: Facts, key: int) -> int:
    try:
        number = fussy(facts, key)
    except FailedError:
        number = 100
    return number + (wide(facts, key) if number else leaf(facts, key + 2))


FUNCTIONS = {each.__name__: each for each in (leaf, cut, fussy, wide, top)}


class Db:
    """A database made by hand."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.kinds: dict[int, Any] = {}
        self.input = InputIngredient(1, "input")
        self.words = InternedIngredient(2, "words")
        for each in (self.input, self.words):
            self.kinds[each.kind] = each

    def ingredient(self, kind: int) -> Any:
        return self.kinds.get(kind)


@dataclass
class Soak:
    """One run. `figures` counts what was done; `problems` is what went wrong, first things first."""

    seconds: float
    seed: int
    n_threads: int = 3
    figures: collections.Counter[str] = field(default_factory=collections.Counter)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.db = Db()
        self.values: collections.deque[weakref.ref[Value]] = collections.deque()
        self.states: dict[int, Facts] = {}
        self.write_lock = threading.Lock()
        self.beats = [time.monotonic()] * (self.n_threads + 1)
        self.paused = threading.Event()
        self.end = time.monotonic() + self.seconds
        self.blocks: list[int] = []
        self.live: list[int] = []
        self.queries = {
            name: DerivedIngredient(
                10 + n, name, getattr(self, f"run_{name}"), keep=name in {"cut", "wide"}
            )
            for n, name in enumerate(FUNCTIONS)
        }
        for query in self.queries.values():
            self.db.kinds[query.kind] = query
        with Batch(self.db.runtime) as batch:
            for i in range(N_INPUTS):
                self.db.input.set(self.db, i, 0)
        self.states[int(batch.revision or 0)] = (0,) * N_INPUTS

    # -- the queries

    def made(self, number: int) -> Value:
        value = Value(number)
        self.values.append(weakref.ref(value))
        return value

    async def pause(self) -> None:
        await asyncio.sleep(random.choice([0, 0, 0, 0.0005]))

    async def run_leaf(self, db: Any, key: int) -> Value:
        one = self.db.input.get(db, key % N_INPUTS)
        await self.pause()
        word = self.db.words.intern(one % 5)
        two = self.db.input.get(db, (key + 1) % N_INPUTS)
        assert self.db.words.get(db, word) == one % 5
        return self.made(one + two)

    async def run_cut(self, db: Any, key: int) -> Value:
        return self.made((await self.queries["leaf"].get(db, key)).n % 3)

    async def run_fussy(self, db: Any, key: int) -> Value:
        number = (await self.queries["cut"].get(db, key)).n
        await self.pause()
        if number == 2:
            raise FailedError(key)
        return self.made(number)

    async def run_wide(self, db: Any, key: int) -> Value:
        query = self.queries["cut"]
        if key % 2:
            found = await query.map(db, [key + i for i in range(4)], limit=1 + key % 3)
        else:
            found = await asyncio.gather(*(query.get(db, key + i) for i in range(4)))
        return self.made(sum(each.n * (i + 1) for i, each in enumerate(found)))

    async def run_top(self, db: Any, key: int) -> Value:
        try:
            number = (await self.queries["fussy"].get(db, key)).n
        except FailedError:
            number = 100
        rest = (
            self.queries["wide"].get(db, key) if number else self.queries["leaf"].get(db, key + 2)
        )
        return self.made(number + (await rest).n)

    # -- what is checked

    def expected(self, name: str, facts: Facts, key: int) -> int | None:
        """The number, or None where the query fails."""
        try:
            return FUNCTIONS[name](facts, key)
        except FailedError:
            return None

    def facts_of(self, db: Any) -> Facts:
        return tuple(self.db.input.get(db, i) for i in range(N_INPUTS))

    def problem(self, what: str) -> None:
        self.problems.append(what)
        self.end = 0

    def check(self, name: str, key: int, found: Any, possible: list[Facts], where: str) -> None:
        numbers = {self.expected(name, facts, key) for facts in possible}
        got = None if isinstance(found, FailedError) else found.n
        if got not in numbers:
            state = self.queries[name].cell_state(key)
            self.problem(f"{name}({key}) is {got}, not one of {numbers}: {where}, now {state}")
        self.figures["values checked"] += 1

    async def answer(self, name: str, db: Any, key: int) -> Any:
        try:
            return await self.queries[name].get(db, key)
        except FailedError as error:
            # The cell keeps its failure; without this that would keep this frame, and so the snapshot.
            return error.with_traceback(None)

    # -- what is done

    async def read_present(self, rng: random.Random) -> None:
        """A read of the database is of the revision at which it began: one of those between before and after."""
        name, key = rng.choice(list(FUNCTIONS)), rng.randrange(N_CELLS)
        before = int(self.db.runtime.current_revision)
        coming = asyncio.ensure_future(self.answer(name, self.db, key))
        await asyncio.sleep(0)
        after = int(self.db.runtime.current_revision)
        found = await coming
        possible = [
            self.states[revision]
            for revision in range(before, after + 1)
            if revision in self.states or self.wait_for_state(revision)
        ]
        self.check(name, key, found, possible, f"a reader at {before} to {after}")

    def wait_for_state(self, revision: int) -> bool:
        """The writer notes what a revision holds just after it has begun."""
        with self.write_lock:
            return revision in self.states

    async def map_present(self, rng: random.Random) -> None:
        """All of one map is of one revision."""
        before = int(self.db.runtime.current_revision)
        keys = [rng.randrange(N_CELLS) for _ in range(5)]
        coming = asyncio.ensure_future(self.queries["wide"].map(self.db, keys))
        await asyncio.sleep(0)
        after = int(self.db.runtime.current_revision)
        found = [each.n for each in await coming]
        for revision in range(before, after + 1):
            if self.wait_for_state(revision) and found == [
                wide(self.states[revision], key) for key in keys
            ]:
                break
        else:
            self.problem(f"map of wide({keys}) is {found}, of no revision from {before} to {after}")
        self.figures["maps"] += 1

    async def cancel_some(self, rng: random.Random) -> None:
        tasks = [
            asyncio.ensure_future(
                self.answer(rng.choice(list(FUNCTIONS)), self.db, rng.randrange(N_CELLS))
            )
            for _ in range(4)
        ]
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        for task in tasks:
            if rng.random() < 0.7:
                task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Exception) and not isinstance(done, FailedError):
                self.problem(f"a cancelled reader has seen {done!r}")
        self.figures["cancelled"] += 4

    async def give_up(self, rng: random.Random) -> None:
        with contextlib.suppress(TimeoutError, FailedError):
            query = self.queries[rng.choice(list(FUNCTIONS))]
            await asyncio.wait_for(query.get(self.db, rng.randrange(N_CELLS)), 0.0003)
        self.figures["timeouts"] += 1

    async def use_snapshots(self, rng: random.Random, held: list[Any]) -> None:
        """Take one, read several, end one in one way or the other."""
        snap = await Snapshot.from_database(rng.choice([self.db, *held[:1]]) if held else self.db)
        held.append(snap)
        self.figures["snapshots"] += 1
        chosen = rng.choice(held)
        facts = self.facts_of(chosen)
        revision = int(chosen.runtime.current_revision)
        if self.wait_for_state(revision) and facts != self.states[revision]:
            self.problem(f"a snapshot at {revision} shows {facts}, not {self.states[revision]}")
        names = [rng.choice(list(FUNCTIONS)) for _ in range(3)]
        key = rng.randrange(N_CELLS)
        for name, found in zip(
            names,
            await asyncio.gather(*(self.answer(name, chosen, key) for name in names)),
            strict=True,
        ):
            self.check(name, key, found, [facts], f"a snapshot at {revision}")
        del chosen, snap
        while len(held) > 4 or (held and rng.random() < 0.5):
            gone = held.pop(rng.randrange(len(held)))
            if rng.random() < 0.5:
                gone.close()
            del gone

    async def leave_running(self, rng: random.Random) -> None:
        """A snapshot that goes while its queries run."""
        snap: Any = await Snapshot.from_database(self.db)
        facts = self.facts_of(snap)
        name, key = rng.choice(list(FUNCTIONS)), rng.randrange(N_CELLS)
        coming = asyncio.ensure_future(self.answer(name, snap, key))
        await asyncio.sleep(0)
        if rng.random() < 0.5:
            snap.close()
        del snap
        self.check(name, key, await coming, [facts], "a snapshot that goes")

    async def lead(self, rng: random.Random) -> None:
        """Lead from outside of the engine for a while."""
        snap = await Snapshot.from_database(self.db)
        facts, key = self.facts_of(snap), rng.randrange(N_CELLS)
        revision = int(snap.runtime.current_revision)
        led = registry.try_lead(
            InFlightKey(
                snap.runtime.id,
                snap.runtime.current_revision,
                self.queries["leaf"].kind,
                Key.encode(key),
            )
        )
        if isinstance(led, Leader):
            coming = asyncio.ensure_future(self.answer("leaf", snap, key))
            await self.pause()
            if rng.random() < 0.5:
                led.guard.complete(self.made(leaf(facts, key)), [], snap.runtime.current_revision)
            elif rng.random() < 0.5:
                led.guard.cancel()
            del led
            self.check("leaf", key, await coming, [facts], f"led at {revision}")
            self.figures["led"] += 1
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(led.entry.wait(), 0.002)
            self.figures["followed"] += 1

    def write(self, rng: random.Random) -> None:
        with self.write_lock:
            state = list(self.states[max(self.states)])
            with Batch(self.db.runtime) as batch:
                for _ in range(rng.choice([1, 1, 3])):
                    i = rng.randrange(N_INPUTS)
                    state[i] = rng.randrange(4)
                    self.db.input.set(self.db, i, state[i])
            self.states[int(batch.revision or 0)] = tuple(state)
            extra = rng.random()
            if extra < 0.1:
                query = self.queries[rng.choice(list(FUNCTIONS))]
                self.states[int(query.invalidate(self.db, rng.randrange(N_CELLS)))] = tuple(state)
            elif extra < 0.15:
                self.states[int(self.db.runtime.bump_revision())] = tuple(state)
            elif extra < 0.16:
                self.db.runtime.clear_dependency_graph()
            elif extra < 0.17:
                shared_cache.clear()
        self.figures["writes"] += 1

    # -- threads

    async def work(self, number: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        held: list[Any] = []
        actions = [
            self.read_present,
            self.read_present,
            self.map_present,
            self.cancel_some,
            self.give_up,
            lambda rng: self.use_snapshots(rng, held),
            lambda rng: self.use_snapshots(rng, held),
            self.leave_running,
            self.lead,
        ]

        async def act() -> None:
            await rng.choice(actions)(rng)

        while time.monotonic() < self.end:
            self.beats[number] = time.monotonic()
            await asyncio.gather(*(act() for _ in range(rng.randint(1, 4))))
            self.figures["rounds"] += 1

    def run_thread(self, number: int) -> None:
        """One loop after the other, so that computations of a loop that has ended are left behind."""
        import uvloop

        rng = random.Random(f"loops {self.seed} {number}")
        new_loop = uvloop.new_event_loop if number % 2 else asyncio.new_event_loop
        try:
            while time.monotonic() < self.end:
                with asyncio.Runner(loop_factory=new_loop) as runner:
                    end = min(self.end, time.monotonic() + 2 * rng.random())
                    worker = self.work(number)
                    runner.run(self.for_a_while(worker, end))
        except BaseException as error:  # whatever it is, the run has to tell
            import traceback

            self.problem("".join(traceback.format_exception(error)))
        self.beats[number] = float("inf")

    async def for_a_while(self, worker: Any, end: float) -> None:
        task = asyncio.ensure_future(worker)
        await asyncio.wait([task], timeout=max(0, end - time.monotonic()))
        if not task.done():
            task.cancel()  # in the middle of whatever it does
        try:
            await task
        except asyncio.CancelledError:
            pass

    def run_writer(self, number: int) -> None:
        rng = random.Random(f"{self.seed} writer")
        try:
            while time.monotonic() < self.end:
                self.beats[number] = time.monotonic()
                self.write(rng)
                time.sleep(rng.choice([0, 0.0002, 0.002, 0.01]))
                if len(self.states) > 4000:
                    with self.write_lock:
                        for revision in sorted(self.states)[:-2000]:
                            del self.states[revision]
        except BaseException as error:
            self.problem(f"the writer: {error!r}")
        self.beats[number] = float("inf")

    def run(self) -> None:
        """Run for `seconds`, several times for a part of it; memory is measured in between, when all is quiet."""
        begin, n_parts = time.monotonic(), 8
        for part in range(n_parts):
            self.end = begin + self.seconds * (part + 1) / n_parts
            self.beats = [time.monotonic()] * (self.n_threads + 1)
            threads = [
                threading.Thread(target=self.run_thread, args=(i,), daemon=True)
                for i in range(self.n_threads)
            ]
            threads.append(
                threading.Thread(target=self.run_writer, args=(self.n_threads,), daemon=True)
            )
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.05)
                if time.monotonic() - min(self.beats) > STALLED:
                    faulthandler.dump_traceback(all_threads=True)
                    self.problem("a thread stands still")
                    return
            if self.problems:
                return
            self.measure()
        if len(registry):
            self.problem(f"{len(registry)} entries are left in the registry")
        self.check_memory()

    def measure(self) -> None:
        """What the database and its cells take, with nobody reading."""
        shared_cache.clear()
        last = max(self.states)
        self.states = {last: self.states[last]}
        asyncio.run(self.answer_all())
        sys._clear_type_cache()  # it keeps each name that was looked up, also those made by asyncio's reprs
        gc.collect()
        self.values = collections.deque(ref for ref in self.values if ref() is not None)
        self.blocks.append(sys.getallocatedblocks())
        self.live.append(len(self.values))

    async def answer_all(self) -> None:
        """Have everything present once, so that what is there is always the same."""
        for name in FUNCTIONS:
            for key in range(N_CELLS + 4):
                await self.answer(name, self.db, key)

    def check_memory(self) -> None:
        n_cells = len(FUNCTIONS) * (N_CELLS + 8)
        if max(self.live) > n_cells:
            self.problem(f"{self.live} values are kept for at most {n_cells} cells")
        if min(self.blocks[-3:]) > min(self.blocks[1:4]) + 400:
            self.problem(f"memory grows: {self.blocks} blocks")

    def report(self) -> str:
        lines = [f"{count:>10,} {what}" for what, count in sorted(self.figures.items())]
        lines += [f"  revisions up to {self.db.runtime.current_revision}"]
        lines += [f"  blocks {self.blocks}", f"  live values {self.live}", *self.problems[:5]]
        return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    soak = Soak(arguments.seconds, arguments.seed)
    soak.run()
    print(soak.report())
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
