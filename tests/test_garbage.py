"""What the garbage collector knows of a database: as little as possible, and all that it needs."""

import asyncio
import contextvars
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

import picante
from picante import DerivedIngredient, InputIngredient, InternedIngredient, Runtime, Snapshot
from picante._core.batch import Batch
from picante._core.key import Handle, handle
from tests.helpers import Yield, drive

N = 1_000


class Db:
    def __init__(self) -> None:
        self.runtime = Runtime()
        self.text = InputIngredient[Any, Any](1, "Text")


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Nothing is collected by chance while a test counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def known() -> int:
    return len(gc.get_objects())


def n_large() -> int:
    """How many containers there are that the collector has much to do with."""
    return sum(type(each) in (dict, list) and len(each) >= N for each in gc.get_objects())


def query_of(db: Db, compute: Callable[[Any, Any], Any]) -> DerivedIngredient[Any, Any]:
    async def run(db: Any, key: Any) -> Any:
        return compute(db, key)

    return DerivedIngredient[Any, Any](2, "Query", run)


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("make_key", [str, lambda i: i, lambda i: ("key", i)])
async def test_what_is_plain_is_unknown_to_the_collector(make_key: Any) -> None:
    db = Db()
    keys = [make_key(i) for i in range(N)]
    gc.collect()  # which finds out by itself about the tuples
    query = query_of(db, lambda db, key: db.text.get(db, key))
    await query.get(db, "first")
    before, n_large_before = known(), n_large()
    for key in keys:
        db.text.set(db, key, "text")
        await query.get(db, key)
    for key in keys:  # again: known while they are computed, and no longer
        db.text.set(db, key, "another")
        await query.get(db, key)
    assert known() - before < 20
    assert n_large() <= n_large_before + 2  # the two tables


class Name(picante.Interned):
    text: picante.Field[str]
    parts: picante.Field[tuple[str, ...]]


@pytest.mark.usefixtures("no_collections")
async def test_interned_records_are_unknown_as_well() -> None:
    db = picante.Database()
    Name(db, text="first", parts=())
    before, n_large_before = known(), n_large()
    names = [Name(db, text=str(i), parts=("a", str(i))) for i in range(N)]
    gc.collect()  # which finds out by itself about the tuples
    assert known() - before < 20
    assert n_large() == n_large_before + 1
    assert names[1].text(db) == "1"


class File(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]


@picante.tracked
async def length(db: picante.Database, file: File) -> int:
    return len(file.text(db))


@pytest.mark.usefixtures("no_collections")
async def test_records_and_their_keys_and_what_is_made_from_them_are_unknown_as_well() -> None:
    db = picante.Database()
    assert await length(db, File(db, path="first", text="")) == 0
    before, n_large_before = known(), n_large()
    for i in range(N):
        await length(db, File(db, path=str(i), text="text"))
    gc.collect()  # which finds out by itself about the tuples of fields
    assert known() - before < 20
    assert n_large() <= n_large_before + 2  # the two tables


@pytest.mark.usefixtures("no_collections")
async def test_what_is_kept_for_a_snapshot_is_known_as_long_as_it_is_kept() -> None:
    db = Db()
    for key in range(N):
        db.text.set(db, key, "text")
    before = known()
    snapshot = await Snapshot.from_database(db)
    for key in range(N):
        db.text.set(db, key, "another")
    assert known() - before >= N
    snapshot.close()
    del snapshot
    assert known() - before < 20


class Leads:
    """A value by which one gets back to its database."""

    def __init__(self, db: Db) -> None:
        self.db = db

    def __hash__(self) -> int:
        return 1


@dataclass(frozen=True)
class Spot:
    """A key that can be watched."""

    x: int


# r[input.remove]
@pytest.mark.parametrize("how", ["alone", "in a batch", "after a snapshot"])
async def test_a_record_that_was_removed_leaves_nothing_behind(how: str) -> None:
    db = Db()
    key = Spot(1)
    db.text.set(db, key, "text")
    snapshot = await Snapshot.from_database(db) if how == "after a snapshot" else None
    with Batch(db.runtime) if how == "in a batch" else nullcontext():
        db.text.remove(db, key)
    if snapshot is not None:
        snapshot.close()
    gone = weakref.ref(key)
    del key
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("lead", [0, 1], ids=["first", "later"])
def test_interned_values_that_lead_back_are_known(lead: int) -> None:
    class WithDict(Handle):
        """One that has attributes is not plain any more."""

    def main() -> weakref.ref[Db]:
        db = Db()
        words = db.words = InternedIngredient[Any](5, "Words")  # type: ignore[attr-defined]
        values: list[Any] = ["a", "b"]
        made: Any = handle(WithDict, 1)
        made.db = db
        values.insert(lead, made)
        assert [words.intern(each) for each in values] == [0, 1, 2]
        return weakref.ref(db)

    found = main()
    gc.collect()
    assert found() is None


def test_a_key_that_leads_back_is_known() -> None:
    class WithDict(Handle):
        """One that has attributes is not plain any more."""

    def main() -> weakref.ref[Db]:
        db = Db()
        key: Any = handle(WithDict, 1)
        key.db = db
        db.text.set(db, key, "text")
        return weakref.ref(db)

    found = main()
    gc.collect()
    assert found() is None


LEADING: dict[str, Callable[[Db], Any]] = {
    "an object": Leads,
    "in a list": lambda db: [1, Leads(db)],
    "in a dict": lambda db: {"a": Leads(db)},
    "in a tuple": lambda db: (1, Leads(db)),
    "deep in tuples": lambda db: (1, (2, (3, Leads(db)))),
    "in a long tuple": lambda db: (*range(20), Leads(db)),
    "a function": lambda db: lambda: db,
}


@pytest.mark.parametrize("lead", LEADING.values(), ids=LEADING)
@pytest.mark.parametrize("where", ["input", "memo", "failure", "replaced", "version"])
def test_a_database_in_a_cycle_of_references_is_freed(
    lead: Callable[[Db], Any], where: str
) -> None:
    async def main() -> weakref.ref[Db]:
        db = Db()
        db.text.set(db, "a", "plain")
        if where == "input":
            db.text.set(db, "a", lead(db))
        elif where == "memo":
            await query_of(db, lambda db, key: lead(db)).get(db, "a")
        elif where == "failure":

            def fail(db: Any, key: Any) -> Any:
                raise ValueError(lead(db))

            query = query_of(db, fail)
            with pytest.raises(ValueError):
                await query.get(db, "a")
            db.query = query  # type: ignore[attr-defined]
        elif (
            where == "replaced"
        ):  # by something that leads back: what was hidden has to be shown again
            values = iter(["plain", lead(db)])
            query = query_of(db, lambda db, key: (db.text.get(db, key), next(values))[1])
            await query.get(db, "a")
            db.text.set(db, "a", "other")
            await query.get(db, "a")
        else:
            db.text.set(db, "a", lead(db))
            db.snapshot = await Snapshot.from_database(db)  # type: ignore[attr-defined]
            db.text.set(
                db, "a", "plain"
            )  # the present is plain; what is kept for the snapshot is not
        return weakref.ref(db)

    found = asyncio.run(main())
    gc.collect()
    assert found() is None


async def test_a_plain_dict_that_is_changed_after_all_is_collected() -> None:
    """Nobody should change a value. Who does shall not lose memory."""
    db = Db()
    value: dict[str, Any] = {"a": 1}
    db.text.set(db, "a", value)
    await query_of(db, lambda db, key: db.text.get(db, key)).get(db, "a")
    value["db"] = db
    found = weakref.ref(db)
    del db, value
    gc.collect()
    assert found() is None


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("had_outcome", [True, False])
async def test_a_suspended_query_is_known_to_the_collector(had_outcome: bool, depth: int) -> None:
    """A coroutine that nobody will ever continue, and that refers to its database, as its query does."""
    forever: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def main() -> weakref.ref[Db]:
        db = Db()
        db.text.set(db, "a", 1)

        async def compute(_: Any, key: int) -> Any:
            if key < depth:
                await query.get(db, key + 1)
            elif db.text.get(db, "a") == 2:
                await forever

        query = DerivedIngredient[Any, Any](2, "Query", compute)
        if had_outcome:
            await query.get(db, 1)  # what comes of it is plain, and so unknown
        db.text.set(db, "a", 2)
        db.access = query.get(db, 1).__await__()  # type: ignore[attr-defined]
        db.access.send(None)  # type: ignore[attr-defined]
        return weakref.ref(db)

    found = await main()
    gc.collect()
    assert found() is None


@pytest.mark.usefixtures("no_collections")
async def test_what_an_ended_query_has_read_is_not_kept_by_what_waits_for_the_next() -> None:
    async def main() -> list[weakref.ref[Any]]:
        db = Db()
        spots = [Spot(x) for x in range(12)]
        query = query_of(db, lambda db, n: [db.text.get(db, spot, None) for spot in spots[:n]])
        for n in (1, 3, 12, 2, 0):
            assert await query.get(db, n) == [None] * n
        return [weakref.ref(db), *map(weakref.ref, spots)]

    assert {each() for each in await main()} == {None}


@pytest.mark.usefixtures("no_collections")
def test_what_is_used_again_while_garbage_is_cleared_is_not_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last reference to a computation goes during a collection, and queries run before its end."""
    db = Db()
    for key in range(4):
        db.text.set(db, key, key)
    contexts: list[contextvars.Context] = []
    suspended: list[Any] = []

    async def compute(_: Any, key: int) -> int:
        if key < 0:
            contexts.append(contextvars.copy_context())  # as a task has it that outlives the query
            return 0
        before = sum(db.text.get(db, i) for i in range(3))
        await Yield(None)
        return before + db.text.get(db, 3)

    query = DerivedIngredient[Any, Any](2, "Query", compute)
    drive(query.get(db, -1))

    def begin(*args: Any, **kwargs: Any) -> None:
        suspended.append(query.get(db, len(suspended)))
        suspended[-1].send(None)

    holder: list[Any] = [contexts.pop()]
    for i in range(100):  # what warns when it goes, some of them after the computation
        holder[0].run(contextvars.ContextVar(f"variable {i}").set, query.get(db, 0))
    gc.collect()  # what the context refers to comes behind it from here on
    holder.append(holder)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", begin)
        del holder
        gc.collect()
    assert len(suspended) == 100
    assert [drive(each) for each in suspended] == [6] * 100
    for key in range(4):
        db.text.set(db, key, 10)
        assert {drive(query.get(db, n)) for n in range(100)} == {
            10 * (key + 1) + sum(range(key + 1, 4))
        }


@pytest.mark.parametrize("how", ["hit", "miss", "failure"])
@pytest.mark.parametrize("stepped", ["awaited", "by hand", "in a task"])
def test_an_access_is_known_to_the_collector_if_it_is_kept(how: str, stepped: str) -> None:
    """By something to which its database leads."""

    def compute(_: Any, key: int) -> int:
        if how == "failure":
            raise ValueError(key)
        return key

    async def settle(db: Any, query: Any) -> None:
        access = query.get(db, 1)
        db.access = access
        with pytest.raises(ValueError) if how == "failure" else nullcontext():
            if stepped == "awaited":
                await access
            elif stepped == "in a task":
                del access
                db.access = asyncio.create_task(db.access)
                await db.access
            else:
                drive(access)

    def main() -> weakref.ref[Db]:
        db = Db()
        query = query_of(db, compute)
        if how == "hit":
            drive(query.get(db, 1))
        asyncio.run(settle(db, query))
        return weakref.ref(db)

    found = main()
    gc.collect()
    assert found() is None
