"""Identifiers, handles and keys: a value's canonical bytes, and back (r[kind.*], r[key.*]).

The invariant of this module: **two keys have equal bytes if and only if they are the same typed value**.
``1``, ``1.0`` and ``True`` are three keys, ``(1, 2)`` is one however it came about. Everything else that
asks whether two keys are the same, in memory, in a cache file or in another process, rests on it.

The encoding is MessagePack in its shortest form, so that any MessagePack reader can show a key:

==============================  =========================================================================
value                           encoding
==============================  =========================================================================
``None``, ``bool``              nil, false, true
``int`` of 64 bits              the shortest integer: unsigned from 0 on, signed below
``float``                       float 64; every NaN is ``7ff8000000000000``
``str``, ``bytes``              str (UTF-8), bin
``tuple``                       array
anything else                   an extension type, whose content is MessagePack again, except for 1, 2, 7
==============================  =========================================================================

====  =====================  ============================================================================
code  extension              content
====  =====================  ============================================================================
1     larger ``int``         two's complement, big-endian, shortest
2     ``str`` with lone      UTF-8, with each surrogate encoded as if it were a character
      surrogates
3     ``frozenset``          the elements, ordered by their encodings
4     ``Enum`` member        the class; the member's name, or the number of an unnamed ``Flag`` combination
5     frozen dataclass       the class; a 32-bit hash of the names of its fields; all its fields, whatever
                             their ``init=`` and ``compare=``
6     named tuple            the class; a 32-bit hash of the names of its fields; its elements
7     picante handle         its kind and its id, each as 4 bytes, big-endian
8     ``date``               year, month, day
9     ``time``               hour, minute, second, microsecond, fold, zone
10    ``datetime``           year, month, day, hour, minute, second, microsecond, fold, zone
11    ``timedelta``          days, seconds, microseconds
12    ``UUID``               16 bytes
13    path                   the class, ``PurePosixPath`` say; the path
14    ``Decimal``            its text, which keeps trailing zeros and what a NaN carries
====  =====================  ============================================================================

A class is ``module.qualname``; a zone is nil, the name of a ``ZoneInfo``, or any other zone's offset in
microseconds. The hash of the field names makes a class whose fields were renamed or reordered another one,
instead of one in which stored values mean something else.

Types are exact: a subclass of ``str`` would come back as something else. Nothing nests deeper than 64.

Decoding trusts nothing. It refuses every form that encoding does not produce (where an extension occurs, by
encoding the result again), allocates in proportion to the bytes that are there, imports nothing by name,
and runs neither ``__init__`` nor ``__post_init__``. The classes it may produce are those that the database
knows, that were registered here, or that were encoded by this process.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_FromVoidPtr
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport (
    PyObject, PyObject_GenericSetAttr, PyObject_Hash, PyTypeObject, Py_TPFLAGS_HEAPTYPE, Py_TYPE,
)
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from enum import EnumMeta, Flag
from weakref import ref as WeakRef

from picante._core.errors import DecodeError, EncodeError

__all__ = [
    "Dep",
    "DynKey",
    "Handle",
    "InternId",
    "Key",
    "QueryKindId",
    "Revision",
    "RuntimeId",
    "handle",
    "register_class",
    "register_handle_class",
]


cdef extern from "Python.h":
    void PyObject_GC_UnTrack(void* tracked) noexcept
    int PyObject_IS_GC(object tracked) noexcept
    const Py_ssize_t PY_SSIZE_T_MAX
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)


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
    return (<PyTypeObject*> int).tp_new(<type> cls, <PyObject*> args, NULL)


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
    cdef PyTypeObject* slots = Py_TYPE(made)
    cdef bint is_bare = slots.tp_basicsize == (<PyTypeObject*> Handle).tp_basicsize and slots.tp_dictoffset == 0
    if is_bare and PyObject_IS_GC(made):
        # Its class is all that it refers to. A million handles would make each full collection slower, and could
        # only keep a class alive that has one of its own handles as an attribute.
        PyObject_GC_UnTrack(<void*> made)
    return made


def handle(cls, uint32_t id):
    """The handle of record number `id`, for code in Python and for `pickle`.

    >>> class SourceFile(Handle):
    ...     __slots__ = ()
    >>> handle(SourceFile, 3)
    SourceFile(id=3)
    """
    return new_handle(cls, id)


cdef bint is_plain_object(object key) noexcept:
    cdef Py_ssize_t budget = 32
    return is_plain(key, 4, &budget)


cdef bint is_plain(object key, int depth, Py_ssize_t* budget) noexcept:
    """`is_plain_key`, for tuples of at most `budget` objects in all that nest at most `depth` deep.

    Larger ones are encoded, which costs them little more than hashing them each time. `bool` and `float` are
    not plain because they equal integers; `bytes` are not because `python -bb` lets them refuse a comparison.
    """
    cdef Py_ssize_t i
    if type(key) is str or type(key) is int or key is None:
        return True
    if isinstance(key, Handle):
        # A subclass that overrides either would run user code, or equal what is not the same.
        return (
            Py_TYPE(key).tp_hash is (<PyTypeObject*> Handle).tp_hash
            and Py_TYPE(key).tp_richcompare is (<PyTypeObject*> Handle).tp_richcompare
        )
    if not PyTuple_CheckExact(key) or depth == 0:
        return False
    budget[0] -= PyTuple_GET_SIZE(key)
    if budget[0] < 0:
        return False
    for i in range(PyTuple_GET_SIZE(key)):
        if not is_plain(<object> PyTuple_GET_ITEM(key, i), depth - 1, budget):
            return False
    return True


# --- Known classes -------------------------------------------------------------------------------------
# How values of a class are written is found once for each class, and kept while the class lives.

cdef enum:
    # The codes of the extension types: part of the format of cache files, never to be given another meaning.
    BIG_INT = 1
    SURROGATE_STR = 2
    FROZENSET = 3
    ENUM = 4
    DATACLASS = 5
    NAMED_TUPLE = 6
    HANDLE = 7
    DATE = 8
    TIME = 9
    DATETIME = 10
    TIMEDELTA = 11
    UUID = 12
    PATH = 13
    DECIMAL = 14

    MAX_DEPTH = 64


@cython.final
cdef class Plan:
    """How values of one class are written."""

    cdef object cls  # only for classes of the standard library; users' classes are not kept alive
    cdef int code
    cdef str name  # module.qualname
    cdef uint32_t shape  # the hash of `fields`; of handles: their kind
    cdef tuple fields  # the names of the fields, of a dataclass or named tuple


class ClassRef(WeakRef):
    """A weak reference to a user's class that knows what to forget when the class is gone."""

    __slots__ = ("address", "label")


# By address, because a metaclass may have a `__hash__` and an `__eq__` of its own; an address is reused only
# after the class has died, and `forget` has run. The values: Plan.
cdef dict _plans = {}

# The classes that this process has encoded or registered: `module.qualname` (str) or, for handles, kind (int)
# -> list of ClassRef.
cdef dict _known = {}

# Class -> text that says what to use instead.
cdef dict _hints = {
    list: "use a tuple",
    set: "use a frozenset",
    dict: "use a tuple of pairs, or a frozen dataclass",
    bytearray: "use bytes",
    memoryview: "use bytes",
}

# What `type` itself knows of a class, whatever its metaclass says.
cdef object _namespace = type.__dict__["__dict__"].__get__
cdef object _mro = type.__dict__["__mro__"].__get__
cdef object _module = type.__dict__["__module__"].__get__
cdef object _qualname = type.__dict__["__qualname__"].__get__


cdef object address_of(object cls):
    return PyLong_FromVoidPtr(<void*> cls)


def forget(class_ref):
    _plans.pop(class_ref.address, None)
    refs = _known.get(class_ref.label)
    if refs is not None and class_ref in refs:
        refs.remove(class_ref)
        if not refs:
            del _known[class_ref.label]


cdef int remember(object cls, object label) except -1:
    """Let decoding find `cls` as `label`: a class's name, or a handle's kind."""
    cdef list refs = _known.setdefault(label, [])
    for known in refs:
        if known() is cls:
            return 0
    class_ref = ClassRef(cls, forget)
    class_ref.address = address_of(cls)
    class_ref.label = label
    refs.append(class_ref)
    return 0


cdef object find_class(object label, object db, str finder_name):
    """The class that is known as `label`: to `db`, or else to this process."""
    if db is not None:
        finder = getattr(db, finder_name, None)
        if finder is not None:
            found = finder(label)
            if found is not None:
                return found
    classes = [cls for cls in [class_ref() for class_ref in _known.get(label, ())] if cls is not None]
    if len(classes) == 1:
        return classes[0]
    what = f"a class, {label[:200]}" if type(label) is str else f"a record of kind_{label}"
    known = f"and this process knows {len(classes)} of that name" if classes else "which this process does not know"
    raise DecodeError(f"The key names {what}, {known}: decode it with its database, `key.decode(db)`.")


def register_class(cls):
    """Let keys that name `cls` decode in this process: an `Enum`, a frozen dataclass or a named tuple.

    Encoding a value of the class does the same. The class is not kept alive. `EncodeError` if values of the
    class cannot be keys.
    """
    if plan_of(cls) is None:
        raise EncodeError(type_name=type_name(cls), place="The class", hint=hint_for(cls))


def register_handle_class(kind, cls):
    """Let keys that hold a handle of `kind` decode, to instances of `cls`, which is not kept alive."""
    if not issubclass(cls, Handle):
        raise TypeError(f"{cls.__qualname__} is no record class: it does not derive from Handle.")
    remember(cls, int(QueryKindId(kind)))


cdef Plan plan_of(object cls):
    """How values of `cls` are written; None if they cannot be keys."""
    cdef Plan plan = _plans.get(address_of(cls))
    if plan is None:
        if not _standard_modules_loaded:
            load_standard_classes()
            return plan_of(cls)
        plan = make_plan(cls)
        if plan is not None:
            remember(cls, plan.shape if plan.code == HANDLE else plan.name)
            _plans[address_of(cls)] = plan
    return plan


cdef Plan make_plan(object cls):
    cdef Plan plan = Plan()
    module, qualname = _module(cls), _qualname(cls)
    if type(module) is not str:
        return None
    plan.name = f"{module}.{qualname}"
    if issubclass(cls, Handle):
        # Its own, not an inherited one: a subclass's handle must not come back as one of its base class.
        kind = _namespace(cls).get("_kind")
        if kind is None:
            return None
        plan.code = HANDLE
        plan.shape = kind
        return plan
    if issubclass(type(cls), EnumMeta):
        plan.code = ENUM
        return plan
    if issubclass(cls, tuple):
        plan.code = NAMED_TUPLE
        plan.fields = named_tuple_fields(cls)
    else:
        plan.code = DATACLASS
        plan.fields = frozen_dataclass_fields(cls)
    if plan.fields is None:
        return None
    text = "\0".join(plan.fields).encode("utf-8", "surrogatepass")
    plan.shape = fnv1a_32(<const unsigned char*> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return plan


cdef object inherited(object cls, str name):
    """A class attribute, found without asking a metaclass."""
    for base in <tuple> _mro(cls):
        namespace = _namespace(base)
        if name in namespace:
            return namespace[name]
    return None


cdef tuple named_tuple_fields(object cls):
    """The field names of a named tuple; None for any other subclass of `tuple`."""
    fields = inherited(cls, "_fields")
    if type(fields) is not tuple:
        return None
    for name in <tuple> fields:
        if type(name) is not str:
            return None
    return fields


cdef tuple frozen_dataclass_fields(object cls):
    """The field names of a frozen dataclass all of whose state is in its fields; None for any other class."""
    from dataclasses import fields

    if getattr(inherited(cls, "__dataclass_params__"), "frozen", False) is not True or foreign_base(cls) is not None:
        return None
    return tuple([field.name for field in fields(cls)])


cdef object foreign_base(object cls):
    """The built-in type, if any, that a class derives from, and that holds state besides its attributes."""
    for base in <tuple> _mro(cls):
        if base is not object and not (<PyTypeObject*> base).tp_flags & Py_TPFLAGS_HEAPTYPE:
            return base
    return None


cdef str type_name(object cls):
    """How an error message calls a class."""
    module, qualname = _module(cls), _qualname(cls)
    return qualname if module == "builtins" else f"{module}.{qualname}"


cdef str hint_for(object cls):
    """What to use instead of a value of a class that cannot be a key; None if there is nothing to say."""
    for builtin, hint in _hints.items():
        if cls is builtin:
            return hint
    if issubclass(cls, Handle):
        return "its class belongs to no ingredient: declare it with `@picante.input` or `@picante.interned`"
    params = inherited(cls, "__dataclass_params__")
    base = foreign_base(cls)
    if getattr(params, "frozen", True) is not True:
        return "freeze it, with `@dataclass(frozen=True)`"
    if base is not None and base is not cls:
        what = "it holds more than its fields" if params is not None else "only exact types are allowed"
        return f"it derives from `{base.__name__}`, and {what}; use a `{base.__name__}`, or a frozen dataclass with one"
    return None


# --- The standard library's classes --------------------------------------------------------------------

cdef bint _standard_modules_loaded = False
cdef object _date, _time, _datetime, _timedelta, _timezone, _ZoneInfo, _UUID, _Decimal
cdef dict _paths = {}  # class name -> class
cdef object NO_ZONE = object()


cdef int load_standard_classes() except -1:
    """Import what defines them. They are not needed before the first key that is not of a built-in type."""
    global _standard_modules_loaded, _date, _time, _datetime, _timedelta, _timezone, _ZoneInfo, _UUID, _Decimal
    import datetime
    import decimal
    import pathlib
    import uuid
    import zoneinfo

    _date, _time, _datetime = datetime.date, datetime.time, datetime.datetime
    _timedelta, _timezone, _ZoneInfo = datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo
    _UUID, _Decimal = uuid.UUID, decimal.Decimal
    add_standard_class(_date, DATE)
    add_standard_class(_time, TIME)
    add_standard_class(_datetime, DATETIME)
    add_standard_class(_timedelta, TIMEDELTA)
    add_standard_class(_UUID, UUID)
    add_standard_class(_Decimal, DECIMAL)
    for path in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath):
        add_standard_class(path, PATH)
        _paths[path.__name__] = path
    _standard_modules_loaded = True
    return 0


cdef int add_standard_class(object cls, int code) except -1:
    cdef Plan plan = Plan()
    plan.cls = cls
    plan.code = code
    plan.name = cls.__name__
    _plans[address_of(cls)] = plan
    return 0


cdef tuple parts_of(int code, object value):
    """What a value of one of the standard library's classes is written as."""
    if code == DATE:
        return value.year, value.month, value.day
    if code == TIME:
        return value.hour, value.minute, value.second, value.microsecond, value.fold, zone_of(value)
    if code == DATETIME:
        return (
            value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond,
            value.fold, zone_of(value),
        )
    if code == TIMEDELTA:
        return value.days, value.seconds, value.microseconds
    if code == UUID:
        return value.bytes,
    if code == PATH:
        return type(value).__name__, str(value)
    assert code == DECIMAL
    return str(value).replace("e", "E"),  # the letter follows the caller's decimal context


cdef object zone_of(object value):
    """None, the name of a `ZoneInfo`, or any other zone's offset in microseconds; NO_ZONE if it gives none."""
    zone = value.tzinfo
    if zone is None:
        return None
    if type(zone) is _ZoneInfo and type(zone.key) is str:
        return zone.key
    offset = value.utcoffset()
    return NO_ZONE if offset is None else offset // _timedelta(microseconds=1)


cdef object from_parts(int code, list parts):
    """The inverse of `parts_of`. Raises one of `BAD_PARTS` if the parts make no sense."""
    for part in parts:
        # Only plain values: a user's object could have a `__fspath__`, or an `__index__`.
        if type(part) is not int and type(part) is not str and type(part) is not bytes and part is not None:
            raise TypeError("its parts are of the wrong type")
    if code == DATE:
        return _date(*parts)
    if code == TIME:
        hour, minute, second, microsecond, fold, zone = parts
        return _time(hour, minute, second, microsecond, zone_from(zone), fold=fold)
    if code == DATETIME:
        year, month, day, hour, minute, second, microsecond, fold, zone = parts
        return _datetime(year, month, day, hour, minute, second, microsecond, zone_from(zone), fold=fold)
    if code == TIMEDELTA:
        return _timedelta(*parts)
    if code == UUID:
        number, = parts
        if type(number) is not bytes or len(number) != 16:
            raise ValueError("a UUID has 16 bytes")
        return _UUID(bytes=number)
    if code == PATH:
        name, path = parts
        return _paths[name](path)
    assert code == DECIMAL
    text, = parts
    return _Decimal(text)


cdef object zone_from(object zone):
    if zone is None:
        return None
    if type(zone) is str:
        return _ZoneInfo(zone)
    return _timezone(_timedelta(microseconds=zone))


# What constructors of the standard library raise for arguments that make no sense. NotImplementedError: a
# `WindowsPath` on another system. OSError: a zone of the name of a directory.
cdef tuple BAD_PARTS = (ValueError, TypeError, LookupError, ArithmeticError, OSError, NotImplementedError)


# --- Encoding ------------------------------------------------------------------------------------------

cdef struct Place:
    # Where the value that is being written stands in the key: a list in the callers' frames, from the inside out,
    # which costs nothing until an error message needs it.
    const Place* outer
    Py_ssize_t index  # in a tuple; -1: in a frozenset
    void* name  # the field of a dataclass or named tuple, borrowed from its Plan; else NULL
    int depth


cdef struct Out:
    # A growing buffer. The first bytes stand in the caller's frame: most keys need no more.
    unsigned char* data
    Py_ssize_t used
    Py_ssize_t size
    unsigned char[128] first


cdef bytes encode_key(object value):
    """The canonical encoding of `value` (r[key.encoding])."""
    cdef Out out
    cdef Place root
    root.outer = NULL
    root.index = 0
    root.name = NULL
    root.depth = 0
    out.data = out.first
    out.used = 0
    out.size = sizeof(out.first)
    try:
        write(&out, value, &root)
        return PyBytes_FromStringAndSize(<const char*> out.data, out.used)
    finally:
        if out.data is not out.first:
            PyMem_Free(out.data)


cdef int reserve(Out* out, Py_ssize_t extra) except -1:
    """Make room for `extra` more bytes."""
    cdef Py_ssize_t size = out.size
    cdef unsigned char* data
    if extra <= size - out.used:
        return 0
    if extra > PY_SSIZE_T_MAX // 4 - out.used:
        raise MemoryError
    while size - out.used < extra:
        size *= 2
    if out.data is out.first:
        data = <unsigned char*> PyMem_Malloc(size)
        if data is not NULL:
            memcpy(data, out.first, out.used)
    else:
        data = <unsigned char*> PyMem_Realloc(out.data, size)
    if data is NULL:
        raise MemoryError
    out.data = data
    out.size = size
    return 0


cdef inline void put_number(unsigned char* data, uint64_t number, int width) noexcept nogil:
    """The low `width` bytes of a number, the highest first."""
    while width:
        width -= 1
        data[0] = <unsigned char> (number >> (8 * width))
        data += 1


cdef int write_number(Out* out, unsigned char tag, uint64_t number, int width) except -1:
    reserve(out, 1 + width)
    out.data[out.used] = tag
    put_number(out.data + out.used + 1, number, width)
    out.used += 1 + width
    return 0


cdef int write_bytes(Out* out, const void* data, Py_ssize_t size) except -1:
    reserve(out, size)
    memcpy(out.data + out.used, data, size)
    out.used += size
    return 0


cdef int write_head(Out* out, int small, int small_limit, int tag8, int tag16, Py_ssize_t size) except -1:
    """The shortest head of `size` bytes or elements. `small`: the tag that contains the size; `tag8` may be 0."""
    if size < small_limit:
        return write_number(out, <unsigned char> (small | size), 0, 0)
    if size <= 0xFF and tag8:
        return write_number(out, <unsigned char> tag8, size, 1)
    if size <= 0xFFFF:
        return write_number(out, <unsigned char> tag16, size, 2)
    if size <= 0xFFFF_FFFF:
        return write_number(out, <unsigned char> (tag16 + 1), size, 4)
    raise EncodeError("A part of the key is longer than 4 GiB, which its encoding cannot express.")


cdef int write(Out* out, object value, const Place* place) except -1:
    """Append the encoding of one value."""
    cls = type(value)
    cdef Plan plan
    if cls is str:
        return write_str(out, value)
    if cls is int:
        return write_int(out, value)
    if cls is tuple:
        write_head(out, 0x90, 16, 0, 0xDC, PyTuple_GET_SIZE(value))
        return write_elements(out, value, None, place)
    if value is None:
        return write_number(out, 0xC0, 0, 0)
    if value is True or value is False:
        return write_number(out, 0xC3 if value is True else 0xC2, 0, 0)
    if cls is bytes:
        write_head(out, 0, 0, 0xC4, 0xC5, PyBytes_GET_SIZE(value))
        return write_bytes(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if cls is float:
        return write_float(out, value)
    if cls is frozenset:
        return write_frozenset(out, value, place)
    plan = plan_of(cls)
    if plan is None:
        raise refusal(cls, place, hint_for(cls))
    return write_planned(out, value, plan, place)


cdef int write_str(Out* out, str text) except -1:
    cdef Py_ssize_t size, start
    cdef const char* utf8
    try:
        utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        start = out.used
        data = text.encode("utf-8", "surrogatepass")
        write_bytes(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return close_extension(out, start, SURROGATE_STR)
    write_head(out, 0xA0, 32, 0xD9, 0xDA, size)
    return write_bytes(out, utf8, size)


cdef int write_int(Out* out, object number) except -1:
    cdef int overflow
    cdef int64_t small = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow == 0:
        if small >= 0:
            return write_unsigned(out, small)
        if small >= -32:
            return write_number(out, <unsigned char> (small & 0xFF), 0, 0)
        if small >= -0x80:
            return write_number(out, 0xD0, small, 1)
        if small >= -0x8000:
            return write_number(out, 0xD1, small, 2)
        if small >= -0x8000_0000:
            return write_number(out, 0xD2, small, 4)
        return write_number(out, 0xD3, small, 8)
    if overflow > 0 and number.bit_length() <= 64:
        return write_unsigned(out, number)
    cdef Py_ssize_t start = out.used
    data = number.to_bytes(number_of_bytes(number), "big", signed=True)
    write_bytes(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return close_extension(out, start, BIG_INT)


cdef object number_of_bytes(object number):
    """The least number of bytes that two's complement needs: -2**63 needs 8, 2**63 needs 9."""
    return (number if number >= 0 else ~number).bit_length() // 8 + 1


cdef int write_unsigned(Out* out, uint64_t number) except -1:
    if number < 0x80:
        return write_number(out, <unsigned char> number, 0, 0)
    if number <= 0xFF:
        return write_number(out, 0xCC, number, 1)
    if number <= 0xFFFF:
        return write_number(out, 0xCD, number, 2)
    if number <= 0xFFFF_FFFF:
        return write_number(out, 0xCE, number, 4)
    return write_number(out, 0xCF, number, 8)


cdef int write_float(Out* out, double number) except -1:
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    if number != number:
        bits = 0x7FF8_0000_0000_0000u
    return write_number(out, 0xCB, bits, 8)


cdef int enter(Place* inner, const Place* outer) except -1:
    """Start a level of nesting."""
    if outer.depth == MAX_DEPTH:
        raise EncodeError(f"The key nests deeper than {MAX_DEPTH} levels: flatten it.")
    inner.outer = outer
    inner.index = -1
    inner.name = NULL
    inner.depth = outer.depth + 1
    return 0


cdef int write_elements(Out* out, object elements, tuple names, const Place* place) except -1:
    """The elements of a tuple, or of a named tuple, one after the other."""
    cdef Place inner
    cdef Py_ssize_t i
    enter(&inner, place)
    for i in range(PyTuple_GET_SIZE(elements)):
        inner.index = i
        if names is not None and i < PyTuple_GET_SIZE(names):
            inner.name = <void*> PyTuple_GET_ITEM(names, i)
        write(out, <object> PyTuple_GET_ITEM(elements, i), &inner)
    return 0


cdef int write_frozenset(Out* out, frozenset elements, const Place* place) except -1:
    cdef Place inner
    cdef Py_ssize_t start = out.used
    cdef set encodings = set()
    enter(&inner, place)
    for element in elements:
        write(out, element, &inner)
        # As a set of bytes: two NaN objects are one key.
        encodings.add(PyBytes_FromStringAndSize(<const char*> out.data + start, out.used - start))
        out.used = start
    for encoding in sorted(encodings):
        write_bytes(out, PyBytes_AS_STRING(encoding), PyBytes_GET_SIZE(encoding))
    return close_extension(out, start, FROZENSET)


cdef int write_planned(Out* out, object value, Plan plan, const Place* place) except -1:
    cdef Py_ssize_t start = out.used
    cdef Place inner
    if plan.code == HANDLE:
        reserve(out, 8)
        put_number(out.data + start, <uint64_t> plan.shape << 32 | (<Handle> value)._id, 8)
        out.used += 8
    elif plan.code == ENUM:
        write_str(out, plan.name)
        write(out, member_name(value, place), place)
    elif plan.code == DATACLASS:
        write_str(out, plan.name)
        write_unsigned(out, plan.shape)
        enter(&inner, place)
        for name in plan.fields:
            inner.name = <void*> name
            write(out, getattr(value, name), &inner)
    elif plan.code == NAMED_TUPLE:
        write_str(out, plan.name)
        write_unsigned(out, plan.shape)
        write_elements(out, value, plan.fields, place)
    else:
        for part in parts_of(plan.code, value):
            if part is NO_ZONE:
                hint = "its time zone has no name and gives no offset; use a `datetime.timezone`"
                raise refusal(type(value), place, hint)
            write(out, part, place)
    return close_extension(out, start, plan.code)


# Where an `Enum` keeps its facts, whatever the class overrides.
cdef object _instance_attribute = object.__getattribute__


cdef object member_name(object member, const Place* place):
    """What identifies a member in its class: its name, or the number of an unnamed combination of flags."""
    cls = type(member)
    name = _instance_attribute(member, "_name_")
    members = _namespace(cls)["_member_map_"]
    if type(name) is str and members.get(name) is member:
        return name
    number = _instance_attribute(member, "_value_")
    if isinstance(member, Flag) and type(number) is int:
        return number
    raise refusal(cls, place, "it is no member of its own class")


cdef int close_extension(Out* out, Py_ssize_t start, int code) except -1:
    """Make what stands from `start` on the content of an extension, by putting the head before it."""
    cdef Py_ssize_t size = out.used - start
    cdef unsigned char[6] head
    cdef int width
    if size == 1 or size == 2 or size == 4 or size == 8 or size == 16:
        width = 0
        head[0] = 0xD4
        while 1 << (head[0] - 0xD4) < size:
            head[0] += 1
    elif size <= 0xFF:
        head[0] = 0xC7
        width = 1
    elif size <= 0xFFFF:
        head[0] = 0xC8
        width = 2
    elif size <= 0xFFFF_FFFF:
        head[0] = 0xC9
        width = 4
    else:
        raise EncodeError("A part of the key is longer than 4 GiB, which its encoding cannot express.")
    put_number(head + 1, size, width)
    head[1 + width] = <unsigned char> code
    reserve(out, 2 + width)
    memmove(out.data + start + 2 + width, out.data + start, size)
    memcpy(out.data + start, head, 2 + width)
    out.used += 2 + width
    return 0


cdef object refusal(object cls, const Place* place, object hint):
    """The error for a value that cannot be a key."""
    steps = []
    while place.outer is not NULL:
        if place.name is not NULL:
            steps.append(f".{<object> place.name}")
        else:
            steps.append("{...}" if place.index < 0 else f"[{place.index}]")
        place = place.outer
    return EncodeError(type_name=type_name(cls), place="key" + "".join(reversed(steps)), hint=hint)


# --- Decoding ------------------------------------------------------------------------------------------

@cython.final
cdef class Reader:
    """One decoding: the bytes, how far it has come, and whom it asks for classes."""

    cdef bytes source
    cdef const unsigned char* data
    cdef Py_ssize_t at
    cdef object db
    cdef bint extended  # an extension has been read

    cdef object read_all(self, bytes source, object db):
        self.source = source
        self.data = <const unsigned char*> PyBytes_AS_STRING(source)
        self.at = 0
        self.db = db
        self.extended = False
        cdef Py_ssize_t end = PyBytes_GET_SIZE(source)
        value = self.read(end, 0)
        if self.at != end:
            left = end - self.at
            raise self.error(f"{left} byte{' is' if left == 1 else 's are'} left over")
        # Plain forms were checked one by one. What an extension must look like is known to the encoder alone.
        if self.extended and encode_key(value) != source:
            raise DecodeError(reason="it is not in the canonical form")
        return value

    cdef object error(self, reason):
        # Cut, because it may quote the bytes, which may be many.
        return DecodeError(reason=reason[:200], position=self.at)

    cdef const unsigned char* take(self, uint64_t size, Py_ssize_t end) except NULL:
        """The next `size` bytes, which must all be there."""
        if size > <uint64_t> (end - self.at):
            raise self.error(f"{size} bytes are announced, and only {end - self.at} are there")
        cdef const unsigned char* start = self.data + self.at
        self.at += <Py_ssize_t> size
        return start

    cdef uint64_t number(self, int width, uint64_t least, Py_ssize_t end) except? 0xDEAD:
        """A number of `width` bytes, of at least `least`: a smaller one has a shorter form."""
        cdef const unsigned char* data = self.take(width, end)
        cdef uint64_t result = 0
        cdef int i
        for i in range(width):
            result = result << 8 | data[i]
        if result < least:
            raise self.error("it is not in the shortest form")
        return result

    cdef object read(self, Py_ssize_t end, int depth):
        """The value that starts here and lies before `end`."""
        cdef unsigned char tag = self.take(1, end)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 256
        if 0x90 <= tag < 0xA0:
            return self.read_tuple(tag & 15, end, depth)
        if 0xA0 <= tag < 0xC0:
            return self.read_str(tag & 31, end)
        if tag == 0xC0:
            return None
        if tag == 0xC2:
            return False
        if tag == 0xC3:
            return True
        if tag == 0xC4:
            return self.read_bytes(self.number(1, 0, end), end)
        if tag == 0xC5:
            return self.read_bytes(self.number(2, 0x100, end), end)
        if tag == 0xC6:
            return self.read_bytes(self.number(4, 0x1_0000, end), end)
        if tag == 0xC7:
            return self.read_extension(self.number(1, 0, end), end, depth)
        if tag == 0xC8:
            return self.read_extension(self.number(2, 0x100, end), end, depth)
        if tag == 0xC9:
            return self.read_extension(self.number(4, 0x1_0000, end), end, depth)
        if tag == 0xCB:
            return self.read_float(end)
        if tag == 0xCC:
            return self.number(1, 0x80, end)
        if tag == 0xCD:
            return self.number(2, 0x100, end)
        if tag == 0xCE:
            return self.number(4, 0x1_0000, end)
        if tag == 0xCF:
            return self.number(8, 0x1_0000_0000u, end)
        if tag == 0xD0:
            return self.read_negative(1, -0x20, end)
        if tag == 0xD1:
            return self.read_negative(2, -0x80, end)
        if tag == 0xD2:
            return self.read_negative(4, -0x8000, end)
        if tag == 0xD3:
            return self.read_negative(8, -0x8000_0000, end)
        if 0xD4 <= tag <= 0xD8:
            return self.read_extension(1 << (tag - 0xD4), end, depth)
        if tag == 0xD9:
            return self.read_str(self.number(1, 0x20, end), end)
        if tag == 0xDA:
            return self.read_str(self.number(2, 0x100, end), end)
        if tag == 0xDB:
            return self.read_str(self.number(4, 0x1_0000, end), end)
        if tag == 0xDC:
            return self.read_tuple(self.number(2, 0x10, end), end, depth)
        if tag == 0xDD:
            return self.read_tuple(self.number(4, 0x1_0000, end), end, depth)
        raise self.error(f"no value starts with {tag:#04x}")

    cdef object read_negative(self, int width, int64_t bound, Py_ssize_t end):
        """A signed number below `bound`: any other has a shorter form."""
        cdef int shift = 64 - 8 * width
        cdef int64_t number = <int64_t> (self.number(width, 0, end) << shift) >> shift
        if number >= bound:
            raise self.error("it is not in the shortest form")
        return number

    cdef object read_float(self, Py_ssize_t end):
        cdef uint64_t bits = self.number(8, 0, end)
        cdef double number
        memcpy(&number, &bits, 8)
        if number != number and bits != 0x7FF8_0000_0000_0000u:
            raise self.error("it is not the one NaN")
        return number

    cdef object read_str(self, uint64_t size, Py_ssize_t end):
        cdef const unsigned char* data = self.take(size, end)
        try:
            return PyUnicode_DecodeUTF8(<const char*> data, <Py_ssize_t> size, "strict")
        except UnicodeDecodeError:
            raise self.error("it is not UTF-8") from None

    cdef object read_bytes(self, uint64_t size, Py_ssize_t end):
        return PyBytes_FromStringAndSize(<const char*> self.take(size, end), <Py_ssize_t> size)

    cdef tuple read_tuple(self, uint64_t size, Py_ssize_t end, int depth):
        # Each element takes a byte at least. The list grows with what is read, not with what is announced: nested
        # announcements would multiply.
        if size > <uint64_t> (end - self.at):
            raise self.error(f"{size} elements are announced, and only {end - self.at} bytes are there")
        self.check_depth(depth)
        elements = []
        while size:
            elements.append(self.read(end, depth + 1))
            size -= 1
        return tuple(elements)

    cdef int check_depth(self, int depth) except -1:
        if depth == MAX_DEPTH:
            raise self.error(f"it nests deeper than {MAX_DEPTH} levels")
        return 0

    cdef list read_until(self, Py_ssize_t end, int depth):
        """All values before `end`."""
        values = []
        while self.at < end:
            values.append(self.read(end, depth))
        return values

    cdef object read_extension(self, uint64_t size, Py_ssize_t end, int depth):
        cdef int code = self.take(1, end)[0]
        self.take(size, end)
        end = self.at  # the content's
        self.at -= <Py_ssize_t> size
        self.extended = True
        if code == BIG_INT:
            return int.from_bytes(self.read_bytes(size, end), "big", signed=True)
        if code == SURROGATE_STR:
            return self.read_surrogates(size, end)
        if code == HANDLE:
            return self.read_handle(end)
        if code == FROZENSET:
            self.check_depth(depth)
            return frozenset(self.read_until(end, depth + 1))
        if code == ENUM:
            return self.read_member(end, depth)
        if code == DATACLASS or code == NAMED_TUPLE:
            return self.read_record(code, end, depth)
        if DATE <= code <= DECIMAL:
            return self.read_standard(code, end, depth)
        raise self.error(f"there is no extension {code}")

    cdef object read_surrogates(self, uint64_t size, Py_ssize_t end):
        cdef const unsigned char* data = self.take(size, end)
        try:
            return PyUnicode_DecodeUTF8(<const char*> data, <Py_ssize_t> size, "surrogatepass")
        except UnicodeDecodeError:
            raise self.error("it is not UTF-8") from None

    cdef Handle read_handle(self, Py_ssize_t end):
        if end - self.at != 8:
            raise self.error("a handle has 8 bytes")
        kind = self.number(4, 0, end)
        cls = find_class(kind, self.db, "_handle_class")
        cdef Plan plan = plan_of(cls)
        if plan is None or plan.code != HANDLE or plan.shape != <uint32_t> kind:
            raise self.error(f"{type_name(cls)} is not the handle class of kind_{kind}")
        return new_handle(cls, <uint32_t> self.number(4, 0, end))

    cdef object read_member(self, Py_ssize_t end, int depth):
        cls = self.read_class(ENUM, end, depth)
        name = self.read(end, depth)
        if self.at != end:
            raise self.error("a member has nothing but a name")
        member = None
        if type(name) is str:
            member = _namespace(cls)["_member_map_"].get(name)
        elif type(name) is int and issubclass(cls, Flag):
            try:
                # Not `cls(name)`, which may be the user's: only what `Flag` itself makes of a number.
                member = Flag._missing_.__func__(cls, name)
            except ValueError:
                pass
        if type(member) is not cls:
            raise self.error(f"{type_name(cls)} has no such member")
        return member

    cdef object read_record(self, int code, Py_ssize_t end, int depth):
        """A frozen dataclass or a named tuple."""
        cls = self.read_class(code, end, depth)
        cdef Plan plan = plan_of(cls)
        if self.read(end, depth) != plan.shape:
            raise self.error(f"the fields of {plan.name} have changed")
        self.check_depth(depth)
        values = self.read_until(end, depth + 1)
        if len(values) != len(plan.fields):
            raise self.error(f"{plan.name} has {len(plan.fields)} fields, not {len(values)}")
        if code == NAMED_TUPLE:
            return tuple.__new__(cls, values)
        record = object.__new__(cls)
        for name, value in zip(plan.fields, values):
            PyObject_GenericSetAttr(record, name, value)
        return record

    cdef object read_class(self, int code, Py_ssize_t end, int depth):
        name = self.read(end, depth)
        if type(name) is not str:
            raise self.error("a class has a name")
        cls = find_class(name, self.db, "_known_class")
        cdef Plan plan = plan_of(cls)
        if plan is None or plan.code != code or plan.name != name:
            raise self.error(f"{name} is another sort of class now")
        return cls

    cdef object read_standard(self, int code, Py_ssize_t end, int depth):
        if not _standard_modules_loaded:
            load_standard_classes()
        parts = self.read_until(end, depth)
        try:
            return from_parts(code, parts)
        except BAD_PARTS as error:
            raise self.error(str(error) or type(error).__name__) from error


# --- Keys ----------------------------------------------------------------------------------------------

@cython.final
cdef class Key:
    """The key of one record or query: a value's canonical encoding. Immutable.

    Allowed are ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, ``Enum`` members, ``date``, ``time``,
    ``datetime``, ``timedelta``, ``UUID``, paths, ``Decimal``, handles, and tuples, frozensets, named tuples and
    frozen dataclasses of these. Keys are equal if their bytes are (r[key.equality]), and these are equal if the
    values are the same, with their types.

    >>> Key.encode(("a.md", 3))
    Key(('a.md', 3))
    >>> Key.encode(1) == Key.encode(True)
    False
    >>> Key.encode(("a.md", 3)).decode()
    ('a.md', 3)
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("A Key is made by `Key.encode(value)` or by `Key.from_bytes(encoding)`.")

    @staticmethod
    def encode(value) -> Key:
        """The key of a value. `EncodeError` names what in it cannot be part of a key."""
        return new_key(encode_key(value))

    @staticmethod
    def from_bytes(bytes encoding not None) -> Key:
        """The key with this encoding. Any bytes are taken; what they mean is found out by `decode`."""
        return new_key(encoding)

    def decode(self, db=None):
        """A value equal to the encoded one, and of the same type. `DecodeError` if there is none.

        A class that the key names is asked of `db` first, and then of what this process has encoded or
        registered. Two classes of one name and no database are a `DecodeError`.
        """
        cdef Reader reader = Reader()
        return reader.read_all(self.bytes, db)

    @property
    def hash(self):
        """The 64-bit FNV-1a of the bytes, the same in every process: for traces, not for equality (r[key.hash])."""
        return self.hash64()

    cdef uint64_t hash64(self) noexcept:
        if self.fnv == 0:
            self.fnv = fnv1a_64(<const unsigned char*> PyBytes_AS_STRING(self.bytes), PyBytes_GET_SIZE(self.bytes))
        return self.fnv

    def __len__(self):
        return PyBytes_GET_SIZE(self.bytes)

    def __eq__(self, other):
        if type(other) is not Key:
            return NotImplemented
        return self is other or self.bytes == (<Key> other).bytes

    def __hash__(self):
        return PyObject_Hash(self.bytes)

    def __repr__(self):
        try:
            return f"Key({self.decode()!r})"
        except Exception:  # unknown bytes, or a user's `__repr__`
            return f"Key.from_bytes(bytes.fromhex({self.bytes.hex()!r}))"

    def __reduce__(self):
        return Key.from_bytes, (self.bytes,)


cdef Key new_key(bytes data):
    cdef Key key = Key.__new__(Key)
    key.bytes = data
    return key


@cython.no_gc  # a Key holds bytes and nothing else: there can be no cycle
cdef class DynKey:
    """One query or record of a database: a kind, and a key (r[key.dyn-key]). Immutable.

    >>> DynKey(1, Key.encode("a.md"))
    DynKey(QueryKindId(1), Key('a.md'))
    >>> DynKey(1, Key.encode("a.md")) == Dep(1, Key.encode("a.md"))
    True
    """

    def __cinit__(self, kind, key):
        # Not in __init__: what is hashed must not change.
        if type(key) is not Key:
            raise TypeError(f"The key must be a Key, not {type(key).__name__}: use `Key.encode(...)`.")
        self.kind_value = <uint32_t> (kind if type(kind) is _QueryKindId else QueryKindId(kind))
        self.key = key

    @property
    def kind(self):
        """The ingredient, a `QueryKindId`."""
        return kind_id(self.kind_value)

    def __eq__(self, other):
        if not isinstance(other, DynKey):
            return NotImplemented
        return self.kind_value == (<DynKey> other).kind_value and self.key.bytes == (<DynKey> other).key.bytes

    def __hash__(self):
        return <Py_hash_t> (<uint64_t> PyObject_Hash(self.key.bytes) ^ self.kind_value * 0x9E3779B97F4A7C15u)

    def __repr__(self):
        return f"{type(self).__name__}({self.kind!r}, {self.key!r})"

    def __reduce__(self):
        return type(self), (self.kind, self.key)


@cython.final
@cython.no_gc
cdef class Dep(DynKey):
    """A recorded dependency: the query or record that was read (r[key.dep]).

    It has the structure of a `DynKey`, is one, and equals the `DynKey` of the same parts: an edge can be looked up
    among the nodes.

    >>> {DynKey(1, Key.encode("a.md")): "found"}[Dep(1, Key.encode("a.md"))]
    'found'
    """


cdef DynKey new_dyn_key(uint32_t kind, Key key):
    return DynKey(kind_id(kind), key)


cdef Dep new_dep(uint32_t kind, Key key):
    return Dep(kind_id(kind), key)
