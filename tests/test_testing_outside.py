"""`assert_tracked`: queries that read files, clocks, chance and the environment behind picante's back."""

import asyncio
import contextlib
import datetime
import enum
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime as imported_class
from pathlib import Path
from time import time as imported_by_name
from typing import Any

import pytest

import picante
from picante.testing import UntrackedReadError, assert_tracked
from tests.oracle import World

HERE = Path(__file__)


def open_socket() -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))


READS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a file": (HERE.read_bytes, "files", f"open({str(HERE)!r})"),
    "os.open": (lambda: os.close(os.open(HERE, os.O_RDONLY)), "files", "open("),
    "a folder": (lambda: os.listdir(HERE.parent), "files", "os.listdir("),
    "scandir": (lambda: os.scandir(HERE.parent).close(), "files", "os.scandir("),
    "whether it exists": (HERE.exists, "files", "os.stat"),
    "a link": (lambda: os.readlink("/proc/self"), "files", "os.readlink"),
    "where we are": (os.getcwd, "files", "os.getcwd"),
    "an address": (lambda: socket.getaddrinfo("127.0.0.1", 1), "network", "socket.getaddrinfo"),
    "a socket": (open_socket, "network", "socket.bind"),
    "a process": (lambda: subprocess.run(["true"], check=False), "processes", "subprocess.Popen"),
    "a command": (lambda: os.system("true"), "processes", "os.system"),
    "time": (time.time, "clock", "time.time"),
    "time, by name": (imported_by_name, "clock", "time.time"),
    "time_ns": (time.time_ns, "clock", "time.time_ns"),
    "now": (datetime.datetime.now, "clock", "datetime.now"),
    "now with a zone": (lambda: imported_class.now(datetime.UTC), "clock", "datetime.now"),
    "today": (datetime.date.today, "clock", "date.today"),
    "random": (random.random, "random", "random.random"),
    "randint": (lambda: random.randint(1, 6), "random", "random.getrandbits"),
    "shuffle": (lambda: random.shuffle([1, 2]), "random", "random.getrandbits"),
    "urandom": (lambda: os.urandom(1), "random", "os.urandom"),
    "uuid4": (uuid.uuid4, "random", "os.urandom"),
    "secrets": (secrets.token_hex, "random", "os.urandom"),
    "environ": (lambda: os.environ["PATH"], "environ", "os.environ['PATH']"),
    "environ.get": (lambda: os.environ.get("NOT_SET"), "environ", "os.environ['NOT_SET']"),
    "getenv": (lambda: os.getenv("PATH"), "environ", "os.environ['PATH']"),
    "all of environ": (lambda: list(os.environ), "environ", "os.environ"),
}


def evaluated(world: World, function: Callable[[], Any]) -> Any:
    """A query that calls `function`, and is asked for."""

    @world.query
    async def peeking(db: Any, key: str) -> None:
        function()

    return peeking.get(world, "a")


@pytest.mark.parametrize("name", READS)
async def test_a_query_that_reads_outside_is_named_with_the_place(world: World, name: str) -> None:
    function, category, what = READS[name]
    with pytest.raises(UntrackedReadError) as caught:
        with assert_tracked():
            await evaluated(world, function)
    reads = caught.value.reads
    assert {each.query for each in reads} == {"peeking('a')"}
    assert category in {each.category for each in reads}
    assert any(each.what.startswith(what) for each in reads), reads
    assert all(each.where.startswith(f"{__file__}:") for each in reads)
    assert f"peeking('a') reads {what}" in str(caught.value)


def use_own_generator() -> None:
    random.Random(1).random()


def import_something() -> None:
    sys.modules.pop("this_is_imported_late", None)
    sys.modules.pop("colorsys", None)
    import colorsys

    assert colorsys


def open_descriptors() -> None:
    for descriptor, mode in zip(os.pipe(), "rw", strict=True):
        open(descriptor, mode).close()


HARMLESS: dict[str, Callable[[], Any]] = {
    "a generator of its own": use_own_generator,
    "an import": import_something,
    "a log record": lambda: logging.getLogger("picante.tests").info("told"),
    "what is open": open_descriptors,
    "a duration": time.perf_counter,
    "nothing": lambda: None,
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_does_not_depend_on_the_world_is_no_error(world: World, name: str) -> None:
    with assert_tracked():
        await evaluated(world, HARMLESS[name])


async def test_only_queries_count_and_only_in_the_block(world: World) -> None:
    with assert_tracked() as outside:
        os.listdir(HERE.parent)
        time.time()
        world.input().set(world, "a", os.environ["PATH"])
    await evaluated(world, time.time)
    assert outside.reads == []
    assert sys.getprofile() is None
    assert threading.getprofile() is None


async def test_tasks_and_threads_that_a_query_starts_are_part_of_it(world: World) -> None:
    async def child() -> None:
        await asyncio.sleep(0)
        os.getcwd()

    @world.query
    async def parent(db: Any, key: None) -> None:
        await asyncio.create_task(child())
        await asyncio.to_thread(HERE.read_bytes)

    with pytest.raises(UntrackedReadError) as caught:
        with assert_tracked():
            await parent.get(world, None)
    assert [each.what.partition("(")[0] for each in caught.value.reads] == ["os.getcwd", "open"]


async def test_a_task_in_which_only_libraries_run_is_part_of_it(world: World) -> None:
    @world.query
    async def parent(db: Any, key: None) -> None:
        with contextlib.suppress(OSError):
            await asyncio.create_task(asyncio.open_unix_connection("/there/is/none"))

    with pytest.raises(UntrackedReadError) as caught:
        with assert_tracked():
            await parent.get(world, None)
    assert {each.what for each in caught.value.reads} == {"socket.connect"}
    assert caught.value.reads[0].where == "a task or thread that it has started"


class Restless(enum.Enum):
    KEY = 1

    def __repr__(self) -> str:
        return f"seen in {os.listdir(HERE.parent)[:0]}"


async def test_what_naming_a_query_reads_is_not_its_doing(world: World) -> None:
    query = world.query(lambda db, key: os.getcwd())
    with pytest.raises(UntrackedReadError) as caught:
        with assert_tracked():
            await query.get(world, Restless.KEY)
    assert [each.what for each in caught.value.reads] == ["os.getcwd"]
    assert "(seen in []) reads os.getcwd" in str(caught.value)


async def test_the_innermost_query_is_blamed(world: World) -> None:
    @world.query
    async def below(db: Any, key: int) -> float:
        return time.time()

    @world.query
    async def above(db: Any, key: int) -> float:
        return float(await below.get(db, key))

    with pytest.raises(UntrackedReadError) as caught:
        with assert_tracked():
            await above.get(world, 1)
            await above.get(world, 2)
    assert [each.query for each in caught.value.reads] == ["below(1)", "below(2)"]


def test_what_is_allowed_is_no_error() -> None:
    @picante.tracked(name="home")
    async def home(db: picante.Database) -> str:
        return os.environ["PATH"]

    async def main(allow: Any) -> None:
        with assert_tracked(allow=allow):
            await home(picante.Database())

    for allow in (["environ"], [home], ["os.environ*"], "environ"):
        asyncio.run(main(allow))
    for allow in (["clock"], ["open(*"], []):
        with pytest.raises(UntrackedReadError):
            asyncio.run(main(allow))
    with pytest.raises(TypeError, match=r"queries, categories \(files, network"):
        assert_tracked(allow=[1])


@pytest.mark.parametrize(
    ("word", "meant"),
    [("file", "files"), ("Clock", "clock"), ("enviorn", "environ"), ("sockets", None), ("", None)],
)
def test_a_misspelt_category_is_refused_with_the_one_that_was_meant(
    word: str, meant: str | None
) -> None:
    with pytest.raises(ValueError, match="no category") as caught:
        assert_tracked(allow=["files", word])
    assert str(caught.value).endswith(f"Did you mean {meant!r}?" if meant else "`time.*`).")


def test_a_message_lists_no_more_than_a_person_reads() -> None:
    @picante.tracked(name="many")
    async def many(db: picante.Database) -> None:
        for n in range(25):
            os.environ.get(f"PICANTE_{n}")

    with pytest.raises(UntrackedReadError, match=r"\.\.\. and 5 more") as caught:
        with assert_tracked():
            asyncio.run(many(picante.Database()))
    assert len(caught.value.reads) == 25


async def test_an_error_in_the_block_is_not_replaced(world: World) -> None:
    with pytest.raises(KeyError):
        with assert_tracked():
            await evaluated(world, time.time)
            raise KeyError


async def test_another_profiler_goes_on_and_limits_what_is_seen(world: World) -> None:
    seen = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        seen.append(event)

    sys.setprofile(profile)
    try:
        with assert_tracked(allow="files") as outside:
            await evaluated(world, time.time)
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert outside.limited
    assert seen


async def test_blocks_may_be_nested(world: World) -> None:
    with assert_tracked(allow=["clock", "files"]):
        with pytest.raises(UntrackedReadError):
            with assert_tracked():
                await evaluated(world, time.time)
        with pytest.raises(UntrackedReadError):
            with assert_tracked(allow="clock"):
                await evaluated(World(), os.getcwd)
        await evaluated(World(), time.time)
