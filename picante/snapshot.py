"""Snapshots: a database as it was at one revision, frozen (r[snapshot.creation]).

The class of a snapshot derives from that of its database, so that methods and properties are there, and takes over
the database's own attributes by reference. Only the runtime is another: one that reads at a fixed revision.
"""

from __future__ import annotations

import functools
import threading
import types
from typing import TYPE_CHECKING, Any, Never, Self

from picante._core.binding import label
from picante._core.runtime import Runtime

if TYPE_CHECKING:
    from picante._core.protocols import HasRuntime
    from picante.database import Database as _Base
else:
    _Base = object

__all__ = ["Snapshot"]


class Snapshot(_Base):
    """A database as it was at one revision, frozen.

    `Database.Snapshot` derives from it, and from `Database`. Reading it sees what the database held when the snapshot
    was taken, and what was valid then is a hit, whatever happens to the database. What else it is asked for is computed
    once for all snapshots of its revision. Interned values are those of the database, later ones included.

        async with await db.snapshot() as snap:
            before = await line_count(snap, file)

    What is kept for a snapshot only is freed when it is closed or dropped. Queries that run on it by then go on. If a
    query has failed on it, it is part of a cycle with the exception: dropped, it is freed by the garbage collector, and
    only after the next revision if the database was given that exception, too.
    """

    __slots__ = ()

    runtime: Runtime

    @classmethod
    async def from_database(cls, db: HasRuntime) -> Self:
        """The state of `db`, a database or another snapshot, as it is now.

        Takes any object that has a `picante.Runtime` as its `runtime`, and costs the same for any size of it.

        Raises:
            TypeError: `db` is no database, or not one that this snapshot class is for.
            SnapshotClosedError: `db` is a snapshot that has been closed.
        """
        runtime = getattr(db, "runtime", None)
        if not isinstance(runtime, Runtime):
            raise TypeError(
                f"Snapshots are taken of databases, which have a picante.Runtime as their `runtime`, not of {db!r}."
            )
        made = snapshot_class(type(db))
        if issubclass(cls, made):
            made = cls
        elif not issubclass(made, cls) and not (
            "runtime" in vars(cls) and issubclass(made, cls.__bases__[1])
        ):
            raise TypeError(
                f"{label(cls)} holds snapshots of another class than {label(type(db))}: "
                "use `await db.snapshot()`, or `picante.Snapshot.from_database(db)`."
            )
        snap: Self = new_object(made)
        copy_attributes(db, snap)
        vars(made_for_databases(made))["runtime"].__set__(snap, runtime.snapshot())
        return snap

    async def snapshot(self) -> Self:
        """Another snapshot of the same revision, with an end of its own."""
        return await type(self).from_database(self)

    def close(self) -> None:
        """End the snapshot: reading it is a `SnapshotClosedError` from here on. Closing it twice is fine."""
        self.runtime.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Not that of the database's class, which knows of its own subclasses only."""

    def __del__(self) -> None:
        """Not that of the database's class: what a snapshot holds is the database's."""

    def __repr__(self) -> str:
        end = ", closed" if self.runtime.is_closed else ""
        return f"<{label(type(self))} at revision {self.runtime.current_revision}{end}>"

    def __reduce__(self) -> Never:
        raise TypeError(
            f"A {label(type(self))} cannot be pickled or copied: it is a view of a live database."
        )


_making = threading.RLock()  # reentrant: making a class runs code of its metaclass
_made_for_static: dict[type, Any] = {}  # classes that take no attributes; they live for ever
_slots_of_static: dict[type, tuple[types.MemberDescriptorType, ...]] = {}


def snapshot_class(cls: type) -> Any:
    """The class of the snapshots of databases of class `cls`; made once (r[macro.db.snapshot])."""
    if issubclass(cls, Snapshot):
        return cls
    with _making:
        made = cls.__dict__.get("_picante_snapshot_class", _made_for_static.get(cls))
        if made is None:
            made = _make_snapshot_class(cls)
        return made


def _make_snapshot_class(cls: type) -> Any:
    namespace = {
        "__module__": cls.__module__,
        "__qualname__": f"{cls.__qualname__}Snapshot",
        "__doc__": f"A {cls.__qualname__} as it was at one revision, frozen.",
        "__slots__": ("runtime",),  # found before whatever the class itself calls so
    }
    made = types.new_class(
        f"{cls.__name__}Snapshot",
        (Snapshot, cls),
        exec_body=lambda body: body.update(namespace),
    )
    try:
        type.__setattr__(cls, "_picante_snapshot_class", made)
    except TypeError:
        _made_for_static[cls] = made
    return made


class SnapshotClass:
    """`Database.Snapshot`: for each class of databases the class of its snapshots."""

    def __get__(self, db: object, cls: type) -> Any:
        return snapshot_class(cls)


def made_for_databases(cls: type) -> type:
    """The class that `snapshot_class` made, of which `cls` may be derived."""
    return next(base for base in cls.__mro__ if "runtime" in vars(base))


def new_object(cls: type) -> Any:
    """An empty instance: no `__new__` and no `__init__` of the user's is called."""
    for base in cls.__mro__:
        new: Any = base.__dict__.get("__new__")
        if isinstance(new, types.BuiltinMethodType):
            break
    return new(cls)


def copy_attributes(db: object, snap: object) -> None:
    """Give `snap` what `db` holds, by reference and past all code of the user's.

    Without the runtime, and without what the database has derived from itself and keeps (`functools.cached_property`).
    """
    for slot in _slots_of(type(db)):
        try:
            slot.__set__(snap, slot.__get__(db))
        except (AttributeError, TypeError):  # a slot that is empty, or that is read-only
            pass
    for name, value in getattr(db, "__dict__", {}).items():
        derived = isinstance(getattr(type(db), name, None), functools.cached_property)
        if name != "runtime" and not derived:
            snap.__dict__[name] = value


def _slots_of(cls: type) -> tuple[types.MemberDescriptorType, ...]:
    """The slots of `cls` and its bases; looked for once, for slots are there when a class is made, or never."""
    slots: tuple[types.MemberDescriptorType, ...] | None
    slots = cls.__dict__.get("_picante_slots", _slots_of_static.get(cls))
    if slots is None:
        slots = tuple(
            member
            for base in cls.__mro__
            if not issubclass(base, Snapshot)
            for member in vars(base).values()
            if isinstance(member, types.MemberDescriptorType)
        )
        try:
            type.__setattr__(cls, "_picante_slots", slots)
        except TypeError:
            _slots_of_static[cls] = slots
    return slots
