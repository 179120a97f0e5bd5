"""What picante logs, at which level, and when (r[trace.crate])."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import picante
from picante import logs
from picante._core.databases import watch_databases
from picante.observe import EventKind
from picante.persist import CacheLoadOptions, OnCorruptCache

run = asyncio.run
root = logging.getLogger("picante")
NAMES = ("picante", "picante.input", "picante.intern", "picante.query", "picante.persist")


class Page(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]


class Word(picante.Interned):
    text: str


@picante.tracked
async def words(db: picante.Database, page: Page) -> int:
    return len(page.text(db).split())


@picante.tracked
async def total(db: picante.Database) -> int:
    return sum([await words(db, page) for page in Page.all(db)])


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(1)
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def take(self) -> list[tuple[str, str]]:
        """The events so far, each with its message."""
        found = [(each.picante_event, each.getMessage()) for each in self.records]
        self.records.clear()
        return found

    def events(self) -> list[str]:
        return [event for event, _ in self.take()]


@pytest.fixture
def records() -> Iterator[Records]:
    """A handler of `picante`; afterwards all is as it was."""
    handler = Records()
    top = logging.getLogger()
    levels = {each: logging.getLogger(each).level for each in NAMES}
    kept = (top.level, list(top.handlers), list(root.handlers), logging.root.manager.disable)
    root.addHandler(handler)
    yield handler
    logging.disable(kept[3])
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.disabled = False
        logger.propagate = True
        logger.setLevel(level)
    root.handlers[:] = kept[2]
    top.handlers[:] = kept[1]
    top.setLevel(kept[0])
    assert not logs.switch.kinds
    assert not logs.switch.observers


@pytest.fixture
def db(records: Records) -> picante.Database:
    return picante.Database()


def is_observed(db: picante.Database) -> bool:
    return int(db.runtime.id) in logs.switch.observers


# -- levels


def test_changes_are_logged_at_debug(db: picante.Database, records: Records) -> None:
    # r[trace.levels]
    root.setLevel(logging.DEBUG)
    page = Page(db, path="a", text="one")
    page.set(db, text="one")
    page.set(db, text="one two")
    Word(db, text="x")
    run(total(db))
    words.invalidate(db, page)
    page.remove(db)
    assert {each.levelno for each in records.records} == {logging.DEBUG}
    assert [each.name for each in records.records if each.picante_event == "intern"] == [
        "picante.intern"
    ] * 2
    found = records.take()
    assert [event for event, _ in found if event != "intern"] == [
        "revision",
        "set",
        "set_same",
        "revision",
        "set",
        "revision",
        "invalidate",
        "revision",
        "remove",
    ]
    texts = [text for event, text in found if event not in {"intern", "revision"}]
    assert texts == [
        'set Page("a") at revision 1',
        'set Page("a") to the value that it has',
        'set Page("a") at revision 2',
        'invalidated words(Page("a")) at revision 3',
        'removed Page("a") at revision 4',
    ]


def test_reads_dependencies_and_verification_are_logged_at_trace(
    db: picante.Database, records: Records
) -> None:
    # r[trace.levels]
    page = Page(db, path="a", text="one")
    root.setLevel(picante.TRACE)
    run(total(db))
    assert {(each.levelno, each.levelname, each.name) for each in records.records} == {
        (5, "TRACE", "picante.input"),
        (5, "TRACE", "picante.query"),
    }
    assert records.take() == [
        ("get", "get total(): not known at revision 1"),
        ("run", "run total() at revision 1: it had never been computed"),
        ("get", "get Page(*)"),
        ("dependency", "total() depends on Page(*)"),
        ("get", 'get words(Page("a")): not known at revision 1'),
        ("run", 'run words(Page("a")) at revision 1: it had never been computed'),
        ("get", 'get Page("a").text'),
        ("dependency", 'words(Page("a")) depends on Page("a").text'),
        ("ran", 'ran words(Page("a")): a new value'),
        ("dependency", 'total() depends on words(Page("a"))'),
        ("ran", "ran total(): a new value"),
    ]
    page.set(db, text="two")
    records.take()
    run(total(db))
    assert records.take() == [
        ("get", "get total(): not known at revision 2"),
        ("verify", "verify total(): Page(*) had not changed"),
        ("verify", 'verify words(Page("a")): Page("a").text had changed'),
        ("run", 'run words(Page("a")) at revision 2: Page("a").text had changed'),
        ("get", 'get Page("a").text'),
        ("dependency", 'words(Page("a")) depends on Page("a").text'),
        ("ran", 'ran words(Page("a")): an equal value'),
        ("verify", 'verify total(): words(Page("a")) had not changed'),
        ("verify", "verify total(): it holds at revision 2"),
    ]
    run(total(db))
    assert records.take() == [("get", "get total(): known at revision 2")]


def test_failures_waiting_and_cancellation_are_logged(
    db: picante.Database, records: Records
) -> None:
    gate = asyncio.Event()

    @picante.tracked
    async def fails(db: picante.Database) -> int:
        await gate.wait()
        raise ValueError("x")

    async def main() -> None:
        leader = asyncio.create_task(fails(db))
        await asyncio.sleep(0)
        follower = asyncio.create_task(fails(db))
        await asyncio.sleep(0)
        leader.cancel()
        gate.set()
        await asyncio.gather(leader, follower, return_exceptions=True)

    root.setLevel(picante.TRACE)
    run(main())
    ran = [each for each in records.records if each.picante_event == "ran"]
    assert [(each.result, type(each.error)) for each in ran] == [
        ("cancelled", type(None)),
        ("failed", ValueError),
    ]
    assert ("wait", "wait for fails(), which runs already") in records.take()


def test_records_have_structured_fields(db: picante.Database, records: Records) -> None:
    # r[trace.crate]
    page = Page(db, path="a", text="one")
    run(total(db))
    root.setLevel(picante.TRACE)
    page.set(db, text="one two")
    run(total(db))
    by_event = {each.picante_event: each for each in records.records}
    changed, ran = by_event["set"], by_event["run"]
    assert (changed.query, changed.kind, changed.key, changed.revision) == (
        f"{__name__}.Page",
        Page.data_kind,
        page,
        2,
    )
    assert type(changed.kind) is int
    assert (ran.query, ran.kind, ran.key, ran.reason, str(ran.dependency)) == (
        total.name,
        total.kind,
        (),
        "differs",
        'words(Page("a"))',
    )
    assert by_event["ran"].result == "new"


def test_a_record_names_the_line_of_the_user(db: picante.Database, records: Records) -> None:
    root.setLevel(logging.DEBUG)
    page = Page(db, path="a", text="one")
    page.set(db, text="two")
    assert {(each.filename, each.funcName) for each in records.records} == {
        ("test_logging.py", "test_a_record_names_the_line_of_the_user")
    }


# -- nothing is installed, nothing costs


def test_nothing_but_a_null_handler_is_installed() -> None:
    # r[trace.no-subscriber]
    program = """
import logging
before = list(logging.getLogger().handlers), logging.getLogger().level, logging.getLoggerClass()
import picante
assert before == (logging.getLogger().handlers, logging.getLogger().level, logging.getLoggerClass())
for name, logger in logging.root.manager.loggerDict.items():
    if name.startswith("picante") and isinstance(logger, logging.Logger):
        kinds = [type(each) for each in logger.handlers]
        assert kinds == [logging.NullHandler] * (name == "picante"), (name, kinds)
        assert logger.level == logging.NOTSET and logger.propagate
assert logging.getLevelName(picante.TRACE) == "TRACE" and picante.TRACE == 5
db = picante.Database()
picante.InputIngredient(1, "Text").set(db, "a", 1)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_database_is_observed_while_the_loggers_are_off(
    db: picante.Database, records: Records
) -> None:
    Page(db, path="a", text="one")
    run(total(db))
    assert not is_observed(db)
    root.setLevel(logging.INFO)
    assert not is_observed(db)
    assert records.records == []


def test_nothing_is_formatted_before_a_handler_asks(db: picante.Database, records: Records) -> None:
    class Loud(str):
        __slots__ = ()

    shown = []

    class Kind:
        def __repr__(self) -> str:
            shown.append(self)
            return "Kind()"

    text = picante.InputIngredient[str, Any](1, "Text")
    root.setLevel(logging.DEBUG)
    text.set(db, "a", Kind())
    assert shown == []
    [changed] = [each for each in records.records if each.picante_event == "set"]
    assert isinstance(changed.args[0], logs.Label)
    assert changed.getMessage() == "set Text('a') at revision 1"


def test_only_what_is_wanted_is_observed(db: picante.Database, records: Records) -> None:
    logging.getLogger("picante.intern").setLevel(logging.DEBUG)
    assert logs.switch.kinds == {EventKind.INTERNED}
    Page(db, path="a", text="one")
    assert records.events() == ["intern"]
    logging.getLogger("picante.intern").setLevel(logging.NOTSET)
    logging.getLogger("picante.query").setLevel(logging.DEBUG)
    assert logs.switch.kinds == {EventKind.INVALIDATED}
    logging.getLogger("picante.query").setLevel(logging.NOTSET)
    assert not is_observed(db)


# -- switching at run time


def test_set_level_works_at_once_for_databases_old_and_new(
    db: picante.Database, records: Records
) -> None:
    root.setLevel(logging.DEBUG)
    later = picante.Database()
    assert is_observed(db)
    assert is_observed(later)
    for each in (db, later):
        Page(each, path="a", text="one")
        assert "set" in records.events()
    root.setLevel(logging.WARNING)
    for each in (db, later):
        Page(each, path="a", text="two")
        assert not is_observed(each)
    assert records.records == []


def test_basic_config_and_the_level_of_the_root_work_at_once(
    db: picante.Database, records: Records
) -> None:
    logging.basicConfig(level=logging.DEBUG, force=True, handlers=[records])
    assert is_observed(db)
    logging.getLogger().setLevel(logging.WARNING)
    assert not is_observed(db)
    logging.getLogger().setLevel(picante.TRACE)
    assert EventKind.HIT in logs.switch.kinds
    logging.getLogger().setLevel("TRACE")
    assert EventKind.HIT in logs.switch.kinds


def test_disabling_all_logging_works_at_once(db: picante.Database, records: Records) -> None:
    root.setLevel(logging.DEBUG)
    logging.disable(logging.DEBUG)
    assert not is_observed(db)
    logging.disable(picante.TRACE)
    assert is_observed(db)
    logging.disable(logging.CRITICAL)
    assert not is_observed(db)
    logging.disable(logging.NOTSET)
    assert is_observed(db)


@pytest.mark.parametrize("through", ["picante", "root"])
def test_a_dict_config_works_at_once(db: picante.Database, records: Records, through: str) -> None:
    def config(level: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = {"version": 1, **more}
        if through == "root":
            return {**found, "disable_existing_loggers": False, "root": {"level": level}}
        return {**found, "loggers": {"picante": {"level": level}}}

    logging.config.dictConfig(config("DEBUG"))
    assert is_observed(db)
    root.addHandler(records)
    Page(db, path="a", text="one")
    assert "set" in records.events()
    logging.config.dictConfig(config("WARNING", incremental=True))
    assert not is_observed(db)
    logging.config.dictConfig(config("TRACE", incremental=True))
    assert EventKind.HIT in logs.switch.kinds


def test_a_disabled_logger_is_silent(db: picante.Database, records: Records) -> None:
    root.setLevel(logging.DEBUG)
    logging.getLogger("picante.input").disabled = True
    page = Page(db, path="a", text="one")
    assert records.events() == ["intern"]
    logging.getLogger("picante.input").disabled = False
    page.set(db, text="two")
    assert records.events() == ["revision", "set"]


def test_without_a_cache_that_tells_levels_are_looked_at_with_each_change(
    db: picante.Database, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = root._cache  # type: ignore[attr-defined]
    monkeypatch.delattr(root, "_cache")
    assert not logs.listen(root)
    monkeypatch.setattr(root, "_cache", {}, raising=False)
    monkeypatch.setattr(logs.switch, "can_hear", False)
    logs.switch.turn()
    page = Page(db, path="a", text="one")
    assert records.records == []
    root.setLevel(logging.DEBUG)
    page.set(db, text="two")
    page.set(db, text="three")
    assert records.events()[-1] == "set"
    root.setLevel(picante.TRACE)
    page.set(db, text="four")
    run(total(db))
    assert "run" in records.events()
    root.setLevel(logging.WARNING)
    page.set(db, text="five")
    assert records.records == []
    monkeypatch.undo()
    root._cache = cache  # type: ignore[attr-defined]
    logs.switch.turn()


def test_switching_on_while_a_query_runs_logs_what_comes_after(
    db: picante.Database, records: Records
) -> None:
    page = Page(db, path="a", text="one")
    gate = asyncio.Event()

    @picante.tracked
    async def waits(db: picante.Database) -> int:
        await gate.wait()
        return await words(db, page)

    async def main() -> None:
        task = asyncio.create_task(waits(db))
        await asyncio.sleep(0)
        root.setLevel(logging.DEBUG)
        root.setLevel(picante.TRACE)
        gate.set()
        await task

    run(main())
    assert [each for each in records.take() if each[0] in {"run", "ran"}] == [
        ("run", 'run words(Page("a")) at revision 1: it had never been computed'),
        ("ran", 'ran words(Page("a")): a new value'),
    ]
    assert not logs.running


def test_switching_off_while_a_query_runs_forgets_it(
    db: picante.Database, records: Records
) -> None:
    gate = asyncio.Event()

    @picante.tracked
    async def waits(db: picante.Database) -> None:
        await gate.wait()

    async def main() -> None:
        root.setLevel(picante.TRACE)
        task = asyncio.create_task(waits(db))
        await asyncio.sleep(0)
        assert len(logs.running) == 1
        root.setLevel(logging.WARNING)
        assert not logs.running
        gate.set()
        await task

    run(main())


def test_levels_can_be_switched_from_many_threads(db: picante.Database, records: Records) -> None:
    page = Page(db, path="a", text="one")

    def switch(level: int) -> None:
        for _ in range(50):
            root.setLevel(level)
            picante.Database()

    threads = [threading.Thread(target=switch, args=(level,)) for level in (5, 10, 30, 5, 30)]
    for thread in threads:
        thread.start()
    for i in range(50):
        page.set(db, text=str(i))
    for thread in threads:
        thread.join()
    root.setLevel(logging.DEBUG)
    records.take()
    page.set(db, text="last")
    assert records.events() == ["revision", "set"]
    root.setLevel(logging.WARNING)
    assert not is_observed(db)


# -- handlers


class Broken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter that raises")


def test_a_filter_that_raises_harms_no_query(
    db: picante.Database, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)
    broken = Broken()
    for name in NAMES:
        logging.getLogger(name).addFilter(broken)
    try:
        root.setLevel(picante.TRACE)
        page = Page(db, path="a", text="one two")
        assert run(total(db)) == 2
        page.set(db, text="one")
        assert run(total(db)) == 1
    finally:
        for name in NAMES:
            logging.getLogger(name).removeFilter(broken)
    assert records.records == []
    assert {str(each.exc_value) for each in unraised} == {"a filter that raises"}


def test_a_handler_that_uses_the_database_neither_recurses_nor_leaves_dependencies(
    db: picante.Database, records: Records
) -> None:
    page = Page(db, path="a", text="one two")
    other = Page(db, path="b", text="")
    found: list[Any] = []

    class Curious(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(other.text(db))
            found.append(words.peek(db, page))

    curious = Curious()
    root.addHandler(curious)
    root.setLevel(picante.TRACE)
    assert run(words(db, page)) == 2
    root.removeHandler(curious)
    assert len(found) == 2 * len(records.records)
    root.setLevel(logging.NOTSET)
    assert [read.item and read.item.label for read in db.explain(words, page).reads] == [
        'Page("a").text'
    ]


def test_snapshots_are_logged_with_their_database(db: picante.Database, records: Records) -> None:
    async def main() -> None:
        page = Page(db, path="a", text="one")
        async with await db.snapshot() as snap:
            page.set(db, text="one two")
            root.setLevel(picante.TRACE)
            await words(snap, page)
            await words(db, page)

    run(main())
    assert [text for event, text in records.take() if event == "run"] == [
        'run words(Page("a")) at revision 1: it had never been computed',
        'run words(Page("a")) at revision 2: Page("a").text had changed',
    ]


def test_logging_keeps_no_database_alive(records: Records) -> None:
    root.setLevel(picante.TRACE)
    db = picante.Database()
    page = Page(db, path="a", text="one")
    run(words(db, page))
    records.records.clear()
    number, runtime = int(db.runtime.id), weakref.ref(db.runtime)
    del db, page
    gc.collect()
    assert runtime() is None
    assert number not in {int(each.id) for each in watch_databases(logs.switch.meet)}
    assert not logs.running


def test_all_loggers_are_children_of_one(tmp_path: Any, records: Records) -> None:
    # r[trace.levels]
    root.setLevel(logging.INFO)
    db = picante.Database()
    Page(db, path="a", text="one")
    run(db.save(tmp_path / "cache"))
    run(db.load(tmp_path / "cache"))
    (tmp_path / "cache").write_bytes(b"damaged")
    run(db.load(tmp_path / "cache", CacheLoadOptions(on_corrupt=OnCorruptCache.IGNORE)))
    odd = picante.InputIngredient[str, Any](1, "Odd")
    db.ingredients.register(odd).set(db, "a", object())
    run(db.save(tmp_path / "cache"))
    run(picante.Database().load(tmp_path / "cache"))
    found = [(each.name, each.levelname, each.picante_event) for each in records.records]
    assert found == [
        ("picante.persist", "INFO", "save"),
        ("picante.persist", "INFO", "load"),
        ("picante.persist", "WARNING", "corrupt"),
        ("picante.persist", "WARNING", "left_out"),
        ("picante.persist", "INFO", "save"),
        *[("picante.persist", "WARNING", "unknown_section")] * 3,
        ("picante.persist", "INFO", "load"),
    ]
    assert all(each.path == tmp_path / "cache" for each in records.records)
