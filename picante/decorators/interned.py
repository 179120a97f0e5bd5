"""Interned records: immutable values that have a small number (r[macro.interned.purpose])."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from picante._core.binding import Binding, label
from picante._core.errors import EncodeError
from picante._core.ids import QueryKindId, handle
from picante._core.interned import InternedIngredient
from picante._core.protocols import HasRuntime
from picante._core.record import interned_value
from picante.decorators.fields import (
    MISSING,
    RecordType,
    ValueClass,
    add_getter,
    bind,
    explained,
    rebuilt,
    shown,
    signature_of,
)
from picante.decorators.input import Record, _AnyData, _declared, check_plain

__all__ = ["Interned", "interned"]

C = TypeVar("C", bound=type)


class Interned(Record, metaclass=RecordType, root=True):
    """A value that is kept once in each database, and stands for itself from then on.

        class CharSet(picante.Interned):
            chars: picante.Field[tuple[str, ...]]

        vowels = CharSet(db, chars=("a", "e", "i", "o", "u"))
        vowels == CharSet(db, ("a", "e", "i", "o", "u"))        # True: the same handle, compared by its number

    Its fields hold what keys may hold. Interning is allowed inside queries, and begins no revision.
    """

    if TYPE_CHECKING:
        db: InitVar[HasRuntime]
        kind: ClassVar[QueryKindId]
        _values: ClassVar[Binding]

        class Value(_AnyData):
            """All fields: a frozen dataclass."""
    else:
        _reserved = ("kind",)
        Value = ValueClass(keys=True, doc="The value that a {} stands for.")

        def __new__(cls, /, *args, **kwargs):
            db, values = bind(_declared(cls), args, kwargs)
            try:
                return handle(cls, cls._values.find(db).intern_fields(tuple(values)))
            except EncodeError as error:
                raise explained(error, cls, ()) from None

    @classmethod
    def ingredient(cls, db: HasRuntime) -> InternedIngredient[Value]:
        """The ingredient of `db` that holds the values."""
        found: InternedIngredient[Any] = _declared(cls)._values.find(db)
        return found

    def value(self, db: HasRuntime) -> Value:
        """All fields, as one value."""
        value: Interned.Value = type(self)._values.find(db).get(db, self.id)
        return value

    def __repr__(self) -> str:
        cls = type(self)
        value = interned_value(cls._values, self, MISSING)
        if value is MISSING:
            return f"{label(cls)}(id={self._id})"
        return (
            f"{label(cls)}({', '.join([shown(getattr(value, spec.name)) for spec in cls._fields])})"
        )

    @classmethod
    def _declare(cls) -> None:
        keys = [spec.name for spec in cls._fields if spec.is_key]
        if keys:
            raise TypeError(
                f"{label(cls)}.{keys[0]} cannot be a key field: all fields of an interned value identify it. "
                "Make it a picante.Field."
            )
        name = cls._name
        cls._values = Binding(
            name, "interned", lambda: InternedIngredient(cls.kind, name, record_type=cls.Value)
        )
        cls._values.definition = cls
        cls.kind = cls._kind = cls._values.kind
        for position, spec in enumerate(cls._fields):
            add_getter(cls, spec, cls._values, "attribute", position)
        cls.__signature__ = signature_of(cls)  # type: ignore[attr-defined]  # for `inspect` and `help`

    @classmethod
    def _bindings(cls) -> tuple[Binding, ...]:
        return (cls._values,) if cls._fields else ()


Interned._root = Interned


@overload
def interned(cls: C, /) -> C: ...
@overload
def interned(*, name: str | None = None) -> Callable[[C], C]: ...
def interned(cls: Any = None, /, *, name: str | None = None) -> Any:
    """Make an interned record of a plain class: the same as deriving from `Interned`.

    Args:
        name: the full name, of which the kind is made; by default that of the class.
    """

    def make(cls: Any) -> Any:
        check_plain("picante.interned", cls)
        return rebuilt(cls, RecordType, Interned, name=name)

    return make if cls is None else make(cls)
