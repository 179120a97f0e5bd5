"""Queries that read the world outside: what picante does not see, it cannot notice a change of.

`assert_tracked` watches while its block runs. Whatever happens in the context of a query counts, in tasks and threads
that it has started, too. (A thread that was there before, and is handed work without the context, is not seen:
`loop.run_in_executor`, unlike `asyncio.to_thread`.) Nothing is seen that compiled code does without the interpreter:
a clock that an extension module reads by itself, a generator of NumPy. Another profiler keeps clocks, chance,
`os.environ` and the state of paths from being watched; then the `Outside` says so (`limited`).

An audit hook cannot be removed. It is installed when first needed, and returns at once while nobody watches.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import FrameType, TracebackType
from typing import Any, Self

from picante._core.derived import DerivedIngredient
from picante._core.tracked import Tracked
from picante.observe import current_query
from picante.testing.sources import (
    CATEGORIES,
    audited,
    code_reads,
    is_boundary,
    is_infrastructure,
    is_library,
    name_of_call,
)
from picante.testing.values import listed

__all__ = ["Outside", "OutsideRead", "UntrackedReadError", "assert_tracked"]


class UntrackedReadError(AssertionError):
    """A query has read something that picante does not track. `reads` is what."""

    reads: tuple[OutsideRead, ...]

    def __init__(self, message: str, reads: Iterable[OutsideRead]) -> None:
        super().__init__(message)
        self.reads = tuple(reads)


@dataclass(frozen=True)
class OutsideRead:
    """One thing that a query has read of the world outside.

    Attributes:
        query: the query with its key, as error messages show it.
        name: the full name of the query.
        category: a key of `CATEGORIES`.
        what: the function or the event, with the path where it is about a file.
        where: file and line of the code that did it.
    """

    query: str
    name: str
    category: str
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.query} reads {self.what} at {self.where}"


class Outside:
    """What queries have read of the world outside while this was active. Made by `assert_tracked`.

    Attributes:
        reads: each once, in order.
        limited: whether only files, folders, sockets and processes could be watched, because of another profiler.
    """

    def __init__(self, allow: Iterable[object], *, check: bool = True) -> None:
        self.reads: list[OutsideRead] = []
        self.limited = False
        self._check = check
        self._patterns: list[str] = []
        self._kinds: set[int] = set()
        for each in (allow,) if isinstance(allow, str) else allow:
            if isinstance(each, str):
                _check_allowed(each)
                self._patterns.append(each)
            elif isinstance(each, (Tracked, DerivedIngredient)):
                self._kinds.add(int(each.kind))
            else:
                raise TypeError(
                    f"`allow` takes queries, categories ({', '.join(CATEGORIES)}) and patterns, not {each!r}."
                )

    def note(self, category: str, what: str, frame: FrameType | None) -> None:
        """Something outside was read in this context, by `frame`."""
        query = current_query()
        if query is None or int(query.kind) in self._kinds:
            return
        if any(each == category or fnmatchcase(what, each) for each in self._patterns):
            return
        where = _place(frame)
        if where is None:
            return
        found = OutsideRead(query.label, query.name, category, what, where)
        if found not in self.reads:
            self.reads.append(found)

    def message(self) -> str:
        """What was read, for people."""
        lines = [
            "Queries have read what picante does not track, so they will not run again when it changes:",
            *listed(self.reads),
        ]
        lines.append(
            "Read it outside and set it as an input, or call `invalidate` for the query when it changes and name the "
            "query in `allow`."
        )
        return "\n".join(lines)

    def check(self) -> None:
        """Raise if anything was read.

        Raises:
            UntrackedReadError: a query has read something that is not allowed.
        """
        __tracebackhide__ = True
        if self.reads:
            raise UntrackedReadError(self.message(), self.reads)

    def __enter__(self) -> Self:
        _begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        _end(self)
        if kind is None and self._check:
            self.check()


def _check_allowed(text: str) -> None:
    """Refuse what is neither a category nor a pattern that anything could match: that is a category misspelt."""
    if text in CATEGORIES or set(text) & set("*?[.("):
        return
    near = get_close_matches(text.lower(), CATEGORIES, 1)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"`allow` has {text!r}, which is no category ({', '.join(CATEGORIES)}) and no pattern of what a message shows "
        f"(`open('/usr/*')`, `time.*`).{suggestion}"
    )


def assert_tracked(*, allow: Iterable[object] = ()) -> Outside:
    """Fail if a query that runs in this block reads the world outside: `with assert_tracked(): ...`.

    >>> import asyncio, os, picante
    >>> from picante.testing import assert_tracked
    >>> @picante.tracked
    ... async def home(db: picante.Database) -> str:
    ...     return os.environ["HOME"]
    >>> with assert_tracked(allow=["clock", "open('/usr/share/*')", home]):
    ...     _ = asyncio.run(home(picante.Database()))

    Args:
        allow: what is no error: queries; categories (`files`, `network`, `processes`, `clock`, `random`, `environ`);
            and patterns of what a message shows, as in the example.

    Raises:
        ValueError: `allow` has a word that is no category.
        UntrackedReadError: at the end of the block, if nothing else was raised in it.
    """
    return Outside(allow)


# -- watching

_active: list[Outside] = []
_lock = threading.Lock()
_hooks: list[Callable[[str, tuple[Any, ...]], None]] = []  # what is installed; never removed
_busy = threading.local()
_Profile = Callable[[FrameType, str, Any], object]


def _begin(outside: Outside) -> None:
    with _lock:
        if not _hooks:
            _hooks.append(_audit)
            sys.addaudithook(_audit)
        _active.append(outside)
        others = {sys.getprofile(), threading.getprofile()} - {None, _profile}
        outside.limited = bool(others)
    if not outside.limited:
        threading.setprofile(_profile)
        if sys.version_info >= (3, 12):
            threading.setprofile_all_threads(_profile)
        sys.setprofile(_profile)


def _end(outside: Outside) -> None:
    with _lock:
        if outside in _active:
            _active.remove(outside)
        last = not _active
    if last and threading.getprofile() is _profile:
        if sys.version_info >= (3, 12):
            threading.setprofile_all_threads(None)
        threading.setprofile(None)  # type: ignore[arg-type, unused-ignore]  # typeshed forgets the None
    if last and sys.getprofile() is _profile:
        sys.setprofile(None)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _active:
        return
    found = audited(event, args)
    if found is not None:
        _note(*found, 2)


def _profile(frame: FrameType, event: str, arg: Any) -> None:
    if event == "c_call":
        found = name_of_call(arg)
        if found is not None:
            _note(*found, 2)
    elif event == "call":
        found = code_reads(frame)
        if found is not None:
            _note(*found, 2)
    if not _active:
        sys.setprofile(None)  # a thread that has outlived the block


def _note(category: str, what: str, depth: int) -> None:
    """Tell all who watch, once: what they do themselves is none of their business."""
    if getattr(_busy, "noting", False):
        return
    _busy.noting = True
    try:
        frame = sys._getframe(depth)
        for each in tuple(_active):
            each.note(category, what, frame)
    finally:
        _busy.noting = False


def _place(frame: FrameType | None) -> str | None:
    """File and line of the innermost code that is no library's; None where it is not the query's doing."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if is_infrastructure(module):
            return None
        if is_boundary(module, frame.f_code.co_name):
            break
        if not is_library(module):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "a task or thread that it has started"
