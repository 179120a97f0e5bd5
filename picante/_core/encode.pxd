"""The canonical bytes of a value, and which values can do without."""

from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact


# The canonical bytes of a value. Raises EncodeError, and whatever the value's own code raises.
cdef bytes encode_key(object value)

# All of `is_plain_key` except `str` and `int`.
cdef bint is_plain_object(object key) noexcept

cdef inline bint is_plain_key(object key) noexcept:
    """True where Python's own `hash` and `==` are typed equality and run no user code.

    A dict keyed by such objects themselves cannot confuse two typed values, so that they need no encoding.
    `str` comes first: it is what most keys are.
    """
    return PyUnicode_CheckExact(key) or PyLong_CheckExact(key) or is_plain_object(key)
