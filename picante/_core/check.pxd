"""Are these bytes a stored value? The answer, without the value."""

from picante._core.stored cimport Source
from picante._core.wire cimport Span

# DecodeError if what lies from `start` to `end` is no stored value, or names a class or a codec that `source` does not
# find with the same fields. Runs no user code but what finds classes in the database.
cdef int check_value(Source source, Py_ssize_t start, Py_ssize_t end) except -1

# The same for what lies in `span`, whatever classes it names.
cdef int check_structure(Span span) except -1
