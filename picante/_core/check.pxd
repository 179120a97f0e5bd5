"""Are these bytes a stored value? The answer, without the value."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.stored cimport Entry, Source
from picante._core.wire cimport Head, Span


cdef struct Facts:
    # Of a value that was read.
    uint64_t weight  # how many values it consists of, with all references followed
    int height  # how deep it nests, with all references followed; without parts: 0
    bint hashable  # as far as can be seen


@cython.final
cdef class Checker:
    """Walks over the bytes of values, one after the other."""

    cdef Source source  # None: classes are not looked for
    cdef Span span
    cdef list defined
    cdef bint shared  # references may occur: values are numbered
    cdef Facts* facts  # of the numbered values
    cdef Py_ssize_t n_facts
    cdef Py_ssize_t capacity
    cdef uint64_t hashed  # the weight of all keys and elements so far
    cdef uint64_t most_hashed

    cdef int check(self, Span span) except -1
    cdef int check_span(self) except -1
    cdef int walk(self, Facts* facts, int depth) except -1
    cdef int walk_text(self, Py_ssize_t size, const char* errors) except -1
    cdef int enter(self, int depth) except -1
    cdef int walk_part(self, Facts* whole, int depth) except -1
    cdef int walk_key(self, Facts* whole, int depth) except -1
    cdef int number(self, Facts* facts) except -1
    cdef int number_long(self, Facts* facts, Py_ssize_t size) except -1
    cdef int walk_extension(self, Facts* facts, Head* head, int depth) except -1
    cdef Entry entry(self, int code)
    cdef int walk_handle(self) except -1
    cdef int walk_reference(self, Facts* facts, int depth) except -1
    cdef int walk_member(self) except -1
    cdef int walk_clock(self, int code, int depth) except -1
    cdef int walk_record(self, Facts* facts, int code, int depth) except -1


# Whether these bytes are one value of the kinds that most are, which needs no further look. If not, they may still be
# any value, or none.
cdef bint is_common(const unsigned char* data, Py_ssize_t size) noexcept nogil

cdef Checker new_checker(Source source)

# DecodeError if what lies from `start` to `end` is no stored value, or names a class or a codec that `source` does not
# find with the same fields. Runs no user code but what finds classes in the database.
cdef int check_value(Source source, Py_ssize_t start, Py_ssize_t end) except -1

# The same for what lies in `span`, whatever classes it names.
cdef int check_structure(Span span) except -1
