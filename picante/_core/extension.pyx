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

The codes from 15 on occur in stored values only (`wire.pyx`), which use the others, too.

Types are exact: a subclass of ``str`` would come back as something else. Nothing nests deeper than 64.

Decoding trusts nothing. It refuses every form that encoding does not produce (where an extension occurs, by
encoding the result again), allocates in proportion to the bytes that are there, imports nothing by name,
and runs neither ``__init__`` nor ``__post_init__``. The classes it may produce are those that the database
knows, that were registered here, or that were encoded by this process.
"""


cdef bint _loaded = False
cdef object _date, _time, _datetime, _timedelta, _timezone, _ZoneInfo, _UUID, _Decimal, _Fraction
cdef dict _codes = {}  # class -> code
cdef dict _paths = {}  # class name -> class
cdef object NO_ZONE = object()
cdef int _zones_missed = 0
cdef object _zones = None  # the names of all zones, once many were missed
cdef dict _BESIDES_WORDS = {ord(letter): None for letter in "_+-/"}  # what names of time zones have besides words


cdef int standard_code(object cls) except -1:
    if not _loaded:
        load_standard_classes()
    for standard, code in _codes.items():  # no lookup: `cls` may have a metaclass with a `__hash__`
        if cls is standard:
            return code
    return 0


cdef int load_standard_classes() except -1:
    """Import what defines them. They are not needed before the first key that is not of a built-in type."""
    global _loaded, _date, _time, _datetime, _timedelta, _timezone, _ZoneInfo, _UUID, _Decimal, _Fraction
    import datetime
    import decimal
    import fractions
    import pathlib
    import uuid
    import zoneinfo

    _date, _time, _datetime = datetime.date, datetime.time, datetime.datetime
    _timedelta, _timezone, _ZoneInfo = datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo
    _UUID, _Decimal, _Fraction = uuid.UUID, decimal.Decimal, fractions.Fraction
    _codes.update({
        _date: DATE,
        _time: TIME,
        _datetime: DATETIME,
        _timedelta: TIMEDELTA,
        _UUID: UUID,
        _Decimal: DECIMAL,
        _Fraction: FRACTION,
        _timezone: ZONE,
        _ZoneInfo: ZONE,
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
    if code == TIME or code == DATETIME:
        return *clock_parts(code, value), zone_of(value)
    if code == TIMEDELTA:
        return value.days, value.seconds, value.microseconds
    if code == UUID:
        return value.bytes,
    if code == PATH:
        return type(value).__name__, str(value)
    assert code == DECIMAL
    return str(value).replace("e", "E"),  # the letter follows the caller's decimal context


cdef tuple clock_parts(int code, object value):
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return clock if code == TIME else (value.year, value.month, value.day, *clock)


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
    if type(text) is not str:
        raise TypeError("a Decimal is a text")  # and no int: that would take quadratic time
    return _Decimal(text)


cdef object zone_from(object zone):
    if zone is None:
        return None
    if type(zone) is str:
        # `ZoneInfo` itself keeps to its folders. It would also look for `tzdata.zoneinfo.<folder>`, whatever that is.
        if not 0 < len(zone) <= 100 or not zone.isascii() or not zone.translate(_BESIDES_WORDS).isalnum():
            raise ValueError("it names no time zone")
        return find_zone(zone)
    return _timezone(_timedelta(microseconds=zone))


cdef object find_zone(str name):
    """A `ZoneInfo`. Not finding one takes 0.4 ms, which a hostile file must not cost for each of its names."""
    global _zones_missed, _zones
    if _zones_missed >= 100:
        if _zones is None:
            from zoneinfo import available_timezones
            _zones = available_timezones()
        if name.removeprefix("posix/").removeprefix("right/") not in _zones:
            raise ValueError("it names no time zone of this system")
    try:
        return _ZoneInfo(name)
    except Exception:
        _zones_missed += 1
        raise


cdef object zone_parts(object zone):
    if type(zone) is _ZoneInfo:
        return zone.key if type(zone.key) is str else None
    if type(zone) is not _timezone:
        return None
    offset, *name = zone.__getinitargs__()  # what `pickle` asks for, too
    offset = offset // _timedelta(microseconds=1)
    return (offset, *name) if name else offset


cdef object zone_from_parts(object parts):
    """The inverse of `zone_parts`. Raises one of `BAD_PARTS` if the parts make no sense."""
    if type(parts) is not tuple:
        if type(parts) is not str and type(parts) is not int:
            raise TypeError("a zone has a name or an offset")
        return zone_from(parts)
    offset, name = parts
    if type(offset) is not int or type(name) is not str:
        raise TypeError("a zone has a name and an offset")
    return _timezone(_timedelta(microseconds=offset), name)


cdef object fraction_from(object numerator, object denominator):
    """A `Fraction`. Raises ValueError if it is not in lowest terms, which is not found out for very large numbers.

    The time that it takes to find out is quadratic, and a file may hold numbers of any size.
    """
    if denominator <= 0:
        raise ValueError("its denominator is not positive")
    if numerator.bit_length() < 32_768 and denominator.bit_length() < 32_768:
        fraction = _Fraction(numerator, denominator)
        if fraction.denominator != denominator:
            raise ValueError("it is not in lowest terms")
        return fraction
    fraction = _Fraction.__new__(_Fraction)
    fraction._numerator = numerator
    fraction._denominator = denominator
    return fraction


# What constructors of the standard library raise for arguments that make no sense. NotImplementedError: a
# `WindowsPath` on another system. OSError: a zone of the name of a directory.
cdef tuple BAD_PARTS = (ValueError, TypeError, LookupError, ArithmeticError, OSError, NotImplementedError)
