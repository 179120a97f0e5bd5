"""Identifiers and handles: the numbers that stand for things (r[revision.type], r[kind.*], r[interned.id-type]).

All of them are small, immutable values that are hashed and compared in C.
"""

from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from libc.stdint cimport uint32_t, uint64_t

__all__ = ["Handle", "InternId", "QueryKindId", "Revision", "RuntimeId", "handle"]


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    void PyObject_GC_UnTrack(void* tracked) noexcept
    int PyObject_IS_GC(object tracked) noexcept


# --- FNV-1a --------------------------------------------------------------------------------------------
# http://www.isthe.com/chongo/tech/comp/fnv/

cdef uint32_t fnv1a_32(const unsigned char* data, Py_ssize_t length) noexcept nogil:
    cdef uint32_t result = 2166136261u
    cdef Py_ssize_t i
    for i in range(length):
        result = (result ^ data[i]) * 16777619u
    return result


cdef uint64_t fnv1a_64(const unsigned char* data, Py_ssize_t length) noexcept nogil:
    cdef uint64_t result = 14695981039346656037u
    cdef Py_ssize_t i
    for i in range(length):
        result = (result ^ data[i]) * 1099511628211u
    return result


# --- Identifiers ---------------------------------------------------------------------------------------

class _Identifier(int):
    """What the four kinds of number have in common: an unsigned range, and a name in their `repr`."""

    __slots__ = ()
    _maximum = 0

    def __new__(cls, value):
        cdef uint64_t number
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{cls.__name__} takes an int, not {type(value).__name__}.")
        try:
            number = value
        except OverflowError:
            pass
        else:
            if number <= <uint64_t> cls._maximum:
                return make_identifier(cls, number)
        # No digits of the value: turning a hostile number of them into text is refused by Python.
        raise ValueError(f"{cls.__name__} is out of range: it must be from 0 to {cls._maximum}.")

    def __repr__(self):
        return f"{type(self).__name__}({int.__repr__(self)})"

    def __str__(self):
        return int.__repr__(self)


class Revision(_Identifier):
    """The number of a state of a database, from 0 to 2**64 - 1 (r[revision.type]).

    >>> Revision(3)
    Revision(3)
    >>> Revision(3) == 3 and Revision(3) + 1 == 4
    True
    """

    __slots__ = ()
    _maximum = 0xFFFF_FFFF_FFFF_FFFF


class QueryKindId(_Identifier):
    """Which ingredient a query or record belongs to: a 32-bit hash of its name (r[kind.type]).

    >>> QueryKindId.from_str("")
    QueryKindId(2166136261)
    """

    __slots__ = ()
    _maximum = 0xFFFF_FFFF

    @staticmethod
    def from_str(str name not None):
        """The kind of a name: FNV-1a over its UTF-8, the same everywhere (r[kind.hash], r[kind.stability])."""
        cdef Py_ssize_t size
        cdef const char* text = PyUnicode_AsUTF8AndSize(name, &size)
        return kind_id(fnv1a_32(<const unsigned char*> text, size))


class InternId(_Identifier):
    """The small number that stands for an interned value in one database (r[interned.id-type]).

    >>> InternId(7)
    InternId(7)
    """

    __slots__ = ()
    _maximum = 0xFFFF_FFFF


class RuntimeId(_Identifier):
    """Which family of a database and its snapshots a runtime belongs to, in this process (r[snapshot.runtime-id]).

    >>> RuntimeId(1)
    RuntimeId(1)
    """

    __slots__ = ()
    _maximum = 0xFFFF_FFFF_FFFF_FFFF


# The classes as this module made them: a global of that name can be looked up only in a dict.
cdef object _Revision = Revision
cdef object _QueryKindId = QueryKindId
cdef object _InternId = InternId


cdef object make_identifier(object cls, uint64_t number):
    """A `_Identifier`, without the call and the checks of its `__new__`."""
    cdef tuple args = (number,)
    cdef object made = (<PyTypeObject*> int).tp_new(<type> cls, <PyObject*> args, NULL)
    _hide(made, <PyTypeObject*> int)
    return made


cdef inline void _hide(object made, PyTypeObject* base) noexcept:
    """Hide what refers to nothing but its class from the garbage collector.

    A million of them would make each full collection slower, and could only keep a class alive that has one of its own
    instances as an attribute.
    """
    cdef PyTypeObject* slots = Py_TYPE(made)
    if slots.tp_basicsize == base.tp_basicsize and slots.tp_dictoffset == 0 and PyObject_IS_GC(made):
        PyObject_GC_UnTrack(<void*> made)


cdef object revision(uint64_t value):
    return make_identifier(_Revision, value)


cdef object kind_id(uint32_t value):
    return make_identifier(_QueryKindId, value)


cdef object intern_id(uint32_t value):
    return make_identifier(_InternId, value)


# --- Handles -------------------------------------------------------------------------------------------

cdef class Handle:
    """A record of a database, as users hold it: its class, and a number. The base of all record classes.

    Small, immutable, equal to the same class and id only, hashed and compared in C. A subclass that says
    ``__slots__ = ()`` keeps it so: without a ``__dict__``, and invisible to the garbage collector.
    """

    _kind = None  # the QueryKindId of the records, which the decorators set

    @property
    def id(self):
        """The record's number in its database, an `InternId`."""
        return intern_id(self._id)

    def __eq__(self, other):
        if Py_TYPE(self) is not Py_TYPE(other):
            return NotImplemented
        return self._id == (<Handle> other)._id

    def __hash__(self):
        # Neighbouring ids of one class must not collide with those of the class that was made next to it.
        cdef uint64_t mixed = (<uint64_t> <size_t> Py_TYPE(self) >> 4) * 0x9E3779B97F4A7C15u + self._id
        return <Py_hash_t> (mixed ^ (mixed >> 32))

    def __repr__(self):
        return f"{type(self).__qualname__}(id={self._id})"

    def __reduce__(self):
        return handle, (type(self), self._id)


cdef Handle new_handle(object cls, uint32_t id):
    if not issubclass(cls, Handle):
        raise TypeError(f"{cls.__qualname__} is no record class: it does not derive from Handle.")
    cdef Handle made = (<PyTypeObject*> Handle).tp_new(<type> cls, <PyObject*> (), NULL)
    made._id = id
    _hide(made, <PyTypeObject*> Handle)
    return made


def handle(cls, uint32_t id):
    """The handle of record number `id`, for code in Python and for `pickle`.

    >>> class SourceFile(Handle):
    ...     __slots__ = ()
    >>> handle(SourceFile, 3)
    SourceFile(id=3)
    """
    return new_handle(cls, id)
