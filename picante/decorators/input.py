"""Inputs: records that are set from outside (r[macro.input.purpose]).

A keyed input is two ingredients (r[macro.input.keyed]): its keys are interned, and the number that a key gets is the
handle that users hold; what the record holds is an input under that handle. A singleton has one record and no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import InitVar
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    ParamSpec,
    Self,
    TypeVar,
    dataclass_transform,
    overload,
)

from picante._core.binding import Binding, label
from picante._core.errors import EncodeError
from picante._core.ids import Handle, QueryKindId, Revision, handle
from picante._core.input import InputIngredient
from picante._core.interned import InternedIngredient
from picante._core.protocols import HasRuntime
from picante._core.record import interned_value
from picante.decorators.fields import (
    MISSING,
    Field,
    RecordType,
    ValueClass,
    add_getter,
    bind,
    explained,
    has_key,
    listing,
    missing_fields,
    rebuilt,
    shown,
    signature_of,
    unknown_field,
    usage,
)

__all__ = ["Input", "Singleton", "input"]

C = TypeVar("C", bound=type)
P = ParamSpec("P")
R = TypeVar("R")


class _AnyData:
    """What type checkers know of `Data` and `Value`: attributes, of any type."""

    if TYPE_CHECKING:

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...


@dataclass_transform(eq_default=False, frozen_default=True, field_specifiers=(Field,))
class Record(Handle, metaclass=RecordType, root=True):
    """A record that is found by what identifies it: `Input` and `Interned`."""

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[Any, ...]]
        _name: ClassVar[str]

    @classmethod
    def new(cls: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same as calling the class."""
        return cls(*args, **kwargs)


class Input(Record, metaclass=RecordType, root=True):
    """A keyed input: one record for each value of its key fields.

        class SourceFile(picante.Input):
            path: picante.KeyField[str]
            content: picante.Field[str]

        file = SourceFile(db, path="a.md", content="# hello")   # inserts, or updates
        file.content(db)                                        # "# hello"

    What a call returns is a handle: a small, immutable value that may be the argument or the result of a query. The
    record itself is in the database.
    """

    if TYPE_CHECKING:
        db: InitVar[HasRuntime]
        keys_kind: ClassVar[QueryKindId]
        data_kind: ClassVar[QueryKindId]
        _keys: ClassVar[Binding]
        _data: ClassVar[Binding]
        _key_names: ClassVar[tuple[str, ...]]
        _key_places: ClassVar[tuple[int, ...]]
        _data_names: ClassVar[tuple[str, ...]]
        _data_places: ClassVar[tuple[int, ...]]

        class Data(_AnyData):
            """The fields that are no key fields: a frozen dataclass."""
    else:
        _reserved = ("keys_kind", "data_kind")
        Data = ValueClass(keys=False, doc="What a record of {} holds besides its key.")

        def __new__(cls, /, *args, **kwargs):
            db, values = bind(_declared(cls), args, kwargs)
            made = cls._handle(db, cls._key_of(values))
            cls._data.find(db).set(db, made, tuple([values[i] for i in cls._data_places]))
            return made

    @classmethod
    def get(cls, db: HasRuntime, key: Any) -> Self | None:
        """The record with this key, or None. A query that asked reruns when this record comes or goes.

        Args:
            key: the value of the key field; of several, a tuple of their values.
        """
        _declared(cls)
        if len(cls._key_names) > 1 and (type(key) is not tuple or len(key) != len(cls._key_names)):
            raise TypeError(
                f"{label(cls)} has the key fields {listing(cls._key_names)}: "
                "its key is a tuple of their values."
            )
        found = cls._handle(db, key)
        return found if cls._data.find(db).contains(db, found) else None

    @classmethod
    def all(cls, db: HasRuntime) -> list[Self]:
        """All records, in order of insertion. A query that listed them reruns when one comes or goes."""
        handles: list[Self] = _declared(cls)._data.find(db).keys(db)
        return handles

    @classmethod
    def keys_ingredient(cls, db: HasRuntime) -> InternedIngredient[Any]:
        """The ingredient of `db` that interns the keys."""
        found: InternedIngredient[Any] = _declared(cls)._keys.find(db)
        return found

    @classmethod
    def data_ingredient(cls, db: HasRuntime) -> InputIngredient[Self, tuple[Any, ...]]:
        """The ingredient of `db` that holds the other fields: a tuple for each record, by handle."""
        found: InputIngredient[Self, tuple[Any, ...]] = _declared(cls)._data.find(db)
        return found

    def data(self, db: HasRuntime) -> Data:
        """All fields but the key fields, as one value.

        Raises:
            InputNotFoundError: the record was removed.
        """
        cls = type(self)
        return cls.Data(*cls._data.find(db).require(db, self))

    def set(self, /, db: HasRuntime, **fields: Any) -> Revision:
        """Set some of the fields, and return the `Revision` since which the record holds what it holds.

        Raises:
            InputNotFoundError: the record was removed.
            TypeError: there is no such field, or it is a key field.
        """
        cls = type(self)
        data: InputIngredient[Any, tuple[Any, ...]] = cls._data.find(db)
        try:
            return data.set_fields(db, self, fields)
        except LookupError:
            cls._check_names(fields)
            raise

    def remove(self, db: HasRuntime) -> bool:
        """Remove the record; whether it was there. Its key fields can still be read."""
        removed: bool = type(self)._data.find(db).remove(db, self)
        return removed

    def __repr__(self) -> str:
        cls = type(self)
        key = interned_value(cls._keys, self, MISSING)
        if key is MISSING:
            return f"{label(cls)}(id={self._id})"
        values = key if len(cls._key_names) > 1 else (key,)
        return f"{label(cls)}({', '.join(map(shown, values))})"

    # -- how a class is made

    @classmethod
    def _declare(cls) -> None:
        places = range(len(cls._fields))
        cls._key_places = tuple(i for i in places if cls._fields[i].is_key)
        cls._data_places = tuple(i for i in places if not cls._fields[i].is_key)
        keys = [cls._fields[i] for i in cls._key_places]
        data = [cls._fields[i] for i in cls._data_places]
        if not keys:
            raise TypeError(
                f"{label(cls)} has no key field. Mark what identifies a record, "
                f"`{cls._fields[0].name}: picante.KeyField[...]`, or derive from picante.Singleton."
            )
        cls._key_names = tuple(spec.name for spec in keys)
        cls._data_names = tuple(spec.name for spec in data)
        data_names = cls._data_names
        name, keys_name = cls._name, f"{cls._name}.keys"
        cls._keys = Binding(
            keys_name,
            "inputs",
            lambda: InternedIngredient(cls.keys_kind, keys_name, handle_kind=cls.data_kind),
        )
        cls._data = Binding(
            name, "inputs", lambda: InputIngredient(cls.data_kind, name, fields=data_names)
        )
        cls._keys.definition = cls._data.definition = cls
        cls.keys_kind = cls._keys.kind
        cls.data_kind = cls._kind = cls._data.kind
        for position, spec in enumerate(keys):
            add_getter(cls, spec, cls._keys, "key" if len(keys) == 1 else "key_item", position)
        for position, spec in enumerate(data):
            add_getter(cls, spec, cls._data, "field", position)
        cls.__signature__ = signature_of(cls)  # type: ignore[attr-defined]  # for `inspect` and `help`

    @classmethod
    def _bindings(cls) -> tuple[Binding, ...]:
        return (cls._keys, cls._data) if cls._fields else ()

    @classmethod
    def _key_of(cls, values: list[Any]) -> Any:
        places = cls._key_places
        return values[places[0]] if len(places) == 1 else tuple([values[i] for i in places])

    @classmethod
    def _check_names(cls, fields: Iterable[str]) -> None:
        """Refuse to set what is no field, or a key field."""
        for name in fields:
            if name in cls._key_names:
                raise TypeError(
                    f"{label(cls)}.{name} is a key field, which never changes: "
                    f"call `{usage(cls)}` for a record with another key."
                ) from None
            if name not in cls._data_names:
                raise unknown_field(cls, name, cls._data_names) from None

    @classmethod
    def _handle(cls, db: HasRuntime, key: Any) -> Self:
        try:
            return handle(cls, cls._keys.find(db).intern(key))
        except EncodeError as error:
            raise explained(error, cls, cls._key_names) from None


Input._root = Input


class Singleton(metaclass=RecordType, root=True):
    """An input of which there is one record.

    class Config(picante.Singleton):
        debug: picante.Field[bool]

    Config.set(db, debug=True)
    Config.debug(db)                # True, or None while it was never set
    """

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[Any, ...]]
        _name: ClassVar[str]
        kind: ClassVar[QueryKindId]
        data_kind: ClassVar[QueryKindId]
        _data: ClassVar[Binding]
        _data_names: ClassVar[tuple[str, ...]]

        class Data(_AnyData):
            """All fields: a frozen dataclass."""
    else:
        _reserved = ("kind", "data_kind")
        Data = ValueClass(keys=True, doc="What the record of {} holds.")

        def __new__(cls, *args, **kwargs):
            raise TypeError(
                f"{label(cls)} is a singleton, which has no handles: "
                f"use `{label(cls)}.set(db, ...)` and `{label(cls)}.get(db)`."
            )

    @classmethod
    def set(cls, db: HasRuntime, **fields: Any) -> Revision:
        """Set some of the fields (the first time all that have no default); return the `Revision` since which it holds.

        Raises:
            TypeError: there is no such field, or one is missing.
        """
        data: InputIngredient[Any, tuple[Any, ...]] = _declared(cls)._data.find(db)
        for name in fields:
            if name not in cls._data_names:
                raise unknown_field(cls, name, cls._data_names)
        if data.contains(db, ()):
            return data.set_fields(db, (), fields)
        values = [fields.get(spec.name, spec.default) for spec in cls._fields]
        missing = [spec.name for spec, v in zip(cls._fields, values, strict=True) if v is MISSING]
        if missing:
            raise missing_fields(cls, missing)
        return data.set(db, (), tuple(values))

    @classmethod
    def get(cls, db: HasRuntime) -> Data | None:
        """The record, or None while it was never set."""
        values = _declared(cls)._data.find(db).get(db, ())
        return None if values is None else cls.Data(*values)

    @classmethod
    def ingredient(cls, db: HasRuntime) -> InputIngredient[tuple[()], tuple[Any, ...]]:
        """The ingredient of `db` that holds the record: a tuple under the key `()`."""
        found: InputIngredient[tuple[()], tuple[Any, ...]] = _declared(cls)._data.find(db)
        return found

    data_ingredient = ingredient

    @classmethod
    def _declare(cls) -> None:
        keys = [spec.name for spec in cls._fields if spec.is_key]
        if keys:
            raise TypeError(
                f"{label(cls)} is a singleton, which has no key: make {listing(keys)} a plain field, "
                "or derive from picante.Input."
            )
        cls._data_names = tuple(spec.name for spec in cls._fields)
        name, names = cls._name, cls._data_names
        cls._data = Binding(name, "inputs", lambda: InputIngredient(cls.kind, name, fields=names))
        cls._data.definition = cls
        cls.kind = cls.data_kind = cls._data.kind
        for position, spec in enumerate(cls._fields):
            add_getter(cls, spec, cls._data, "singleton", position)

    @classmethod
    def _bindings(cls) -> tuple[Binding, ...]:
        return (cls._data,) if cls._fields else ()


Singleton._root = Singleton


def _declared(cls: Any) -> Any:
    """`cls`, if it has fields: a base class for others has none."""
    if not cls._fields:
        raise TypeError(
            f"{label(cls)} has no fields and so no records: it can only be a base class of others."
        )
    return cls


@overload
def input(cls: C, /) -> C: ...
@overload
def input(*, name: str | None = None) -> Callable[[C], C]: ...
def input(cls: Any = None, /, *, name: str | None = None) -> Any:
    """Make an input of a plain class: keyed where it has a `KeyField`, else a singleton.

    The same as deriving from `Input` or `Singleton`, which type checkers understand better: they ignore what the
    decorator of a class returns.

    Args:
        name: the full name, of which the kinds are made; by default that of the class.
    """
    if cls is None:
        return lambda cls: input_class(cls, name)
    return input_class(cls, name)


def input_class(cls: Any, name: str | None) -> Any:
    """The record class made of a plain one."""
    check_plain("picante.input", cls)
    return rebuilt(cls, RecordType, Input if has_key(cls) else Singleton, name=name)


def check_plain(decorator: str, cls: Any) -> None:
    """Refuse what a class decorator cannot make a record class of."""
    if isinstance(cls, RecordType):
        raise TypeError(
            f"{label(cls)} is a record class already, by its base class: leave `@{decorator}` away."
        )
    if not isinstance(cls, type):
        raise TypeError(
            f"`@{decorator}` decorates a class with annotated fields, not {cls!r}. "
            "For a function, use `@picante.tracked`."
        )
