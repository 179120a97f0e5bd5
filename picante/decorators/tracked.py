"""Tracked functions: memoized queries (r[macro.tracked.purpose])."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from picante._core.binding import Binding, label
from picante._core.derived import DerivedIngredient
from picante._core.ids import Handle
from picante._core.tracked import Tracked, make_compute
from picante.decorators.fields import caller_locals, resolved

__all__ = ["Tracked", "tracked"]

F = TypeVar("F")
P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What `@picante.tracked(...)` with arguments is."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[F, P], Coroutine[Any, Any, R]], /
    ) -> Tracked[F, P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[F, P], R], /) -> Tracked[F, P, R]: ...


@overload
def tracked(
    function: Callable[Concatenate[F, P], Coroutine[Any, Any, R]], /
) -> Tracked[F, P, R]: ...
@overload
def tracked(function: Callable[Concatenate[F, P], R], /) -> Tracked[F, P, R]: ...
@overload
def tracked(
    *,
    name: str | None = None,
    eq: Callable[[Any, Any], bool] | None = None,
    version: str | int | None = None,
    keep: bool = False,
    max_memos: int | None = None,
    size: Callable[[Any], int] | None = None,
) -> Decorator: ...
def tracked(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    eq: Callable[[Any, Any], bool] | None = None,
    version: str | int | None = None,
    keep: bool = False,
    max_memos: int | None = None,
    size: Callable[[Any], int] | None = None,
) -> Any:
    """Make a function a query: its results are kept, its reads recorded, and it runs again only if those change.

        @picante.tracked
        async def line_count(db: picante.Database, file: SourceFile) -> int:
            return len(file.content(db).splitlines())

        await line_count(db, file)

    The function is an `async def` or a plain function; a call is awaited either way. Its first parameter is the
    database, through which alone it reads; in a method of a record class it is the second one. The others are the key:
    all ways to write the same call (by name, by position, with a default left out) share one memo.

    Args:
        name: the full name, which stands for the query in caches; by default that of the function.
        eq: decides whether a new value equals the old one; by default types and structure do.
        version: stands for the code of the function in stored caches: change it to have stored results computed again.
        keep: a computation that has begun goes on, for the cache, when its caller is cancelled or gone: a web server
            wants that. It runs in a task of its own.
        max_memos: how many of its memos a database keeps; None for any number. What is evicted is computed again when
            it is asked for.
        size: called with a value for how many bytes it counts as, in a database that limits those (`max_bytes`).
    """
    if function is None:
        return lambda function: make_tracked(function, name, eq, version, keep, max_memos, size)
    return make_tracked(function, name, eq, version, keep, max_memos, size)


def make_tracked(
    function: Any,
    name: str | None,
    eq: Callable[[Any, Any], bool] | None,
    version: str | int | None,
    keep: bool,
    max_memos: int | None = None,
    size: Callable[[Any], int] | None = None,
) -> Tracked[Any, ..., Any]:
    """The query of a function; `TypeError` for what can be none."""
    check_function(function)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    called = label(function)
    for each in parameters:
        if each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}:
            raise TypeError(
                f"{called} takes `{each}`, but a query has a fixed list of parameters, which make its key: "
                "take one tuple instead."
            )
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise TypeError(
            f"{called} has no place for the database: its first parameter must be `db`."
        )
    if name is None:
        name = f"{function.__module__}.{function.__qualname__}"
        if function.__name__ == "<lambda>":
            raise TypeError(
                "A lambda has no name to be known by: give it one, `tracked(name=...)`."
            )
    if not isinstance(name, str):
        raise TypeError(f"name= of {called} is a str, not {name!r}.")
    if eq is not None and not callable(eq):
        raise TypeError(f"eq= of {called} must be callable with two values, not {eq!r}.")
    if max_memos is not None and (type(max_memos) is not int or max_memos < 1):
        raise ValueError(
            f"max_memos= of {called} is a number from 1 on, or None for no limit, not {max_memos!r}."
        )
    if size is not None and not callable(size):
        raise TypeError(f"size= of {called} must be callable with a value, not {size!r}.")
    types = Annotations(function)

    def make() -> DerivedIngredient[Any, Any]:
        keys = [each for i, each in enumerate(parameters) if i != made.is_method]
        records = {
            place: (cls, each.name)
            for place, each in enumerate(keys)
            if isinstance(cls := types.get(each.name), type) and issubclass(cls, Handle)
        }
        keywords = tuple(each.name for each in keys if each.kind is each.KEYWORD_ONLY)
        compute = make_compute(function, len(keys), made.is_method, keywords, records)
        return DerivedIngredient(
            made.kind,
            name,
            compute,
            eq=eq,
            version=version,
            keep=keep,
            max_memos=max_memos,
            size=size,
        )

    made: Tracked[Any, ..., Any] = Tracked(function, Binding(name, "tracked", make), signature)
    functools.update_wrapper(made, function)
    # What `inspect.iscoroutinefunction` looks at; of a plain function, too, because the query is awaited.
    code = function.__code__
    vars(made).update(
        __code__=code.replace(co_flags=code.co_flags | inspect.CO_COROUTINE),
        __defaults__=function.__defaults__,
        __kwdefaults__=function.__kwdefaults__,
        _annotations=types,
    )
    return made


def check_function(function: Any) -> None:
    """Refuse what is no function, and what a query cannot be."""
    if isinstance(function, Tracked):
        raise TypeError(f"{label(function)} is tracked already: decorate it once.")
    if isinstance(function, (staticmethod, classmethod)):
        word = type(function).__name__
        raise TypeError(
            f"`@picante.tracked` was put above `@{word}`: a query is a function of a module, "
            "or a method of a record class, whose `self` is part of its key."
        )
    if isinstance(function, type):
        raise TypeError(
            f"`@picante.tracked` decorates functions, and {label(function)} is a class: "
            "derive it from picante.Input, picante.Singleton or picante.Interned."
        )
    if not callable(function) or not hasattr(function, "__code__"):
        raise TypeError(f"`@picante.tracked` decorates functions, not {function!r}.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{label(function)} is a generator: a query returns one value, which is kept. "
            "Return a tuple of what it yields."
        )


class Annotations:
    """The annotations of a function, each evaluated as soon as its names are known."""

    def __init__(self, function: Any) -> None:
        self.names: dict[str, Any] = getattr(function, "__globals__", {})
        local = caller_locals()
        self.found = {
            name: resolved(annotation, self.names, local)
            for name, annotation in getattr(function, "__annotations__", {}).items()
        }

    def get(self, name: str) -> Any:
        """The annotation of a parameter, or None."""
        return resolved(self.found.get(name), self.names, {})

    def __iter__(self) -> Iterator[tuple[Any, Mapping[str, Any]]]:
        """All of them, each with the names that it may use."""
        return ((annotation, self.names) for annotation in self.found.values())
