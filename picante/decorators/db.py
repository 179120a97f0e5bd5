"""`@picante.db`: a database that declares what belongs to it (r[macro.db.purpose])."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, overload

from picante._core.binding import Binding, label
from picante._core.errors import DuplicateKindError
from picante._core.runtime import Runtime
from picante._core.tracked import Tracked
from picante.database import Database
from picante.decorators.fields import RecordType, rebuilt
from picante.decorators.input import Input, Singleton
from picante.decorators.interned import Interned

__all__ = ["db"]

C = TypeVar("C", bound=type)

RESERVED = (
    "runtime",
    "ingredients",
    "ingredient",
    "snapshot",
    "batch",
    "explain",
    "impact",
    "save",
    "load",
    "Snapshot",
)


@overload
def db(cls: C, /) -> C: ...
@overload
def db(
    *,
    inputs: Iterable[type[Input | Singleton]] = (),
    interned: Iterable[type[Interned]] = (),
    tracked: Iterable[Tracked[Any, ..., Any]] = (),
    max_memos: int | None = None,
    max_bytes: int | None = None,
) -> Callable[[C], C]: ...
def db(
    cls: Any = None,
    /,
    *,
    inputs: Iterable[Any] = (),
    interned: Iterable[Any] = (),
    tracked: Iterable[Any] = (),
    max_memos: int | None = None,
    max_bytes: int | None = None,
) -> Any:
    """Make a class a database with just these inputs, interned values and queries (r[macro.db.output]).

        @picante.db(inputs=[SourceFile], tracked=[line_count])
        class Database(picante.Database): ...

    The class keeps its own fields, methods and `__init__`. What its base classes declare belongs to it as well,
    and so do the tracked methods of the records. Using anything else through it is an `IngredientNotFoundError`.

    Args:
        inputs, interned, tracked: what belongs to it.
        max_memos: how many results of queries such a database keeps; None for any number.
        max_bytes: how many bytes these may take together, about.

    Raises:
        DuplicateKindError: something is declared twice, or two names have one kind.
        TypeError: something stands in the wrong list, or the class has an attribute that databases have themselves.
    """

    def make(cls: Any) -> Any:
        check_class(cls)
        own = [
            *definitions("inputs", inputs, (Input, Singleton)),
            *definitions("interned", interned, (Interned,)),
            *definitions("tracked", tracked, ()),
        ]
        limits = Runtime().limits  # refuses what is no limit
        limits.max_memos, limits.max_bytes = max_memos, max_bytes
        made = make_database(cls, own)
        if max_memos is not None or max_bytes is not None:
            made._limits = (max_memos, max_bytes)
        return made

    return make if cls is None else make(cls)


def make_database(cls: Any, own: list[Binding]) -> Any:
    if not issubclass(cls, Database):
        cls = rebuilt(cls, type(cls), Database)
    by_kind: dict[int, Binding] = {}
    for base in reversed(cls.__mro__):
        for binding in base.__dict__.get("_declared") or ():
            add(cls, by_kind, binding)
    for binding in own:
        add(cls, by_kind, binding)
    for definition in (cls, *(binding.definition for binding in own)):
        for method in methods(definition):
            add(cls, by_kind, method)
    cls._declared = tuple(by_kind.values())
    return cls


def add(cls: Any, by_kind: dict[int, Binding], binding: Binding) -> None:
    other = by_kind.setdefault(binding.kind, binding)
    if other is not binding:
        if other.name != binding.name:
            raise DuplicateKindError(kind=binding.kind, name=binding.name, other=other.name)
        raise DuplicateKindError(
            f"{label(cls)} declares two definitions that are both called {binding.name}: "
            "give one of them another name with `name=`.",
            kind=binding.kind,
            name=binding.name,
            other=other.name,
        )


def check_class(cls: Any) -> None:
    """Refuse what is no class, and what has attributes of its own that databases have."""
    if not isinstance(cls, type):
        raise TypeError(
            f"`@picante.db` decorates a class, not {cls!r}: write `@picante.db(inputs=[...], tracked=[...])` above it."
        )
    for base in cls.__mro__[:-1]:
        if (
            issubclass(Database, base)
            or base.__module__ == Database.__module__
            or "_declared" in base.__dict__
        ):
            continue
        for name in RESERVED:
            if name in base.__dict__ or name in inspect.get_annotations(base):
                raise TypeError(
                    f"{label(base)}.{name} is in the way: every database has `{name}` of its own. "
                    "Call yours otherwise."
                )


def definitions(argument: str, given: Any, bases: tuple[type, ...]) -> Iterator[Binding]:
    """The bindings of what stands in one of the arguments of `@picante.db`."""
    if isinstance(given, (type, Tracked, str)) or not isinstance(given, Iterable):
        raise TypeError(
            f"`{argument}=` of `@picante.db` takes a list: `{argument}=[...]`, not {given!r}."
        )
    seen: list[Any] = []
    for each in given:
        right = (
            isinstance(each, Tracked)
            if not bases
            else isinstance(each, type) and issubclass(each, bases)
        )
        if not right:
            raise TypeError(wrong_definition(argument, each))
        bindings = (each.binding,) if isinstance(each, Tracked) else each._bindings()
        if not bindings:
            raise TypeError(
                f"{label(each)} has no fields and so no records: it cannot be declared."
            )
        if any(each is other for other in seen):
            name = bindings[-1].name
            raise DuplicateKindError(kind=bindings[-1].kind, name=name, other=name)
        seen.append(each)
        yield from bindings


def wrong_definition(argument: str, given: Any) -> str:
    name = label(given) if hasattr(given, "__qualname__") else repr(given)
    if isinstance(given, Tracked):
        return f"{name} is a query: declare it in `tracked=[{name}]`, not in `{argument}=`."
    if isinstance(given, RecordType):
        right = "interned" if issubclass(given, Interned) else "inputs"
        return f"{name} is declared in `{right}=[{name}]`, not in `{argument}=`."
    if inspect.isroutine(given):
        return f"{name} is no query: decorate it with `@picante.tracked`, and declare it in `tracked=`."
    if isinstance(given, type):
        return (
            f"{name} is no record class: derive it from picante.Input, picante.Singleton or picante.Interned "
            "before it is declared."
        )
    return f"`{argument}=` of `@picante.db` cannot take {name}."


def methods(definition: Any) -> Iterator[Binding]:
    """The tracked methods of a record class, or of the database class itself."""
    if isinstance(definition, type):
        for base in reversed(definition.__mro__):
            for name, value in vars(base).items():
                if (
                    isinstance(value, Tracked)
                    and value.__qualname__ == f"{base.__qualname__}.{name}"
                ):
                    yield value.binding
