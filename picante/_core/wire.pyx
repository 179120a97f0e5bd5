"""The format of stored values, and the head of the next one.

Every stored value is one MessagePack value, so that any reader of MessagePack can show it, and comes back with its
exact types. What keys can hold is written as in keys (`extension.pyx`), and the rest as follows:

==============================  =========================================================================
value                           encoding
==============================  =========================================================================
``tuple``                       array in its shortest form (up to 65,535 elements: extension 15 from there on)
``list``                        array in the next longer form: array 16 for less than 16 elements, or else
                                array 32
``dict``                        map, in order
``float``                       float 64, a NaN with all its bits
``time``, ``datetime``          as in keys; a zone is nil, the name of a ``ZoneInfo``, the offset of a
                                ``timezone`` in microseconds, or any stored value that is a zone
==============================  =========================================================================

====  =====================  ============================================================================
code  extension              content
====  =====================  ============================================================================
3     ``frozenset``          the elements, in any order
4     ``Enum`` member        the class; the member's name or number
5     dataclass              the class; all its fields
6     named tuple            the class; its elements
15    ``tuple``              the elements
16    ``set``                the elements
17    ``bytearray``          the bytes themselves
18    ``complex``            two float 64, without tags
19    ``range``              start, stop, step
20    ``Fraction``           numerator, denominator
21    zone                   a name, or an offset in microseconds, or such an offset and a name
22    codec                  the codec; what it has made of the value
23    value with references  one value; the only extension that can stand nowhere but outermost
24    reference              the number of a value that is complete, at most 8 bytes, big-endian
====  =====================  ============================================================================

A class or a codec is a number, or a name that gets the next number, and is followed by the hash of the field names if
it is that of a dataclass or named tuple. Numbers start after those of the names that are given with the bytes: a file
has one list for all its values (`Packer.names`), and a single value has none.

In a value with references (23) these have numbers, in the order in which they end, from 0 on: tuples that are not
empty, lists, dicts, sets, frozensets, dataclasses, named tuples, bytearrays, what codecs have made, and texts
and ``bytes`` of at least 64 bytes. So shared parts stay shared. A value that contains itself cannot be stored.

Nothing nests deeper than `MAX_NESTING`.

All code that is not an error message stands in the `.pxd`, to be compiled into its readers' loops.
"""

from libc.stdint cimport uint64_t

from picante._core.errors import DecodeError


cdef object damaged(Py_ssize_t at, str reason):
    reason = reason[:200]  # it may quote the bytes, which may be many
    return DecodeError(f"These bytes are not a stored value: {reason} (at byte {at}).", reason=reason, position=at)


cdef int too_short(const Span* span, uint64_t announced) except -1:
    raise damaged(span.at, f"{announced} bytes are announced, and only {span.end - span.at} are there")
