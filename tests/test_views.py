"""Versions and views: one test for each trap of the mechanism, small enough to follow by hand.

Every test is a story about revisions. A reader that is `reader(...)` has begun, at the revision of that line, and
waits at a gate; what the database does next overtakes it. `ran` says which queries ran.
"""

import asyncio
import gc
import random
import weakref
from typing import Any

import pytest

from picante import Dep, DynKey, Key, Ready, Running, Vacant
from picante.events import InputSet, QueryChanged, QueryInvalidated, RevisionBumped
from tests.oracle import Value, World, settle


async def reader(awaitable: Any) -> "asyncio.Task[Any]":
    """A task that has begun to await, and has come as far as it can."""
    task = asyncio.ensure_future(awaitable)
    await settle()
    return task


def gated(world: World, source: Any) -> Any:
    """A query that waits at a gate, and then is what `source` is at the same key."""

    @world.query
    async def late(db: Any, key: Any) -> Any:
        await world.gates.wait()
        found = source.get(db, key)
        return await found if asyncio.iscoroutine(found) else found

    return late


# -- a revision for each access


# r[cell.access]: decision 1
async def test_an_evaluation_that_a_set_overtakes_still_sees_its_own_revision(world: World) -> None:
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", "old")
    waiting = await reader(late.get(world, "a"))
    text.set(world, "a", "new")
    world.gates.release(0)
    assert await waiting == "old"


async def test_an_evaluation_never_mixes_two_revisions(world: World) -> None:
    text = world.input()

    @world.query
    async def both(db: Any, key: None) -> Any:
        first = text.get(db, "a")
        await world.gates.wait()
        return first, text.get(db, "b"), text.get(db, "a")

    text.set(world, "a", 1)
    text.set(world, "b", 1)
    waiting = await reader(both.get(world, None))
    text.set(world, "a", 2)
    text.set(world, "b", 2)
    world.gates.release(0)
    assert await waiting == (1, 1, 1)
    again = await reader(both.get(world, None))
    world.gates.release(0)
    assert await again == (2, 2, 2)


async def test_an_overtaken_reader_sees_absence_presence_and_keys_as_they_were(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def look(db: Any, key: None) -> Any:
        await world.gates.wait()
        return (
            text.keys(db),
            [text.contains(db, key) for key in "abc"],
            [text.get(db, key) for key in "abc"],
        )

    text.set(world, "b", 1)
    text.set(world, "a", 2)
    waiting = await reader(look.get(world, None))
    text.remove(world, "b")
    text.set(world, "c", 3)
    text.set(world, "b", 4)
    world.gates.release(0)
    assert await waiting == (["b", "a"], [True, True, False], [2, 1, None])
    now = await reader(look.get(world, None))
    world.gates.release(0)
    assert await now == (["a", "c", "b"], [True, True, True], [2, 4, 3])


async def test_many_readers_at_many_revisions_end_in_any_order(world: World) -> None:
    text = world.input()
    late = gated(world, text)
    rng = random.Random(5)
    waiting = []
    for n in range(60):
        text.set(world, "a", n)
        waiting.append(await reader(late.get(world, "a")))
    while world.gates.waiting:
        world.gates.release(rng.randrange(60))
        await settle()
    assert [await each for each in waiting] == list(range(60))


async def test_evaluations_of_one_cell_at_two_revisions_do_not_wait_for_each_other(
    world: World,
) -> None:
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", 1)
    first = await reader(late.get(world, "a"))
    text.set(world, "a", 2)
    second = await reader(late.get(world, "a"))
    assert len(world.gates.waiting) == 2
    world.gates.release(1)
    assert await second == 2
    assert not first.done()
    world.gates.release(0)
    assert await first == 1
    assert await late.get(world, "a") == 2
    assert world.took() == ["late", "late"]


async def test_a_query_that_waits_at_one_revision_is_no_cycle_at_another(world: World) -> None:
    text = world.input()

    @world.query
    async def one(db: Any, key: None) -> Any:
        if text.get(db, "one first"):
            return "end of one"
        await world.gates.wait()
        return await two.get(db, None)

    @world.query
    async def two(db: Any, key: None) -> Any:
        if not text.get(db, "one first"):
            return "end of two"
        await world.gates.wait()
        return await one.get(db, None)

    first = await reader(one.get(world, None))
    text.set(world, "one first", True)
    second = await reader(two.get(world, None))
    world.gates.release(0)
    world.gates.release(0)
    assert await asyncio.gather(first, second) == ["end of two", "end of one"]


# -- what is unaffected is untouched


# r[dep.invalidation]
async def test_an_unrelated_change_leaves_a_memo_a_hit(world: World) -> None:
    text = world.input()

    @world.query
    async def upper(db: Any, key: str) -> str:
        return text.get(db, key).upper()

    text.set(world, "a", "x")
    assert await upper.get(world, "a") == "X"
    for n in range(10):
        text.set(world, "b", n)
    assert await upper.get(world, "a") == "X"
    assert upper.peek(world, "a") == "X"
    state = upper.cell_state("a")
    assert (state.verified_at, state.changed_at) == (11, 1)
    assert world.took() == ["upper"]


async def test_a_bump_without_a_change_leaves_memos_valid(world: World) -> None:
    text = world.input()

    @world.query
    async def upper(db: Any, key: str) -> str:
        return text.get(db, key).upper()

    @world.query
    async def twice(db: Any, key: str) -> str:
        return 2 * await upper.get(db, key)

    text.set(world, "a", "x")
    assert await twice.get(world, "a") == "XX"
    world.runtime.bump_revision()
    world.runtime.set_current_revision(100)
    assert twice.peek(world, "a") == "XX"
    assert await twice.get(world, "a") == "XX"
    assert world.took() == ["twice", "upper"]
    assert twice.cell_state("a").verified_at == 100


# -- unrelated writers do not keep the cache cold


async def test_what_an_unrelated_write_overtakes_is_committed(world: World) -> None:
    text = world.input()
    late = gated(world, text)

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await late.get(db, key)

    text.set(world, "a", 1)
    waiting = await reader(above.get(world, "a"))
    text.set(world, "unrelated", 2)
    world.gates.release(0)
    assert await waiting == 1
    assert above.peek(world, "a") == 1
    assert await above.get(world, "a") == 1
    assert world.took() == ["above", "late"]
    text.set(world, "a", 3)  # and what it has read still reaches it
    assert above.peek(world, "a") is None


async def test_a_writer_that_never_stops_does_not_keep_the_cache_cold(world: World) -> None:
    text = world.input()

    @world.query
    async def slow(db: Any, key: int) -> int:
        await world.gates.wait()
        below = await slow.get(db, key - 1) if key else 0
        await world.gates.wait()
        return below + text.get(db, "a")

    text.set(world, "a", 1)
    waiting = await reader(slow.get(world, 9))
    beat = 0
    while world.gates.waiting:
        beat += 1
        text.set(world, "clock", beat)
        world.gates.release(0)
        await settle()
    assert await waiting == 10
    assert beat == 20
    text.set(world, "clock", 0)
    assert await slow.get(world, 9) == 10
    assert world.took() == ["slow"] * 10


async def test_two_evaluations_of_unaffected_queries_end_as_one_result(world: World) -> None:
    """Who ends and finds a version that already holds takes that one and drops its own."""
    text = world.input()

    @world.query
    async def fresh(db: Any, key: str) -> Value:
        await world.gates.wait()
        return Value(text.get(db, key))

    text.set(world, "a", 1)
    first = await reader(fresh.get(world, "a"))
    text.set(world, "unrelated", 2)
    second = await reader(fresh.get(world, "a"))
    world.gates.release(1)
    value = await second
    world.gates.release(0)
    assert await first is value
    assert fresh.peek(world, "a") is value


async def test_presence_first_asked_for_in_the_past_is_not_made_stale_by_a_new_value(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def there(db: Any, key: str) -> bool:
        await world.gates.wait()
        return text.contains(db, key)

    text.set(world, "a", 1)
    waiting = await reader(there.get(world, "a"))
    text.set(world, "a", 2)
    world.gates.release(0)
    assert await waiting is True
    assert there.peek(world, "a") is True
    text.remove(world, "a")
    assert there.peek(world, "a") is None


async def test_absence_first_asked_for_in_the_past_counts_as_that_of_the_past(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def there(db: Any, key: str) -> bool:
        await world.gates.wait()
        return text.contains(db, key)

    waiting = await reader(there.get(world, "a"))
    text.set(world, "a", 2)
    world.gates.release(0)
    assert await waiting is False
    assert there.peek(world, "a") is None
    again = await reader(there.get(world, "a"))
    world.gates.release(0)
    assert await again is True


# -- a change during an evaluation


async def test_an_input_that_changes_after_it_was_read_leaves_the_result_stale(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def read_first(db: Any, key: str) -> Any:
        found = text.get(db, key)
        await world.gates.wait()
        return found

    text.set(world, "a", 1)
    waiting = await reader(read_first.get(world, "a"))
    text.set(world, "a", 2)
    world.gates.release(0)
    assert await waiting == 1
    assert read_first.peek(world, "a") is None
    again = await reader(read_first.get(world, "a"))
    world.gates.release(0)
    assert await again == 2
    assert read_first.peek(world, "a") == 2


async def test_an_input_that_changes_before_it_is_read_leaves_the_result_stale(
    world: World,
) -> None:
    """When the change comes, nothing links the running query to the input yet."""
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", 1)
    waiting = await reader(late.get(world, "a"))
    text.set(world, "a", 2)
    world.gates.release(0)
    assert await waiting == 1
    assert late.peek(world, "a") is None
    state = late.cell_state("a")
    assert isinstance(state, Ready)
    assert (state.value, state.verified_at, state.changed_at) == (1, 1, 1)
    again = await reader(late.get(world, "a"))
    world.gates.release(0)
    assert await again == 2


async def test_a_change_beneath_a_dependency_that_was_read_leaves_the_result_stale(
    world: World,
) -> None:
    """The dependency is marked and its reader, not linked yet, is not."""
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> Any:
        found = await below.get(db, key)
        await world.gates.wait()
        return found

    text.set(world, "a", 1)
    waiting = await reader(above.get(world, "a"))
    text.set(world, "a", 2)
    world.gates.release(0)
    assert await waiting == 1
    assert above.peek(world, "a") is None
    again = await reader(above.get(world, "a"))
    world.gates.release(0)
    assert await again == 2


async def test_an_overtaken_result_still_serves_the_early_cutoff(world: World) -> None:
    text = world.input()

    @world.query
    async def parity(db: Any, key: str) -> int:
        await world.gates.wait()
        return text.get(db, key) % 2

    text.set(world, "a", 1)
    waiting = await reader(parity.get(world, "a"))
    text.set(world, "a", 3)
    world.gates.release(0)
    await waiting
    again = await reader(parity.touch(world, "a"))
    world.gates.release(0)
    assert (await again).changed_at == 1


# -- a, then b, then a again


async def test_a_reader_overtaken_between_a_change_and_its_reversal_is_not_clean(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def read_first(db: Any, key: str) -> Any:
        found = text.get(db, key)
        await world.gates.wait()
        return found

    text.set(world, "a", "a")
    text.set(world, "a", "b")
    waiting = await reader(read_first.get(world, "a"))
    text.set(world, "a", "a")
    world.gates.release(0)
    assert await waiting == "b"
    assert read_first.peek(world, "a") is None
    again = await reader(read_first.get(world, "a"))
    world.gates.release(0)
    assert await again == "a"


async def test_a_dependency_that_returns_to_its_old_outcome_does_not_clean_who_read_the_other(
    world: World,
) -> None:
    """The early cutoff carries the name of the old outcome over a gap in which it was another one."""
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> Any:
        await world.gates.wait()
        found = await below.get(db, key)
        await world.gates.wait()
        return found

    text.set(world, "k", "a")
    assert await below.get(world, "k") == "a"
    text.set(world, "k", "b")
    waiting = await reader(above.get(world, "k"))
    text.set(world, "k", "a")
    assert await below.get(world, "k") == "a"
    assert (await below.touch(world, "k")).changed_at == 1
    world.gates.release(0)
    await settle()  # it has read "b", while the cell says "a" since 1
    world.gates.release(0)
    assert await waiting == "b"
    assert above.peek(world, "k") is None
    again = await reader(above.get(world, "k"))
    for _ in range(2):
        world.gates.release(0)
        await settle()
    assert await again == "a"


async def test_an_interval_does_not_reach_over_a_gap_that_its_dependency_had(world: World) -> None:
    """`below` is "a" at 1 and at 3 under one name, but not at 2: what read it at 1 does not hold at 2."""
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> Any:
        found = await below.get(db, key)
        await world.gates.wait()
        return found

    @world.query
    async def witness(db: Any, key: str) -> Any:
        await world.gates.wait()
        return await above.get(db, key)

    text.set(world, "k", "a")
    at_1 = await reader(above.get(world, "k"))
    text.set(world, "k", "b")
    at_2 = await reader(witness.get(world, "k"))
    text.set(world, "k", "a")
    assert await below.get(world, "k") == "a"
    world.gates.release(0)
    assert await at_1 == "a"
    world.gates.release(0)
    await settle()
    while world.gates.waiting:
        world.gates.release(0)
        await settle()
    assert await at_2 == "b"


async def test_a_read_before_the_change_is_not_taken_for_one_after_the_reversal(
    world: World,
) -> None:
    """Read at 1, changed at 2, changed back at 3, and only then ended: equal values are no proof."""
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key), text.get(db, "other")

    @world.query
    async def above(db: Any, key: str) -> Any:
        first = await below.get(db, key)
        await world.gates.wait()
        return first, text.get(db, "other")

    text.set(world, "other", 1)
    text.set(world, "k", "a")
    waiting = await reader(above.get(world, "k"))
    text.set(world, "other", 2)
    text.set(world, "other", 1)
    await below.get(world, "k")
    world.gates.release(0)
    assert await waiting == (("a", 1), 1)
    text.set(world, "other", 3)
    again = await reader(above.get(world, "k"))
    world.gates.release(0)
    assert await again == (("a", 3), 3)


# -- a change during a verification


class Verified(World):
    """`above` reads `first` and then `second`, whose rerun waits at a gate: a verification can be overtaken there."""

    def __init__(self) -> None:
        super().__init__()
        text = self.text = self.input()
        slowly = self.slowly = [False]

        @self.query
        async def first(db: Any, key: None) -> Any:
            return text.get(db, "first") % 10

        @self.query
        async def second(db: Any, key: None) -> Any:
            found = text.get(db, "second") % 10
            if slowly[0]:
                await self.gates.wait()
            return found

        @self.query
        async def above(db: Any, key: None) -> Any:
            return await first.get(db, None), await second.get(db, None), text.get(db, "third")

        self.first, self.second, self.above = first, second, above

    async def begin(self) -> "asyncio.Task[Any]":
        """A reader that has verified `first` and waits for the rerun of `second`."""
        for name in ("first", "second", "third"):
            self.text.set(self, name, 1)
        assert await self.above.get(self, None) == (1, 1, 1)
        self.text.set(self, "first", 11)
        self.text.set(self, "second", 11)
        self.slowly[0] = True
        self.ran.clear()
        waiting = await reader(self.above.get(self, None))
        assert self.took() == ["first", "second"]
        self.slowly[0] = False
        return waiting


@pytest.mark.parametrize("name", ["first", "second", "third"])
async def test_an_input_that_changes_while_its_reader_is_verified_leaves_it_stale(
    name: str,
) -> None:
    world = Verified()
    waiting = await world.begin()
    world.text.set(world, name, 2)
    world.gates.release(0)
    assert await waiting == (1, 1, 1)
    assert world.above.peek(world, None) is None
    wanted = tuple(2 if each == name else 1 for each in ("first", "second", "third"))
    assert await world.above.get(world, None) == wanted


@pytest.mark.parametrize("name", ["first", "second", "third"])
async def test_a_verification_overtaken_between_a_change_and_its_reversal_is_not_clean(
    name: str,
) -> None:
    world = Verified()
    waiting = await world.begin()
    world.text.set(world, name, 2)
    if name != "third":
        await world.ingredients[3 if name == "second" else 2].get(world, None)
    inner = await reader(world.above.get(world, None))
    changed = await inner
    assert 2 in changed
    world.text.set(world, name, 1)
    world.gates.release(0)
    assert await waiting == (1, 1, 1)
    assert world.above.peek(world, None) is None
    assert await world.above.get(world, None) == (1, 1, 1)


async def test_an_unrelated_change_during_a_verification_does_not_spoil_it() -> None:
    world = Verified()
    waiting = await world.begin()
    world.text.set(world, "unrelated", 2)
    world.gates.release(0)
    assert await waiting == (1, 1, 1)
    assert world.above.peek(world, None) == (1, 1, 1)
    assert world.took() == []


async def test_a_change_without_effect_during_a_verification_costs_one_rerun_beneath() -> None:
    world = Verified()
    waiting = await world.begin()
    world.text.set(world, "first", 21)
    world.gates.release(0)
    assert await waiting == (1, 1, 1)
    assert await world.above.get(world, None) == (1, 1, 1)
    assert world.took() == ["first"]


@pytest.mark.parametrize("how", ["clear", "replace", "invalidate"])
async def test_a_verification_survives_what_happens_to_the_graph_meanwhile(how: str) -> None:
    world = Verified()
    waiting = await world.begin()
    runtime = world.runtime
    nothing = Key.encode(None)
    if how == "clear":
        runtime.clear_dependency_graph()
    elif how == "replace":
        third = Dep(world.text.kind, Key.encode("third"))
        runtime.update_query_deps(DynKey(world.above.kind, nothing), [third])
    else:
        runtime.propagate_invalidation(world.first.kind, nothing)
    world.gates.release(0)
    assert await waiting == (1, 1, 1)
    world.text.set(world, "first", 2)
    world.text.set(world, "third", 3)
    assert await world.above.get(world, None) == (2, 1, 3)


# -- the order of verification


# r[cell.revalidate]
async def test_what_the_rerun_might_not_ask_for_is_not_evaluated_ahead(world: World) -> None:
    text = world.input()

    @world.query
    async def costly(db: Any, key: None) -> Any:
        return text.get(db, "costly")

    @world.query
    async def above(db: Any, key: None) -> Any:
        return await costly.get(db, None) if text.get(db, "wanted") else "nothing"

    text.set(world, "wanted", True)
    text.set(world, "costly", 1)
    assert await above.get(world, None) == 1
    world.took()
    text.set(world, "costly", 2)
    text.set(world, "wanted", False)
    assert await above.get(world, None) == "nothing"
    assert world.took() == ["above"]


async def test_verification_goes_in_the_order_of_the_reads_and_stops_at_the_first_difference(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: int) -> Any:
        world.ran.append(f"below {key}")
        return text.get(db, key) % 10

    @world.query
    async def above(db: Any, key: None) -> Any:
        order = [2, 0, 1] if text.get(db, "order") else [1, 0, 2]
        found = []
        for each in order:
            found.append(await below.get(db, each))
            if found[-1] == 9:
                break
        return found

    for key in range(3):
        text.set(world, key, 1)
    text.set(world, "order", True)
    await above.get(world, None)
    world.took()
    text.set(world, 1, 12)
    text.set(world, 0, 9)
    text.set(world, 2, 11)
    assert await above.get(world, None) == [1, 9]
    # 2 reran with an equal outcome; 0 differs: rerun; 1 is never asked for
    assert world.took() == ["below", "below 2", "below", "below 0", "above"]
    text.set(world, 0, 1)
    assert await above.get(world, None) == [1, 1, 2]
    assert world.took() == ["below", "below 0", "above", "below", "below 1"]


# r[revision.early-cutoff]
async def test_an_equal_outcome_at_the_bottom_spares_all_above(world: World) -> None:
    text = world.input()

    @world.query
    async def step(db: Any, key: int) -> Any:
        return await step.get(db, key - 1) if key else text.get(db, "a") % 10

    text.set(world, "a", 1)
    assert await step.get(world, 50) == 1
    world.took()
    text.set(world, "a", 11)
    assert step.peek(world, 50) is None
    assert await step.get(world, 50) == 1
    assert world.took() == ["step"]
    assert step.peek(world, 50) == 1
    state = step.cell_state(50)
    assert (state.verified_at, state.changed_at) == (2, 1)


# r[revision.verified-at], r[revision.changed-at]
async def test_an_early_cutoff_does_not_make_later_verifications_rerun(world: World) -> None:
    """Decision 2: outcomes are compared, not a dependency's `changed_at` with the memo's own."""
    text = world.input()

    @world.query
    async def below(db: Any, key: None) -> Any:
        return text.get(db, "a")

    @world.query
    async def above(db: Any, key: None) -> Any:
        text.get(db, "b")
        return await below.get(db, None) % 10

    text.set(world, "a", 1)
    text.set(world, "b", 1)
    await above.get(world, None)
    text.set(world, "a", 11)
    await above.get(world, None)  # below changed, above did not: changed_at 3 beneath 2
    assert above.cell_state(None).changed_at == 2
    assert below.cell_state(None).changed_at == 3
    world.took()
    text.set(world, "b", 1)
    world.runtime.propagate_invalidation(text.kind, below.cell_state(None).deps[0].key)
    assert above.peek(world, None) is None
    await above.get(world, None)
    assert world.took() == []


async def test_a_rerun_with_an_equal_value_replaces_what_the_memo_depends_on(world: World) -> None:
    text = world.input()

    @world.query
    async def choose(db: Any, key: None) -> str:
        text.get(db, text.get(db, "which"))
        return "same"

    text.set(world, "which", "left")
    await choose.get(world, None)
    text.set(world, "which", "right")
    await choose.get(world, None)
    assert choose.cell_state(None).changed_at == 1
    world.took()
    text.set(world, "left", 1)
    assert choose.peek(world, None) == "same"
    text.set(world, "right", 1)
    assert choose.peek(world, None) is None
    await choose.get(world, None)
    assert world.took() == ["choose"]


async def test_verification_costs_no_run_and_begins_a_new_interval(world: World) -> None:
    """A reader of the past finds the interval before, one of the present the one after."""
    text = world.input()

    @world.query
    async def below(db: Any, key: None) -> Any:
        return text.get(db, "a") % 10

    @world.query
    async def above(db: Any, key: None) -> Any:
        return await below.get(db, None)

    @world.query
    async def witness(db: Any, key: int) -> Any:
        await world.gates.wait()
        return await above.get(db, None)

    text.set(world, "a", 1)
    await above.get(world, None)
    at_1 = await reader(witness.get(world, 1))
    text.set(world, "a", 2)
    at_2 = await reader(witness.get(world, 2))
    text.set(world, "a", 11)
    world.took()
    assert await above.get(world, None) == 1
    assert world.took() == ["below"]  # verified in place, at 3; it held at 1 too, but not at 2
    world.gates.release(0)
    assert await at_1 == 1
    assert world.took() == []
    world.gates.release(0)
    assert await at_2 == 2
    assert world.took() == ["below", "above"]
    assert above.peek(world, None) == 1


# -- names of outcomes


async def test_an_outcome_that_equals_a_kept_one_keeps_its_name(world: World) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: None) -> Any:
        return Value(text.get(db, "a"))

    late = gated(world, below)
    text.set(world, "a", 1)
    await below.get(world, None)
    waiting = await reader(late.get(world, None))
    text.set(world, "a", 2)
    assert (await below.touch(world, None)).changed_at == 2
    text.set(world, "a", 1)
    assert (await below.touch(world, None)).changed_at == 1
    world.gates.release(0)
    assert await waiting == Value(1)


async def test_two_outcomes_never_share_a_name_whichever_is_computed_first(world: World) -> None:
    text = world.input()
    names: dict[Any, Any] = {}

    @world.query
    async def below(db: Any, key: None) -> Any:
        return text.get(db, "a")

    @world.query
    async def witness(db: Any, key: int) -> Any:
        await world.gates.wait()
        value = await below.get(db, None)
        return (await below.touch(db, None)).changed_at, value

    waiting = []
    for n in range(8):
        text.set(world, "a", n % 3)
        waiting.append(await reader(witness.get(world, n)))
    rng = random.Random(1)
    while world.gates.waiting:
        world.gates.release(rng.randrange(8))
        await settle()
        state = below.cell_state(None)
        assert names.setdefault(state.changed_at, state.value) == state.value
    for each in waiting:
        name, value = await each
        assert names.setdefault(name, value) == value
    assert [(await each)[1] for each in waiting] == [n % 3 for n in range(8)]


# -- failures


class Breaking(World):
    """`fragile` fails while `broken`, for a reason outside of the database."""

    def __init__(self) -> None:
        super().__init__()
        text = self.text = self.input()
        broken = self.broken = [False]

        @self.query
        async def fragile(db: Any, key: None) -> Any:
            found = text.get(db, "a")
            if broken[0]:
                raise OSError("no connection")
            return found

        @self.query
        async def above(db: Any, key: None) -> Any:
            try:
                return await fragile.get(db, None)
            except OSError:
                return "failed"

        self.fragile, self.above = fragile, above
        text.set(self, "a", 1)


# r[cell.poison-scoped]
async def test_a_failure_ends_with_its_revision_and_with_it_what_read_it() -> None:
    world = Breaking()
    world.broken[0] = True
    assert await world.above.get(world, None) == "failed"
    world.broken[0] = False
    assert await world.above.get(world, None) == "failed"
    assert world.took() == ["above", "fragile"]
    world.runtime.bump_revision()
    assert world.above.peek(world, None) is None
    assert await world.above.get(world, None) == 1
    assert world.above.peek(world, None) == 1


async def test_a_memo_above_a_failure_is_good_for_one_revision_even_if_it_fails_again() -> None:
    world = Breaking()
    world.broken[0] = True
    for _ in range(3):
        assert await world.above.get(world, None) == "failed"
        assert sorted(world.took()) == ["above", "fragile"]
        world.text.set(world, "unrelated", object())


async def test_a_failure_that_an_unrelated_write_overtakes_does_not_reach_the_present() -> None:
    world = Breaking()

    @world.query
    async def slow(db: Any, key: None) -> Any:
        await world.gates.wait()
        return await world.fragile.get(db, None)

    world.broken[0] = True
    waiting = await reader(slow.get(world, None))
    world.text.set(world, "unrelated", 1)
    world.gates.release(0)
    with pytest.raises(OSError, match="no connection"):
        await waiting
    world.broken[0] = False
    assert world.fragile.peek(world, None) is None
    assert await world.fragile.get(world, None) == 1
    again = await reader(slow.get(world, None))
    world.gates.release(0)
    assert await again == 1


async def test_no_interval_reaches_back_over_a_failure_that_a_view_still_needs() -> None:
    """Nothing changed from 1 to 3, but at 2 it failed, and at 2 it goes on to have failed."""
    world = Breaking()

    @world.query
    async def witness(db: Any, key: None) -> Any:
        found = []
        for _ in range(2):
            try:
                await world.fragile.get(db, None)
            except OSError as error:
                found.append(error)
            await world.gates.wait()
        return found

    world.runtime.bump_revision()
    world.broken[0] = True
    waiting = await reader(witness.get(world, None))
    world.broken[0] = False
    world.runtime.bump_revision()
    assert await world.fragile.get(world, None) == 1
    world.gates.release(0)
    await settle()
    world.gates.release(0)
    first, second = await waiting
    assert first is second
    assert world.fragile.peek(world, None) == 1


async def test_a_value_from_before_a_failure_belongs_to_its_view_alone() -> None:
    world = Breaking()

    @world.query
    async def slow(db: Any, key: None) -> Any:
        await world.gates.wait()
        return await world.fragile.get(db, None)

    waiting = await reader(slow.get(world, None))
    world.runtime.bump_revision()
    world.broken[0] = True
    with pytest.raises(OSError) as caught:
        await world.fragile.get(world, None)
    world.broken[0] = False
    world.gates.release(0)
    assert await waiting == 1  # at 1 it has not failed
    with pytest.raises(OSError) as again:
        await world.fragile.get(world, None)  # at 2 it has
    assert again.value is caught.value


async def witnessing(world: Breaking) -> "tuple[asyncio.Task[Any], list[Any]]":
    """A reader that has seen `fragile` fail at the present revision, and asks again at each gate."""
    seen: list[Any] = []

    @world.query
    async def witness(db: Any, key: int) -> None:
        while len(seen) < 4:
            try:
                seen.append(await world.fragile.get(db, None))
            except OSError as error:
                seen.append(error)
            await world.gates.wait()

    world.broken[0] = True
    task = await reader(witness.get(world, 0))
    world.broken[0] = False
    return task, seen


async def asked_again(world: Breaking, seen: list[Any]) -> None:
    """The witness, whose gate is the last one, asks again and sees what it saw."""
    world.gates.release(-1)
    await settle()
    assert len(seen) > 1
    assert all(each is seen[0] for each in seen)
    assert isinstance(seen[0], OSError)


async def test_a_value_from_before_a_failure_does_not_reach_over_it_once_that_has_ended() -> None:
    world = Breaking()

    @world.query
    async def slow(db: Any, key: None) -> Any:
        await world.gates.wait()
        return await world.fragile.get(db, None)

    before = await reader(slow.get(world, None))
    world.runtime.bump_revision()
    task, seen = await witnessing(world)
    world.runtime.bump_revision()
    world.gates.release(0)
    assert await before == 1
    await asked_again(world, seen)
    task.cancel()


@pytest.mark.parametrize("how", ["verified", "computed in the past"])
async def test_an_interval_does_not_reach_over_a_failure_that_is_only_kept(how: str) -> None:
    """The cell has had another outcome since the failure; it is invalidated although nothing has changed."""
    world = Breaking()

    @world.query
    async def slow(db: Any, key: None) -> Any:
        await world.gates.wait()
        return await world.fragile.get(db, None)

    before = await reader(slow.get(world, None))
    world.runtime.bump_revision()
    task, seen = await witnessing(world)
    world.runtime.bump_revision()
    assert await world.fragile.get(world, None) == 1
    world.runtime.propagate_invalidation(world.text.kind, Key.encode("a"))
    if how == "verified":
        assert await world.fragile.get(world, None) == 1
    else:
        world.gates.release(0)
        assert await before == 1
    await asked_again(world, seen)
    task.cancel()
    before.cancel()


async def test_a_failure_in_the_past_does_not_end_a_present_value() -> None:
    world = Breaking()
    late = gated(world, world.fragile)
    waiting = await reader(late.get(world, None))
    world.text.set(world, "a", 2)
    assert await world.fragile.get(world, None) == 2
    world.broken[0] = True
    world.gates.release(0)
    with pytest.raises(OSError):
        await waiting
    assert world.fragile.peek(world, None) == 2
    assert await world.fragile.get(world, None) == 2


async def test_a_read_that_was_given_up_is_recorded_and_makes_the_memo_good_for_one_revision(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def endless(db: Any, key: None) -> Any:
        await world.gates.wait()

    @world.query
    async def hasty(db: Any, key: None) -> str:
        task = asyncio.ensure_future(endless.get(db, None))
        await settle()
        task.cancel()
        await asyncio.wait([task])
        return "without"

    assert await hasty.get(world, None) == "without"
    assert [dep.kind for dep in hasty.cell_state(None).deps] == [endless.kind]
    assert hasty.peek(world, None) == "without"
    text.set(world, "a", 1)
    assert hasty.peek(world, None) is None
    world.took()
    assert await hasty.get(world, None) == "without"
    assert world.took() == ["hasty", "endless"]


async def test_a_memo_above_a_read_that_was_given_up_does_not_reach_back_either(
    world: World,
) -> None:
    """What was not read may have been another at the revision before."""

    @world.query
    async def endless(db: Any, key: None) -> Any:
        await world.gates.wait()

    @world.query
    async def hasty(db: Any, key: None) -> str:
        task = asyncio.ensure_future(endless.get(db, None))
        await settle()
        task.cancel()
        await asyncio.wait([task])
        return "without"

    late = gated(world, hasty)
    past = await reader(late.get(world, None))
    world.runtime.bump_revision()
    assert await hasty.get(world, None) == "without"
    assert world.took() == ["late", "hasty", "endless"]
    world.gates.release(0)
    assert await past == "without"
    assert world.took() == ["hasty", "endless"]


# -- memory follows the readers


async def test_an_old_value_is_kept_for_its_reader_and_dropped_with_it(world: World) -> None:
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", Value(1))
    old = weakref.ref(text.get(world, "a"))
    waiting = await reader(late.get(world, "b"))
    text.set(world, "a", Value(2))
    assert old() is not None
    world.gates.release(0)
    await waiting
    assert old() is None


async def test_without_readers_no_old_value_is_kept(world: World) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Value:
        return Value(text.get(db, key).n)

    text.set(world, "a", Value(1))
    await below.get(world, "a")
    old = [weakref.ref(text.get(world, "a")), weakref.ref(below.peek(world, "a"))]
    text.set(world, "a", Value(2))
    assert old[0]() is None
    await below.get(world, "a")
    assert old[1]() is None


async def test_an_old_memo_is_kept_for_its_reader_and_dropped_with_it(world: World) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Value:
        return Value(text.get(db, key))

    late = gated(world, text)
    text.set(world, "a", 1)
    old = weakref.ref(await below.get(world, "a"))
    waiting = await reader(late.get(world, "b"))
    text.set(world, "a", 2)
    await below.get(world, "a")
    assert old() is not None
    world.gates.release(0)
    await waiting
    assert old() is None


async def test_what_a_reader_of_the_past_computed_is_dropped_with_it(world: World) -> None:
    text = world.input()
    made = []

    @world.query
    async def below(db: Any, key: str) -> Value:
        value = Value(text.get(db, key))
        made.append(weakref.ref(value))
        return value

    @world.query
    async def late(db: Any, key: str) -> None:
        await world.gates.wait()
        await below.get(db, key)
        await world.gates.wait()

    text.set(world, "a", 1)
    waiting = await reader(late.get(world, "a"))
    text.set(world, "a", 2)
    await below.get(world, "a")
    world.gates.release(0)
    await settle()
    assert [each() is not None for each in made] == [True, True]
    world.gates.release(0)
    await waiting
    assert [each() is not None for each in made] == [True, False]


async def test_a_version_that_two_views_need_goes_with_the_last_of_them(world: World) -> None:
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", Value(1))
    old = weakref.ref(text.get(world, "a"))
    first = await reader(late.get(world, 1))
    text.set(world, "unrelated", 1)
    second = await reader(late.get(world, 2))
    text.set(world, "a", Value(2))
    third = await reader(late.get(world, 3))
    world.gates.release(1)
    await second
    assert old() is not None
    world.gates.release(0)
    await first
    assert old() is None
    world.gates.release(0)
    await third


async def test_a_cancelled_reader_releases_what_was_kept_for_it(world: World) -> None:
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", Value(1))
    old = weakref.ref(text.get(world, "a"))
    waiting = await reader(late.get(world, "a"))
    text.set(world, "a", Value(2))
    assert old() is not None
    waiting.cancel()
    await asyncio.wait([waiting])
    assert old() is None


async def test_a_reader_that_is_forgotten_releases_what_was_kept_for_it(world: World) -> None:
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", Value(1))
    old = weakref.ref(text.get(world, "a"))
    coroutine = late.get(world, "a")
    coroutine.send(None)
    text.set(world, "a", Value(2))
    assert old() is not None
    del coroutine
    gc.collect()
    assert old() is None


async def test_a_failed_reader_releases_what_was_kept_for_it(world: World) -> None:
    text = world.input()

    @world.query
    async def failing(db: Any, key: None) -> None:
        await world.gates.wait()
        raise ValueError

    text.set(world, "a", Value(1))
    old = weakref.ref(text.get(world, "a"))
    waiting = await reader(failing.get(world, None))
    text.set(world, "a", Value(2))
    world.gates.release(0)
    with pytest.raises(ValueError):
        await waiting
    assert old() is None


async def test_a_removed_value_is_dropped_at_once_and_kept_for_readers_of_the_past(
    world: World,
) -> None:
    text = world.input()
    late = gated(world, text)
    text.set(world, "a", Value(1))
    text.set(world, "b", Value(2))
    unused = weakref.ref(text.get(world, "b"))
    text.remove(world, "b")
    assert unused() is None
    waiting = await reader(late.get(world, "a"))
    text.remove(world, "a")
    world.gates.release(0)
    assert await waiting == Value(1)


async def test_old_versions_are_no_dependents_any_more(world: World) -> None:
    """What a reader of the past computed is not in the graph that changes walk."""
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, text.get(db, key))

    late = gated(world, below)
    text.set(world, "which", "left")
    waiting = await reader(late.get(world, "which"))
    text.set(world, "which", "right")
    await below.get(world, "which")
    world.gates.release(0)
    await waiting
    assert [dep.key.decode() for dep in below.cell_state("which").deps] == ["which", "right"]
    assert "left" not in {dep.key.decode() for dep in world.runtime.reverse_deps()}
    text.set(world, "left", 1)
    assert below.cell_state("which").verified_at == world.runtime.current_revision


# -- edges are what marking walks


# r[runtime.clear-deps]
async def test_clearing_the_graph_leaves_hits_at_this_revision_and_reruns_at_the_next(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await below.get(db, key)

    text.set(world, "a", 1)
    await above.get(world, "a")
    world.took()
    world.runtime.clear_dependency_graph()
    assert world.runtime.forward_deps() == {}
    assert world.runtime.reverse_deps() == {}
    assert await above.get(world, "a") == 1
    assert world.took() == []
    text.set(world, "a", 2)
    assert await above.get(world, "a") == 2
    assert sorted(world.took()) == ["above", "below"]
    text.set(world, "a", 3)
    assert await above.get(world, "a") == 3


async def test_clearing_the_graph_while_a_query_runs_does_not_lose_its_next_change(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> Any:
        found = await below.get(db, key)
        await world.gates.wait()
        return found

    text.set(world, "a", 1)
    waiting = await reader(above.get(world, "a"))
    world.runtime.clear_dependency_graph()
    world.gates.release(0)
    assert await waiting == 1
    text.set(world, "a", 2)
    again = await reader(above.get(world, "a"))
    world.gates.release(0)
    assert await again == 2


# r[runtime.propagate-invalidation]
async def test_marking_stops_at_what_is_marked_but_subscribers_hear_of_every_dependent(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await below.get(db, key)

    text.set(world, "a", 1)
    await above.get(world, "a")
    with world.runtime.subscribe_events() as events:
        text.set(world, "a", 2)
        text.set(world, "a", 3)
        seen = list(iter(events.try_recv, None))
        assert [type(each) for each in seen] == [
            RevisionBumped,
            InputSet,
            QueryInvalidated,
            QueryInvalidated,
        ] * 2
        await above.get(world, "a")
        assert [type(each) for each in iter(events.try_recv, None)] == [QueryChanged] * 2
    assert above.cell_state("a").verified_at == 3


async def test_a_dependent_of_something_marked_is_marked_by_the_next_change_too(
    world: World,
) -> None:
    """Two ways lead to `above`; the change of one must not hide that of the other."""
    text = world.input()

    @world.query
    async def left(db: Any, key: None) -> Any:
        return text.get(db, "left")

    @world.query
    async def right(db: Any, key: None) -> Any:
        return text.get(db, "right")

    @world.query
    async def above(db: Any, key: None) -> Any:
        return await left.get(db, None), await right.get(db, None)

    await above.get(world, None)
    text.set(world, "left", 1)
    await right.get(world, None)
    await left.get(world, None)
    text.set(world, "right", 1)
    assert above.peek(world, None) is None
    assert await above.get(world, None) == (1, 1)


# -- what a cell shows


# r[cell.states], r[cell.stale]
async def test_a_cell_shows_its_latest_evaluation(world: World) -> None:
    text = world.input()
    late = gated(world, text)
    key = "a"
    assert late.cell_state(key) == Vacant()
    first = await reader(late.get(world, key))
    assert late.cell_state(key) == Running(0)
    text.set(world, "a", 1)
    second = await reader(late.get(world, key))
    assert late.cell_state(key) == Running(1)
    world.gates.release(1)
    await second
    assert late.cell_state(key) == Running(0)
    world.gates.release(0)
    await first
    state = late.cell_state(key)
    assert (state.value, state.verified_at, state.changed_at) == (1, 1, 1)
    text.set(world, "a", 2)
    text.set(world, "a", 3)
    assert late.cell_state(key).verified_at == 1  # the last revision at which it is known to hold


async def test_peek_sees_the_present_from_outside_and_the_view_from_inside(world: World) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: None) -> Any:
        return text.get(db, "a")

    @world.query
    async def witness(db: Any, key: None) -> Any:
        await world.gates.wait()
        return below.peek(db, None)

    text.set(world, "a", 1)
    await below.get(world, None)
    waiting = await reader(witness.get(world, None))
    text.set(world, "a", 2)
    assert below.peek(world, None) is None
    await below.get(world, None)
    assert below.peek(world, None) == 2
    world.gates.release(0)
    assert await waiting == 1
    assert world.took() == ["below", "witness", "below"]
