"""Random programs that save and load at random points, against a model that computes everything anew; killed saves."""

# ruff: noqa: ASYNC220, ASYNC240  (small local files, and nothing else to wait for)

import asyncio
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import picante
from picante import DerivedIngredient, InputIngredient
from picante.persist import CacheSaveOptions, load as load_module, save as save_module
from tests.caches import Small

ROOT = Path(__file__).parent.parent
N_KEYS = 4


class WrongError(AssertionError):
    pass


class Word(picante.Interned):
    text: picante.Field[str]


class Phrase(picante.Interned):
    word: picante.Field[Word]
    n: picante.Field[int]


# --- Programs --------------------------------------------------------------------------------------

Op = tuple[Any, ...]


def make_ops(rng: random.Random, i: int, depth: int = 0) -> tuple[Op, ...]:
    """What query `i` does, one after the other; it asks earlier queries only."""
    ops: list[Op] = []
    for _ in range(rng.randint(1, 3)):
        kinds = ["value"] * 4 + ["field"] * 2 + ["has", "keys", "pause", "word"]
        if i:
            kinds += ["ask"] * 6 + ["both"]
        if depth < 1:
            kinds += ["if"] * 2
        head = rng.choice(kinds)
        if head == "field":
            ops.append((head, rng.randrange(N_KEYS), rng.randrange(2)))
        elif head in {"value", "has", "word"}:
            ops.append((head, rng.randrange(N_KEYS)))
        elif head == "ask":
            ops.append((head, rng.randrange(i)))
        elif head == "both":
            ops.append((head, rng.randrange(i), rng.randrange(i)))
        elif head == "if":
            ops.append((head, make_ops(rng, i, 1), make_ops(rng, i, 1)))
        else:
            ops.append((head,))
    return tuple(ops)


@dataclass(frozen=True)
class Program:
    queries: tuple[
        tuple[tuple[Op, ...], int], ...
    ]  # what it does, and to how few values its result is reduced


def make_program(rng: random.Random) -> Program:
    return Program(
        tuple((make_ops(rng, i), rng.choice([2, 2, 3, 1000])) for i in range(rng.randint(2, 6)))
    )


def number(value: Any) -> int:
    """A number for any result, the same in every process."""
    total = 7
    for each in repr(value).encode():
        total = (total * 31 + each) % 1_000_003
    return total


@dataclass
class State:
    """What the inputs are; all that a result may depend on."""

    values: dict[int, Any] = field(default_factory=dict)
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    codes: tuple[int, ...] = ()

    def copy(self) -> "State":
        return State(dict(self.values), dict(self.rows), self.codes)

    def result(self, program: Program, i: int) -> Any:
        ops, modulo = program.queries[i]
        return self.codes[i], number(self.run(program, ops)) % modulo

    def run(self, program: Program, ops: tuple[Op, ...]) -> list[Any]:
        out: list[Any] = []
        for head, *args in ops:
            if head == "value":
                out.append(self.values.get(args[0]))
            elif head == "field":
                row = self.rows.get(args[0])
                out.append(None if row is None else row[args[1]])
            elif head == "has":
                out.append((args[0] in self.values, args[0] in self.rows))
            elif head == "keys":
                out.append((list(self.values), list(self.rows)))
            elif head == "word":
                out.append(f"{self.values.get(args[0])}/{args[0]}")
            elif head in {"ask", "both"}:
                out += [self.result(program, each) for each in args]
            elif head == "if":
                out += self.run(program, args[number(out) % 2])
        return out


# --- Databases that run them -------------------------------------------------------------------------


class Machine(picante.Database):
    """A database with the queries of a program. Each has a version, so that its code can change."""

    def make(self, program: Program, codes: tuple[int, ...]) -> None:
        self.program = program
        self.codes = codes
        self.ran: list[int] = []
        register = self.ingredients.register
        self.values = register(InputIngredient(1, "values"))
        self.rows = register(InputIngredient(2, "rows", fields=("x", "y")))
        self.queries = [register(self.query(i)) for i in range(len(program.queries))]
        Word(self, "joins"), Phrase(self, Word(self, "joins"), 0)

    def query(self, i: int) -> Any:
        ops, modulo = self.program.queries[i]
        code = self.codes[i]

        async def compute(db: Any, key: Any) -> Any:
            self.ran.append(i)
            out = await self.run(db, ops)
            phrase = Phrase(db, Word(db, str(number(out) % modulo)), code)
            return phrase if i % 2 else (code, number(out) % modulo)

        return DerivedIngredient(
            10 + i, f"query {i}", compute, version=str(code), value_type=Phrase
        )

    def plain(self, db: Any, value: Any) -> Any:
        """A result without handles, which mean something else in every database."""
        if isinstance(value, Phrase):
            return value.n(db), int(value.word(db).text(db))
        return value

    async def run(self, db: Any, ops: tuple[Op, ...]) -> list[Any]:
        out: list[Any] = []
        for head, *args in ops:
            if head == "value":
                out.append(self.values.get(db, args[0]))
            elif head == "field":
                try:
                    out.append(self.rows.get_field(db, *args))
                except picante.InputNotFoundError:
                    out.append(None)
            elif head == "has":
                out.append((self.values.contains(db, args[0]), self.rows.contains(db, args[0])))
            elif head == "keys":
                out.append((self.values.keys(db), self.rows.keys(db)))
            elif head == "word":
                out.append(Word(db, f"{self.values.get(db, args[0])}/{args[0]}").text(db))
            elif head == "pause":
                await asyncio.sleep(0)
            elif head == "ask":
                out.append(self.plain(db, await self.queries[args[0]].get(db, None)))
            elif head == "both":
                got = await asyncio.gather(*(self.queries[each].get(db, None) for each in args))
                out += [self.plain(db, each) for each in got]
            elif head == "if":
                out += await self.run(db, args[number(out) % 2])
        return out


class Run:
    """One program with random actions. `reads` and `saves` go on while others act."""

    def __init__(self, rng: random.Random, folder: Path, limited: bool = False) -> None:
        self.rng = rng
        self.limited = limited  # databases keep few memos
        self.folder = folder
        self.program = make_program(rng)
        self.state = State(codes=(0,) * len(self.program.queries))
        self.db = self.machine(self.state.codes)
        self.files: list[
            tuple[Path, State, bool]
        ] = []  # with the state, and whether that is all of it
        self.snapshots: list[tuple[Any, Machine, State]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.n_files = 0

    def machine(self, codes: tuple[int, ...]) -> Machine:
        db = Machine()
        db.make(self.program, codes)
        if self.limited:
            db.runtime.limits.max_memos = self.rng.choice([None, 1, 2, 3])
            db.runtime.limits.max_bytes = self.rng.choice([None, None, 100, 300])
            for query in db.queries:
                query.max_memos = self.rng.choice([None, 1])
        return db

    async def expect(self, view: Any, db: Machine, state: State, i: int) -> None:
        expected = state.result(self.program, i)
        got = db.plain(view, await db.queries[i].get(view, None))
        if got != expected:
            raise WrongError(f"query {i} is {got}, and should be {expected}")

    def check_inputs(self, view: Any, db: Machine, state: State) -> None:
        for ingredient, expected in ((db.values, state.values), (db.rows, state.rows)):
            keys = ingredient.keys(view)
            got = {key: ingredient.get(view, key) for key in keys}
            if got != expected or keys != list(expected):
                raise WrongError(f"{ingredient.name} are {got}, and should be {expected}")

    async def save(self, source: Any, state: State, options: CacheSaveOptions | None) -> None:
        self.n_files += 1
        path = self.folder / f"{self.n_files}.cache"
        await source.save(path, options)
        self.files.append((path, state, options is None))

    def resync(self) -> None:
        """Set the inputs as they are, as a tool does after loading a cache that may lack some."""
        for ingredient, wanted in (
            (self.db.values, self.state.values),
            (self.db.rows, self.state.rows),
        ):
            kept = [key for key in ingredient.keys(self.db) if key in wanted]
            for key in ingredient.keys(self.db):
                if key not in wanted or kept != list(wanted)[: len(kept)]:
                    ingredient.remove(self.db, key)
            for key, value in wanted.items():
                ingredient.set(self.db, key, value)

    async def act(self) -> None:
        rng, db, state = self.rng, self.db, self.state
        i = rng.randrange(len(self.program.queries))
        key = rng.randrange(N_KEYS)
        match rng.choice(ACTIONS):
            case "set":
                state.values[key] = value = rng.choice([0, 1, "x", (1, "y"), None])
                if rng.random() < 0.3:
                    db.values.set(db, key, "something else first")
                db.values.set(db, key, value)
            case "row":
                state.rows[key] = row = (rng.randrange(2), rng.randrange(2))
                db.rows.set(db, key, row)
            case "remove":
                db.values.remove(db, key)
                state.values.pop(key, None)
                if rng.random() < 0.5:
                    db.rows.remove(db, key)
                    state.rows.pop(key, None)
            case "batch":
                with db.batch():
                    for each in range(N_KEYS):
                        if rng.random() < 0.5:
                            state.values[each] = rng.randrange(2)
                            db.values.set(db, each, state.values[each])
            case "bump":
                db.runtime.bump_revision()
            case "invalidate":
                db.queries[i].invalidate(db, None)
            case "read":
                await self.expect(db, db, state, i)
            case "read on":
                self.tasks.append(asyncio.ensure_future(self.expect(db, db, state.copy(), i)))
                await asyncio.sleep(0)
            case "snapshot":
                self.snapshots.append((await db.snapshot(), db, state.copy()))
            case "read snapshot" if self.snapshots:
                await self.expect(*rng.choice(self.snapshots), i)
            case "close" if self.snapshots:
                snapshot, _, _ = self.snapshots.pop(rng.randrange(len(self.snapshots)))
                await self.settle()
                snapshot.close()
            case "save":
                await self.save(db, state.copy(), self.options())
            case "save on":
                self.tasks.append(
                    asyncio.ensure_future(self.save(db, state.copy(), self.options()))
                )
                await asyncio.sleep(0)
            case "save snapshot" if self.snapshots:
                snapshot, _, then = rng.choice(self.snapshots)
                await self.save(snapshot, then, None)
            case "load" if self.files:
                await self.load(fresh=False)
            case "load fresh" if self.files:
                await self.load(fresh=True)
            case "warm" if not self.limited:
                await self.warm()

    def options(self) -> CacheSaveOptions | None:
        match self.rng.randrange(6):
            case 0:
                return CacheSaveOptions(max_records_per_section=self.rng.randrange(4))
            case 1:
                return CacheSaveOptions(max_bytes=self.rng.randrange(500, 2500))
            case 2:
                return CacheSaveOptions(max_record_bytes=self.rng.randrange(4, 30))
        return None

    async def load(self, *, fresh: bool) -> None:
        path, then, complete = self.rng.choice(self.files)
        state = then.copy()
        if fresh:
            codes = tuple(code + (self.rng.random() < 0.15) for code in self.state.codes)
            self.db = self.machine(codes)
            if self.rng.random() < 0.3:
                self.db.values.set(self.db, 1, "before")
                Word(self.db, "shifts ids")
        await self.db.load(path)
        state.codes = self.db.codes
        self.state = state
        if complete:
            self.check_inputs(self.db, self.db, state)
        else:
            self.resync()

    async def warm(self) -> None:
        """What was read before a save is a hit after it, whatever came before."""
        for i in range(len(self.program.queries)):
            await self.expect(self.db, self.db, self.state, i)
        path = self.folder / "warm.cache"
        before = self.db.runtime.current_revision
        await self.settle()
        await self.db.save(path)
        if self.db.runtime.current_revision != before:
            return
        other = self.machine(self.db.codes)
        await other.load(path)
        if other.runtime.current_revision != before and before:
            raise WrongError(f"loaded at {other.runtime.current_revision}, saved at {before}")
        if other.runtime.forward_deps() != self.db.runtime.forward_deps():
            raise WrongError("the graph is another one after a load")
        for i, query in enumerate(other.queries):
            mine = self.db.queries[i].cell_state(None)
            state = query.cell_state(None)
            if (state.deps, state.changed_at, state.verified_at) != (
                mine.deps,
                mine.changed_at,
                mine.verified_at,
            ) and before:
                raise WrongError(f"the cell of query {i} is {state}, and was {mine}")
            await self.expect(other, other, self.state, i)
        if other.ran:
            raise WrongError(f"{other.ran} ran after a load, and nothing had changed")

    async def settle(self) -> None:
        tasks, self.tasks = self.tasks, []
        await asyncio.gather(*tasks)

    async def run(self) -> None:
        for _ in range(self.rng.randint(5, 40)):
            await self.act()
            if self.rng.random() < 0.3:
                await asyncio.sleep(0)
        await self.settle()
        for i in range(len(self.program.queries)):
            await self.expect(self.db, self.db, self.state, i)
        self.check_inputs(self.db, self.db, self.state)
        for snapshot, db, state in self.snapshots:
            self.check_inputs(snapshot, db, state)
            for i in range(len(self.program.queries)):
                await self.expect(snapshot, db, state, i)
            snapshot.close()


ACTIONS = (
    ["set"] * 6
    + ["row"] * 3
    + ["remove"] * 2
    + ["batch", "bump", "invalidate", "invalidate"]
    + ["read"] * 6
    + ["read on"] * 3
    + ["snapshot"] * 2
    + ["read snapshot"] * 2
    + ["close"]
    + ["save"] * 3
    + ["save on"] * 2
    + ["save snapshot"] * 2
    + ["load"] * 3
    + ["load fresh"] * 3
    + ["warm"]
)


async def check(seeds: range, folder: Path, limited: bool = False) -> None:
    for seed in seeds:
        for each in folder.iterdir():
            each.unlink()
        run = Run(random.Random(seed), folder, limited)
        try:
            async with asyncio.timeout(60):
                await run.run()
        except Exception as error:
            error.add_note(f"seed {seed}: {run.program}")
            raise


@pytest.fixture
def finely(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (save_module, load_module):
        monkeypatch.setattr(module, "BATCH", 2)
        monkeypatch.setattr(module.Slices, "SECONDS", -1)


async def test_random_programs_survive_saves_and_loads(tmp_path: Path, finely: None) -> None:
    await check(range(40), tmp_path)


async def test_random_programs_with_limits_survive_saves_and_loads(
    tmp_path: Path, finely: None
) -> None:
    await check(range(2000, 2040), tmp_path, limited=True)


@pytest.mark.long
@pytest.mark.parametrize("share", range(4))
async def test_many_random_programs_with_limits_survive_saves_and_loads(
    tmp_path: Path, finely: None, share: int
) -> None:
    await check(range(10_000 + 500 * share, 10_500 + 500 * share), tmp_path, limited=True)


@pytest.mark.long
@pytest.mark.parametrize("share", range(10))
async def test_many_random_programs_survive_saves_and_loads(
    tmp_path: Path, finely: None, share: int
) -> None:
    await check(range(1000 + 500 * share, 1500 + 500 * share), tmp_path)


# --- Killed saves ------------------------------------------------------------------------------------

# Forks a process that saves one state after the other, kills it at any moment, and looks at what is there, again in a
# process of its own: starting the interpreter anew for each would take most of the time.
KILLS = """
import asyncio, os, random, signal, sys, time
from tests.caches import Small

path, times, rng = sys.argv[1], int(sys.argv[2]), random.Random(sys.argv[3])

async def save(out):
    db = Small()
    n = 0
    while True:
        n += 1
        for i in range(50):
            db.text.set(db, i, "x" * n)
            await db.double.get(db, i)
        await db.names.get(db, None)
        await db.save(path)
        os.write(out, b"%d " % n)

async def look(told):
    db = Small()
    assert await db.load(path)
    (n,) = {len(db.text.get(db, i)) for i in range(50)}
    assert told <= n <= told + 1, (told, n)
    assert [await db.double.get(db, i) for i in range(50)] == [2 * n] * 50
    assert await db.names.get(db, None) == tuple(range(50))
    assert db.ran == []

def forked(make):
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(make())
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return pid

for _ in range(times):
    inside, outside = os.pipe()
    pid = forked(lambda: save(outside))
    os.close(outside)
    told = os.read(inside, 100)
    time.sleep(rng.random() * 0.04)
    os.kill(pid, signal.SIGKILL)
    while more := os.read(inside, 100):
        told += more
    os.close(inside)
    os.waitpid(pid, 0)
    _, status = os.waitpid(forked(lambda: look(int(told.split()[-1]))), 0)
    assert status == 0
print("done")
"""


def kill_saves(folder: Path, seed: int, times: int) -> None:
    """Whenever a process is killed: what is there is one of the states that it has saved."""
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(folder / "cache.bin"), str(times), str(seed)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "done", done.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")
def test_a_killed_save_leaves_a_whole_file(tmp_path: Path) -> None:
    # r[persist.save-atomic]
    kill_saves(tmp_path, 1, 10)


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")
def test_many_killed_saves_leave_whole_files(tmp_path: Path) -> None:
    kill_saves(tmp_path, 2, 200)


SAVES_TOO = """
import asyncio, sys
from tests.caches import Small

async def main():
    db = Small()
    for i in range(50):
        db.text.set(db, i, sys.argv[2] * 10)
        await db.double.get(db, i)
    for _ in range(10):
        await db.save(sys.argv[1])

asyncio.run(main())
"""


async def test_two_processes_that_save_to_one_path_make_no_mix(tmp_path: Path) -> None:
    path = tmp_path / "cache.bin"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVES_TOO, str(path), who],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for who in "abc"
    ]
    n_loads = 0
    while any(process.poll() is None for process in processes):
        db = Small()
        if await db.load(path):
            n_loads += 1
            (text,) = {db.text.get(db, i) for i in range(50)}
            assert text in {"a" * 10, "b" * 10, "c" * 10}
        await asyncio.sleep(0.005)
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert n_loads
    assert [each.name for each in tmp_path.iterdir()] == ["cache.bin"]
