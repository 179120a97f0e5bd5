"""The format of keys, and how the standard library's values fit into it (r[key.encoding]).

Its invariant: **two keys have equal bytes if and only if they are the same typed value**.
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


cdef bint _loaded = False
cdef object _date, _time, _datetime, _timedelta, _timezone, _ZoneInfo, _UUID, _Decimal
cdef dict _codes = {}  # class -> code
cdef dict _paths = {}  # class name -> class
cdef object NO_ZONE = object()


cdef int standard_code(object cls) except -1:
    if not _loaded:
        load_standard_classes()
    for standard, code in _codes.items():  # no lookup: `cls` may have a metaclass with a `__hash__`
        if cls is standard:
            return code
    return 0


cdef int load_standard_classes() except -1:
    """Import what defines them. They are not needed before the first key that is not of a built-in type."""
    global _loaded, _date, _time, _datetime, _timedelta, _timezone, _ZoneInfo, _UUID, _Decimal
    import datetime
    import decimal
    import pathlib
    import uuid
    import zoneinfo

    _date, _time, _datetime = datetime.date, datetime.time, datetime.datetime
    _timedelta, _timezone, _ZoneInfo = datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo
    _UUID, _Decimal = uuid.UUID, decimal.Decimal
    _codes.update({
        _date: DATE,
        _time: TIME,
        _datetime: DATETIME,
        _timedelta: TIMEDELTA,
        _UUID: UUID,
        _Decimal: DECIMAL,
    })
    for path in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath):
        _codes[path] = PATH
        _paths[path.__name__] = path
    _loaded = True
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
