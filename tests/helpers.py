"""What the tests of cells, snapshots, sharing and cancellation have in common."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future as ThreadFuture, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from picante import DerivedIngredient, InputIngredient, Snapshot
from tests.oracle import World, settle

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
DEADLINE = 30.0  # of what goes on in other threads
SMALL_STACK = 512 * 1024  # a sixteenth of the usual one


async def started(awaitable: Any) -> "asyncio.Task[Any]":
    """A task that has begun to await, and has come as far as it can."""
    task = asyncio.ensure_future(awaitable)
    await settle()
    return task


async def taken(db: Any) -> Any:
    """A snapshot of any database."""
    return await Snapshot.from_database(db)


def reading(world: World) -> tuple[InputIngredient, DerivedIngredient]:
    """An input, and a query that reads it."""
    text = world.input()

    @world.query
    async def read(db: Any, key: Any) -> Any:
        return text.get(db, key)

    return text, read


class Yield:
    """Awaiting it yields `what` to whoever drives the coroutine and returns what that sends."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __await__(self) -> Any:
        return (yield self.what)


def drive(awaitable: Any) -> Any:
    """The result of what waits for nothing outside: whatever it yields is sent ``None``."""
    try:
        while True:
            awaitable.send(None)
    except StopIteration as stop:
        return stop.value


class LoopThread:
    """A loop that runs in a thread of its own until the end of the `with`."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        return self

    def start(self, main: Coroutine[Any, Any, T]) -> "ThreadFuture[T]":
        return asyncio.run_coroutine_threadsafe(main, self.loop)

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        self.loop.close()


def until(condition: Callable[[], bool]) -> None:
    """Let the other threads go on until `condition` holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the deadline has passed"
        time.sleep(0)


def output_of(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """What a command says, which must succeed; no setting of Python, of coverage or of our build reaches it."""
    usual = {k: v for k, v in os.environ.items() if not k.startswith(("PICANTE_", "PYTHON", "COV"))}
    ran = subprocess.run(
        command,
        cwd=cwd,
        env=usual | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout[-9000:]}\n{ran.stderr[-9000:]}"
    return ran.stdout


def in_a_process(code: str) -> str:
    """Run `code` where a crash harms nobody."""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert ran.returncode == 0, f"exit {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout.strip()


def on_a_small_stack(run: Callable[[], T]) -> T:
    """The result of `run()` in a thread whose stack is small: what recurses with depth in C crashes there soon."""
    usual = threading.stack_size(SMALL_STACK)
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run).result()
    finally:
        threading.stack_size(usual)
