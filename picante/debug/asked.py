"""What the arguments of `explain` and `impact` mean: which query, or which record, of which database.

Finding that out changes nothing in the database: a query that it has never met does not join it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from types import MethodType
from typing import Any, NamedTuple

from picante._core.binding import Binding, label
from picante._core.derived import DerivedIngredient
from picante._core.errors import ForeignDatabaseError
from picante._core.ingredient import Ingredient
from picante._core.input import InputIngredient
from picante._core.key import Key, QueryKindId
from picante._core.runtime import Runtime
from picante._core.tracked import Tracked
from picante.database import Database
from picante.debug.names import Names
from picante.decorators.fields import unknown_field
from picante.decorators.input import Input, Singleton
from picante.decorators.interned import Interned

Record = tuple[int, object, str | int | None]
"""A kind, a key, and a part, as `picante._core.facts` takes them."""


class Query(NamedTuple):
    """A query of a database."""

    runtime: Runtime
    kind: QueryKindId
    key: Any
    names: Names


class Source(NamedTuple):
    """What may change: all the records, or parts of one, that a change makes different."""

    runtime: Runtime
    records: tuple[Record, ...]
    kind: QueryKindId
    key: Any
    what: str
    names: Names


def runtime_of(db: object) -> Runtime:
    """The runtime of `db`; `TypeError` if it is no database."""
    runtime = getattr(db, "runtime", None)
    if not isinstance(runtime, Runtime):
        raise TypeError(f"A database has a picante.Runtime as its `runtime`, and {db!r} has none.")
    return runtime


def find_query(db: object, asked: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Query:
    """The query that a call of `asked` with these arguments, besides the database, would ask.

    Raises:
        TypeError: `asked` is no query, or the arguments do not fit.
        IngredientNotFoundError: the database declares what belongs to it, and this does not.
    """
    runtime = runtime_of(db)
    if isinstance(asked, MethodType) and isinstance(asked.__func__, Tracked):
        asked, args = asked.__func__, (asked.__self__, *args)
    if isinstance(asked, Tracked):
        _, key = asked.key_for(*args[: asked.is_method], db, *args[asked.is_method :], **kwargs)
        check_member(db, asked.binding)
        return query(db, runtime, asked.kind, asked.name, key)
    if isinstance(asked, DerivedIngredient):
        if len(args) != 1 or kwargs:
            raise TypeError(
                f"{asked.name} is an ingredient, whose queries have one argument besides the database: the key."
            )
        check_ingredient(db, runtime, asked)
        return query(db, runtime, asked.kind, asked.name, args[0])
    if isinstance(asked, Coroutine):
        asked.close()
        raise TypeError(
            f"{asked!r} has been called. Give the query itself and its arguments, without the database."
        )
    raise TypeError(
        f"A query is a function below `@picante.tracked`, or a DerivedIngredient, which {asked!r} is not. "
        "Write `db.explain(line_count, file)` for what `line_count(db, file)` calls."
    )


def query(db: object, runtime: Runtime, kind: QueryKindId, name: str, key: Any) -> Query:
    Key.encode(key)  # refuse what cannot be a key
    return Query(runtime, kind, key, Names(db, known={kind: (name, "query")}))


def check_member(db: object, binding: Binding) -> None:
    """Refuse a definition that cannot be in `db`. An open database may meet it later on."""
    lookup = getattr(db, "ingredient", None)
    found = lookup(binding.kind) if callable(lookup) else None
    is_open = isinstance(db, Database) and db._declared is None
    if (found is None and not is_open) or (found is not None and not binding.has_made(found)):
        binding.find(db)  # type: ignore[arg-type]  # which says what is wrong


def check_ingredient(db: object, runtime: Runtime, ingredient: Ingredient) -> None:
    lookup = getattr(db, "ingredient", None)
    if callable(lookup) and lookup(ingredient.kind) not in {ingredient, None}:
        raise ForeignDatabaseError(
            f"{ingredient.name} is not an ingredient of {db!r}, which has another one of this kind.",
            name=ingredient.name,
        )


# -- what may change


def find_source(
    db: object,
    asked: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    field: str | None,
    removed: bool,
) -> Source:
    """What a change of `asked` makes different.

    Raises:
        TypeError: it is nothing that can change, or the arguments do not fit.
    """
    runtime = runtime_of(db)
    if isinstance(asked, (Tracked, DerivedIngredient, Coroutine)) or (
        isinstance(asked, MethodType) and isinstance(asked.__func__, Tracked)
    ):
        found = find_query(db, asked, args, kwargs)
        if field is not None or removed:
            raise TypeError("A query has no fields, and is not removed: leave that argument away.")
        record = (found.kind, found.key, None)
        return Source(runtime, (record,), found.kind, found.key, "value", found.names)
    if isinstance(asked, InputIngredient):
        if len(args) != 1 or kwargs:
            raise TypeError(
                f"{asked.name} is an ingredient: give it and the key, `impact(db, {asked.name}, key)`."
            )
        check_ingredient(db, runtime, asked)
        return record_source(db, asked.kind, asked.name, asked.fields, args[0], field, removed)
    if args or kwargs:
        raise TypeError(f"{asked!r} takes no arguments: only queries and ingredients do.")
    if isinstance(asked, Input):
        cls = type(asked)
        check_member(db, cls._data)
        check_field(cls, field)
        return record_source(
            db, cls.data_kind, cls._data.name, cls._data_names, asked, field, removed
        )
    if isinstance(asked, type) and issubclass(asked, Singleton) and asked._fields:
        check_member(db, asked._data)
        check_field(asked, field)
        return record_source(
            db, asked.kind, asked._data.name, asked._data_names, (), field, removed
        )
    if isinstance(asked, type) and issubclass(asked, Input) and asked._fields:
        if field is not None or removed:
            raise TypeError(
                f"{label(asked)} stands for the list of its records: ask for one record's field."
            )
        check_member(db, asked._data)
        names = Names(db, known={asked.data_kind: (asked._data.name, "input")})
        return Source(
            runtime, ((asked.data_kind, None, "keys"),), asked.data_kind, None, "list", names
        )
    if isinstance(asked, Interned):
        raise TypeError(
            f"{asked!r} is an interned value, which never changes: nothing can depend on a change of it."
        )
    raise TypeError(
        f"{asked!r} is nothing that can change. Give a record (`db.impact(file, field='content')`), a singleton, "
        "a query and its arguments, or an ingredient and a key."
    )


def check_field(cls: Any, field: str | None) -> None:
    if field is not None and field not in cls._data_names:
        if field in getattr(cls, "_key_names", ()):
            raise TypeError(f"{label(cls)}.{field} is a key field, which never changes.")
        raise unknown_field(cls, field, cls._data_names)


def record_source(
    db: object,
    kind: QueryKindId,
    name: str,
    fields: tuple[str, ...],
    key: Any,
    field: str | None,
    removed: bool,
) -> Source:
    Key.encode(key)
    if field is not None and field not in fields:
        listed = ", ".join(fields) or "none"
        raise TypeError(f"A record of {name} has no field {field!r}: its fields are {listed}.")
    if field is not None and removed:
        raise TypeError("A record is removed as a whole: leave `field=` or `removed=` away.")
    parts: list[str | int | None] = [None]  # who reads the whole is affected by any field
    parts += [fields.index(field)] if field is not None else range(len(fields))
    if removed:
        parts += ["presence", "keys"]
    return Source(
        runtime_of(db),
        tuple([(kind, key, part) for part in parts]),
        kind,
        key,
        "removed" if removed else field or "record",
        Names(db, known={kind: (name, "input")}),
    )
