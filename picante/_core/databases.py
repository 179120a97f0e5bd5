"""All databases of this process, for who observes every one of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from picante._core.runtime import Runtime

_databases: dict[int, weakref.ref[Runtime]] = {}  # by the number of the RuntimeId
_watchers: list[Callable[[Runtime], object]] = []


def remember_database(id: int, runtime: Runtime) -> None:
    """There is a new database. Snapshots are no databases of their own."""
    number = int(id)
    _databases[number] = weakref.ref(runtime, partial(_forget, number))
    for watcher in _watchers:
        watcher(runtime)


def _forget(number: int, _: object) -> None:
    _databases.pop(number, None)


def watch_databases(function: Callable[[Runtime], object]) -> list[Runtime]:
    """The runtimes of all databases that there are; `function` is called with that of each later one.

    There is one such function, that of the last call.
    """
    _watchers[:] = [function]
    found = [each() for each in list(_databases.values())]
    return [runtime for runtime in found if runtime is not None]
