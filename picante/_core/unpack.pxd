"""From stored bytes to the value."""

from picante._core.stored cimport Source

# The value that lies from `start` to `end`. Raises DecodeError. Runs no code that the bytes could choose, but the
# codecs, `__hash__`, `__eq__` and descriptors of the classes that they may name; several may run at once.
cdef object unpack_value(Source source, Py_ssize_t start, Py_ssize_t end)

# The same if it is a number, a short text, None or a bool; else NO_SCALAR. Runs no user code. It was checked before.
cdef object NO_SCALAR
cdef object unpack_scalar(Source source, Py_ssize_t start, Py_ssize_t end)

# If it is a short text, let values that are read next have this very object where they have an equal one.
cdef int keep_text(object text) except -1
