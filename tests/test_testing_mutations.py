"""`assert_unmutated`: results, and values of inputs, that somebody changes after they were cached."""

import threading
from typing import Any

import pytest

import picante
from picante.testing import MutationError, assert_unmutated
from tests.oracle import World


class Page(picante.Input):
    name: picante.KeyField[str]
    lines: picante.Field[list[str]]


@picante.tracked
async def words(db: picante.Database, page: Page) -> list[str]:
    return [word for line in page.lines(db) for word in line.split()]


@picante.tracked
async def first(db: picante.Database, page: Page) -> str:
    found = await words(db, page)
    found.sort()
    return found[0]


@pytest.fixture
def page(db: picante.Database) -> Page:
    return Page(db, "a", ["b a"])


@pytest.fixture
def db() -> picante.Database:
    return picante.Database()


async def test_a_query_that_changes_the_result_of_another_is_found(
    db: picante.Database, page: Page
) -> None:
    with pytest.raises(MutationError) as caught:
        with assert_unmutated(db):
            await first(db, page)
    (one,) = caught.value.mutations
    assert (one.query, one.place) == ('words(Page("a"))', "result[0]")
    assert (one.before, one.after, one.noticed) == ("'b'", "'a'", "at the end")
    assert "words(Page(\"a\")): result[0] was 'b', and is 'a' (noticed at the end)" in str(
        caught.value
    )


async def test_it_is_noticed_when_the_query_is_asked_for_again(
    db: picante.Database, page: Page
) -> None:
    with pytest.raises(MutationError, match="noticed when it was asked for again") as caught:
        with assert_unmutated(db):
            (await words(db, page)).append("c")
            await words(db, page)
            await words(db, page)
    assert len(caught.value.mutations) == 1


async def test_what_was_cached_before_is_watched_as_well(db: picante.Database, page: Page) -> None:
    found = await words(db, page)
    with pytest.raises(MutationError, match=r"len\(result\) was 2: \['b', 'a'\], and is 0: \[\]"):
        with assert_unmutated(db):
            found.clear()


async def test_the_value_of_an_input_is_watched_from_when_it_is_set(
    db: picante.Database, page: Page
) -> None:
    lines = ["x"]
    with pytest.raises(MutationError, match=r"Page\(\"a\"\): len\(value\[0\]\) was 1"):
        with assert_unmutated(db):
            page.set(db, lines=lines)
            lines.append("y")
    with pytest.raises(MutationError, match=r"len\(value\[0\]\) was 2"):
        with assert_unmutated(db):
            lines.append("z")


async def test_a_value_that_was_changed_before_it_was_replaced_is_told(
    db: picante.Database, page: Page
) -> None:
    with pytest.raises(MutationError, match="noticed when it ran again"):
        with assert_unmutated(db):
            (await words(db, page)).append("c")
            page.set(db, lines=["d"])
            await words(db, page)


async def test_values_that_come_and_go_are_no_mutations(db: picante.Database, page: Page) -> None:
    with assert_unmutated(db) as mutations:
        found = await words(db, page)
        page.set(db, lines=["d"])
        await words(db, page)
        page.set(db, lines=["d "])  # the same words: an early cutoff
        await words(db, page)
        page.remove(db)
        found.clear()  # nobody can get it any more
    assert (mutations.found, mutations.unwatched) == ([], {})


async def test_what_cannot_be_copied_is_listed(world: World) -> None:
    query = world.query(lambda db, key: threading.Lock())
    with assert_unmutated(world) as mutations:
        await query.get(world, 1)
    (told,) = mutations.unwatched.items()
    assert told[0] == "<lambda>(1)"
    assert "cannot be copied" in told[1]


async def test_an_error_in_the_block_is_not_replaced(db: picante.Database, page: Page) -> None:
    with pytest.raises(KeyError):
        with assert_unmutated(db):
            (await words(db, page)).clear()
            raise KeyError


async def test_objects_that_are_equal_to_nothing_are_looked_into(world: World) -> None:
    class Box:
        def __init__(self, content: Any) -> None:
            self.content = content

        __eq__ = None  # type: ignore[assignment]  # comparing it is a mistake
        __hash__ = None  # type: ignore[assignment]

    query = world.query(lambda db, key: Box([key]))
    with assert_unmutated(world):
        box = await query.get(world, 1)
    with pytest.raises(MutationError, match=r"len\(result\.content\)"):
        with assert_unmutated(world):
            await query.get(world, 1)
            box.content.append(2)
