"""`check_consistency`: finds queries that depend on more than their inputs, and shows a small program."""

import asyncio
import functools
import random
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import picante
from picante.testing import InconsistentError, check_consistency, check_edits
from picante.testing.values import Unwatchable, difference, frozen


class Page(picante.Input):
    name: picante.KeyField[str]
    text: picante.Field[str]


class Word(picante.Interned):
    text: picante.Field[str]


@picante.tracked
async def length(db: picante.Database, page: Page) -> int:
    return len(page.text(db))


@picante.tracked
async def total(db: picante.Database) -> int:
    return sum(await length.map(db, Page.all(db)))


@picante.tracked
async def words(db: picante.Database) -> dict[str, list[Word]]:
    return {page.text(db): [Word(db, page.text(db))] for page in Page.all(db)}


@picante.tracked
async def odd(db: picante.Database) -> int:
    found = await total(db)
    if found % 2:
        raise ValueError(f"{found} is odd")
    return found


def write(db: picante.Database, rng: random.Random) -> None:
    Page(db, name=rng.choice("abc"), text="x" * rng.randrange(4))


def remove(db: picante.Database, rng: random.Random) -> None:
    page = Page.get(db, rng.choice("abc"))
    if page is not None:
        page.remove(db)


def lengths(db: picante.Database) -> Any:
    return length.map(db, Page.all(db))


@pytest.mark.parametrize("in_loop", [False, True])
def test_queries_of_their_inputs_alone_are_consistent(in_loop: bool) -> None:
    """Handles differ between databases, exceptions are other objects: what they say is compared."""

    def check() -> None:
        check_consistency(
            picante.Database, [write, remove], [total, words, odd, lengths], seed=1, programs=2
        )

    async def main() -> None:
        check()

    if in_loop:
        asyncio.run(main())
    else:
        check()


def test_a_query_that_remembers_is_found_and_the_steps_are_few() -> None:
    seen: dict[str, str] = {}

    @picante.tracked(name="remembers")
    async def remembers(db: picante.Database) -> list[str]:
        return [seen.setdefault(page.name(db), page.text(db)) for page in Page.all(db)]

    def make_db() -> picante.Database:
        seen.clear()
        return picante.Database()

    def check(**options: Any) -> str:
        with pytest.raises(InconsistentError) as caught:
            check_consistency(
                make_db, {"write": write, "remove": remove}, [total, remembers, words], **options
            )
        assert caught.value.seed is not None
        return str(caught.value)

    told = check(seed=7).splitlines()
    assert told == check(seed=7).splitlines()
    assert told[0].startswith("remembers gives another result after edits than in a new database")
    assert told[-1] == "Try the same again with seed=7."
    steps = [
        line.split(maxsplit=1)[1] for line in told if line[:3] == "  " + line[2:3] and ". " in line
    ]
    assert 3 <= len(steps) <= 5
    assert any(line.startswith("write") and "Page(" in line and "text 'x" in line for line in steps)
    assert steps[-1] == "ask for remembers"
    assert not any("total" in line for line in steps)
    assert "Then remembers is" in told
    assert any("in a new database with these inputs:" in line for line in told)


def test_each_run_without_a_seed_tries_something_else_and_tells_what() -> None:
    @picante.tracked(name="noise")
    async def noise(db: picante.Database) -> float:
        Page.all(db)
        return random.random()

    seeds = set()
    for _ in range(2):
        with pytest.raises(InconsistentError) as caught:
            check_consistency(picante.Database, [write], [noise], steps=3)
        assert f"seed={caught.value.seed}" in str(caught.value)
        seeds.add(caught.value.seed)
    assert len(seeds) == 2


def test_a_query_that_fails_in_one_database_only_is_found() -> None:
    calls = iter(range(100))

    @picante.tracked(name="fails once")
    async def fails_once(db: picante.Database) -> int:
        if next(calls) == 0:
            raise ValueError("the first time")
        return len(Page.all(db))

    with pytest.raises(InconsistentError, match=r"raises ValueError\('the first time'\)"):
        check_consistency(picante.Database, [write], [fails_once], seed=1)


def test_an_edit_that_is_left_to_chance_is_refused() -> None:
    def careless(db: picante.Database, rng: random.Random) -> None:
        Page(db, "a", str(random.random()))

    with pytest.raises(
        AssertionError, match=r"The edit careless with seed \d+ did .*Page\(\"a\"\)"
    ):
        check_consistency(picante.Database, [careless], [total], seed=1)


def test_one_database_for_all_is_refused() -> None:
    db = picante.Database()
    with pytest.raises(TypeError, match="`make_db` returned the same database twice"):
        check_consistency(lambda: db, [write], [total], seed=1)


@pytest.mark.parametrize(
    ("edits", "queries", "error"),
    [([], [total], ValueError), ([write], [], ValueError), ([write], [1], TypeError)],
)
def test_what_cannot_be_tried_is_refused(edits: Any, queries: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_consistency(picante.Database, edits, queries)


def test_an_equality_of_the_users_decides_where_one_is_given() -> None:
    @picante.tracked(name="about", eq=lambda a, b: a // 3 == b // 3)
    async def about(db: picante.Database) -> int:
        return await total(db)

    @picante.tracked(name="above")
    async def above(db: picante.Database) -> int:
        return await about(db)  # its memo stays where that changes by little

    with pytest.raises(InconsistentError):
        check_consistency(picante.Database, [write], [above], seed=3)
    check_consistency(
        picante.Database, [write], [above], seed=3, same=lambda a, b: a // 3 == b // 3, programs=2
    )


class Shelf(picante.Database):
    """Keeps the texts beside the inputs, which is the mistake: whoever reads them there reads those of now."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}


def shelve(db: Shelf, rng: random.Random) -> None:
    name, text = rng.choice("ab"), "x" * rng.randrange(4)
    db.texts[name] = text
    Page(db, name=name, text=text)


@picante.tracked(name="shelved")
async def shelved(db: Shelf) -> list[str]:
    pages = Page.all(db)
    for page in pages:
        page.text(db)
    await asyncio.sleep(0)
    return [db.texts[page.name(db)] for page in pages]


# r[snapshot.frozen]
def test_a_query_that_reads_later_states_is_found_by_a_snapshot_and_by_an_edit_meanwhile() -> None:
    def check(**options: bool) -> None:
        check_consistency(Shelf, [shelve], [total, shelved], seed=3, **options)

    def complaint(**options: bool) -> list[str]:
        with pytest.raises(InconsistentError) as caught:
            check(**options)
        return str(caught.value).splitlines()

    check(snapshots=False, overlaps=False)
    told = complaint(overlaps=False)
    assert told[0].startswith("shelved gives another result")
    steps = [line.split(maxsplit=1)[1] for line in told if line[:4].strip() and ". " in line[:6]]
    assert [step.split()[0] for step in steps] == ["shelve", "take", "shelve", "ask"]
    assert (steps[1], steps[3]) == ("take snapshot 1", "ask for shelved on snapshot 1")
    assert "Then shelved on snapshot 1 is" in told
    told = complaint(snapshots=False)
    assert "  2. ask for shelved, and meanwhile" in told
    assert told[3].startswith('     shelve  Page("')
    assert any(
        line.startswith("  in a new database with the inputs of that time: ") for line in told
    )
    assert complaint()[0].startswith("shelved gives another result")


def test_questions_under_way_see_none_of_the_edits_that_are_made_meanwhile() -> None:
    @picante.tracked(name="slow")
    async def slow(db: picante.Database) -> list[tuple[str, int]]:
        found = []
        for page in Page.all(db):
            await asyncio.sleep(0)
            found.append((page.text(db), await length(db, page)))
        return found

    async def twice(db: picante.Database) -> bool:
        return await slow(db) == await slow(db)

    asks = {"slow": slow, "lengths": lengths, "twice": twice, "total": total, "odd": odd}
    check_consistency(picante.Database, [write, remove], asks, seed=5, steps=60, programs=3)


def put(db: picante.Database, name: str, text: str) -> None:
    Page(db, name=name, text=text)


@settings(max_examples=10)
@given(
    st.lists(
        st.builds(partial, st.just(put), name=st.sampled_from("ab"), text=st.text()), max_size=5
    )
)
def test_edits_may_come_from_hypothesis(edits: list[Any]) -> None:
    check_edits(picante.Database, edits, [total, words])


def test_edits_that_are_given_are_shown_as_they_are() -> None:
    most = 0

    @picante.tracked(name="grows")
    async def grows(db: picante.Database) -> int:
        nonlocal most
        most = max(most, len(Page.all(db)))
        return most

    def make_db() -> picante.Database:
        nonlocal most
        most = 0
        return picante.Database()

    def drop(db: picante.Database) -> None:
        Page.all(db)[0].remove(db)

    edits = [partial(put, name="a", text="x"), drop]
    with pytest.raises(InconsistentError) as caught:
        check_edits(make_db, edits, [grows, total])
    told = str(caught.value)
    assert "\n  2. put (1)   Page(\"a\") = text 'x'\n" in told
    assert '\n  4. drop (2)  Page("a") is removed\n' in told
    assert caught.value.seed is None


# -- comparing


class Plain:
    """Compared by identity."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("__hidden", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.__hidden = 1


class Grown(list[Any]):
    """A list with attributes."""


@pytest.mark.parametrize(
    ("value", "change", "place"),
    [
        ([1, [2]], lambda v: v[1].append(3), "len(result[1])"),
        ({"a": {"b": 1}}, lambda v: v["a"].update(b=2), "result['a']['b']"),
        ({"a": 1}, lambda v: v.update(b=2), "len(result)"),
        ({1, 2}, lambda v: v.add(3), "result"),
        (Plain([1]), lambda v: v.value.append(2), "len(result.value)"),
        (Plain(1), lambda v: setattr(v, "other", 2), "result.other"),
        (Slotted({"x": 1}), lambda v: v.value.clear(), "len(result.value)"),
        ((Plain(Plain(0)),), lambda v: setattr(v[0].value, "value", 1), "result[0].value.value"),
        (Grown([1]), lambda v: setattr(v, "name", "x"), "result.name"),
        (bytearray(b"ab"), lambda v: v.append(1), "result"),
        ({1: True}, lambda v: v.update({1: 1}), "result[1]"),
    ],
)
def test_a_change_is_found_in_its_place(value: Any, change: Any, place: str) -> None:
    copy = frozen(value)
    assert difference(copy, value) is None
    change(value)
    found = difference(copy, value)
    assert found is not None
    assert found.place == place
    assert found.first != found.second


def test_an_attribute_that_is_computed_on_demand_is_no_change() -> None:
    class Lazy(Plain):
        @functools.cached_property
        def length(self) -> int:
            return len(self.value)

    value = Lazy([1])
    copy = frozen(value)
    assert value.length == 1
    assert difference(copy, value) is None


def test_values_that_contain_themselves_are_compared() -> None:
    value: list[Any] = [1]
    value.append(value)
    copy = frozen(value)
    assert difference(copy, value) is None
    value[0] = 2
    assert difference(copy, value) is not None


def test_what_cannot_be_copied_cannot_be_watched() -> None:
    with pytest.raises(Unwatchable, match="cannot be copied"):
        frozen([iter([1]).__next__, (x for x in ())])
