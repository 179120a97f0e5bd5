"""The pytest plugin of picante: options, a mark, and fixtures. What they do is in `picante.testing`.

This module stands beside the package, not in it: pytest loads it in every run of every project in whose environment
picante is installed, and importing a module of the package would load the whole engine. So picante is imported where a
test uses it, and a run that does not pays for this file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from picante.testing import Mutations, Outside, Runs

ACTIONS = ("off", "warn", "error")

chosen_seed: int | None = None
"""What `--picante-seed` says; `picante.testing.check_consistency` looks here."""

_checks = pytest.StashKey[list["Mutations"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("picante", "incremental queries (picante)")
    group.addoption(
        "--picante-untracked",
        choices=ACTIONS,
        help="what to do about queries that read files, clocks, the environment and so on behind picante's back "
        "(default: the ini option picante_untracked)",
    )
    group.addoption(
        "--picante-seed",
        type=int,
        metavar="N",
        help="the seed of picante.testing.check_consistency where a test gives none: a failure tells it",
    )
    parser.addini(
        "picante_untracked",
        "what to do about queries that read the world outside untracked: off, warn, or error (the test fails)",
        default="off",
    )
    parser.addini(
        "picante_untracked_allow",
        "what queries may read of it: files, network, processes, clock, random, environ, or patterns such as "
        "open('/usr/*') (one a line)",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    global chosen_seed
    config.addinivalue_line(
        "markers",
        "picante_untracked(action='error', allow=[]): fail the test (or 'warn', or do nothing: 'off') if a picante "
        "query reads files, sockets, clocks, random numbers or the environment, except what `allow` names: queries, "
        "categories, patterns",
    )
    if config.getini("picante_untracked") not in ACTIONS:
        raise pytest.UsageError(
            f"picante_untracked is {config.getini('picante_untracked')!r}: it must be one of {', '.join(ACTIONS)}."
        )
    before, chosen_seed = chosen_seed, config.getoption("picante_seed")
    config.add_cleanup(lambda: globals().update(chosen_seed=before))  # of a run inside of a run


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    outside, action = _outside(item)
    with ExitStack() as stack:
        if outside is not None:
            stack.enter_context(outside)
        outcome = yield
    if outcome.excinfo is not None:
        return
    try:
        for mutations in item.stash.get(_checks, []):
            mutations.__exit__(None, None, None)
        if outside is not None and action == "error":
            outside.check()
        elif outside is not None and outside.reads:
            item.warn(pytest.PytestWarning(outside.message()))
    except Exception as error:  # a warning that was made an error, too
        told = f"{type(error).__name__}: {error}"
        outcome.force_exception(pytest.fail.Exception(told, pytrace=False))


def _outside(item: pytest.Item) -> tuple[Outside | None, str]:
    """What watches during this test, if anything does."""
    config = item.config
    action = config.getoption("picante_untracked") or config.getini("picante_untracked")
    marker = item.get_closest_marker("picante_untracked")
    if marker is None and action == "off":
        return None, action
    allow = list(config.getini("picante_untracked_allow"))
    if marker is not None:
        action, more = _of_mark(*marker.args, **marker.kwargs)
        allow += [more] if isinstance(more, str) else more
        if action not in ACTIONS:
            raise pytest.UsageError(
                f"picante_untracked(action={action!r}) at {item.nodeid}: it must be one of {', '.join(ACTIONS)}."
            )
        if action == "off":
            return None, action
    from picante.testing.outside import Outside

    try:
        return Outside(allow, check=False), action
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"picante_untracked at {item.nodeid}: {error}") from None


def _of_mark(action: str = "error", allow: Any = ()) -> tuple[str, Any]:
    return action, allow


@pytest.fixture
def picante_runs() -> Iterator[Callable[[Any], Runs]]:
    """`runs = picante_runs(db)` records which queries run from then on, and which are reused.

    Until the end of the test, or of a block: `with picante_runs(db) as runs: ...`.
    """
    from picante.testing import record_runs

    with ExitStack() as stack:
        yield lambda db: stack.enter_context(record_runs(db))


@pytest.fixture
def picante_unmutated(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Mutations]]:
    """`picante_unmutated(db)` fails the test if a cached result of `db` is changed before its end."""
    from picante.testing import assert_unmutated

    begun = request.node.stash.setdefault(_checks, [])

    def watch(db: Any) -> Mutations:
        mutations = assert_unmutated(db)
        begun.append(mutations.__enter__())
        return mutations

    yield watch
    for mutations in begun:
        mutations.close()
