"""The extension types of the encoding, and the standard library's classes among them."""

cdef enum Extension:
    # Part of the format of cache files: none is ever given another meaning.
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
    # From here on only in stored values.
    LONG_TUPLE = 15
    SET = 16
    BYTEARRAY = 17
    COMPLEX = 18
    RANGE = 19
    FRACTION = 20
    ZONE = 21
    CODEC = 22
    SHARED = 23
    REFERENCE = 24


cdef enum:
    LAST_IN_KEYS = 14
    MAX_DEPTH = 64  # how deep a key may nest

# The code of one of the standard library's classes; 0 for any other class.
cdef int standard_code(object cls) except -1

# A value of such a class as plain values, and back. `from_parts` raises one of BAD_PARTS for what makes no sense.
cdef tuple parts_of(int code, object value)
cdef tuple clock_parts(int code, object value)  # of a `time` or `datetime`: all but its zone
cdef object from_parts(int code, list parts)
cdef object NO_ZONE  # a part: of a time whose zone has neither name nor offset, and which cannot be a key
cdef tuple BAD_PARTS

# A `ZoneInfo` as its name, a `timezone` as its offset in microseconds or as a pair of that and its name, and back.
# None if the zone is neither.
cdef object zone_parts(object zone)
cdef object zone_from_parts(object parts)

# Without `ValueError` for what is in lowest terms only if it is not checked: see there.
cdef object fraction_from(object numerator, object denominator)
