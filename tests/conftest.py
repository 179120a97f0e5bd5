"""What all tests share: Hypothesis profiles, a deadline for what might hang, and an eye on what asyncio only logs."""

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.oracle import World

# `quick` gives the same examples every time; `explore` looks for new ones: HYPOTHESIS_PROFILE=explore.
settings.register_profile(
    "quick",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("quick"), derandomize=False, max_examples=5_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

Deadline = Callable[..., Coroutine[Any, Any, Any]]


@pytest.fixture
def world() -> World:
    """An empty database."""
    return World()


@pytest.fixture
def deadline() -> Deadline:
    """``await deadline(awaitable, seconds=10)``: its result, or a failure where a hang would be.

    Awaits in the task of the caller: no hop that could hide what the test is about.
    """

    async def wait(awaitable: Awaitable[Any], seconds: float = 10) -> Any:
        try:
            async with asyncio.timeout(seconds) as timeout:
                return await awaitable
        except TimeoutError:
            if timeout.expired():
                pytest.fail(f"still waiting after {seconds} s for {awaitable!r}")
            raise

    return wait


class _Lost(logging.Handler):
    """Keeps what asyncio logs about tasks that nobody awaited: no filter makes an error of that."""

    messages: list[str]

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "never retrieved" in message or "destroyed but it is pending" in message:
            self.messages.append(
                f"{os.environ.get('PYTEST_CURRENT_TEST', 'after all tests')}: {message}"
            )


_lost = _Lost()


def pytest_configure() -> None:
    logging.getLogger("asyncio").addHandler(_lost)


def pytest_collection_finish() -> None:
    """Thousands of collected tests would be looked through by every ``gc.collect()`` of a test: a tenth of a second."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    gc.collect()
    if _lost.messages and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _lost.messages:
        terminalreporter.section(
            "lost by asyncio (the test named was running when it came to light)"
        )
        for message in _lost.messages:
            terminalreporter.line(message)
