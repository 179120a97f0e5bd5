"""What all readers of stored values share: the bytes, the classes that they name, and values without parts."""

cimport cython
from cpython.buffer cimport Py_buffer
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t

from picante._core.classes cimport Plan
from picante._core.codecs cimport Codec, Codecs
from picante._core.wire cimport Head, Span


@cython.final
cdef class Entry:
    cdef str name  # a class's, or a codec's
    cdef uint32_t shape  # the hash of the names of its fields; of a class that has none: 0
    cdef object cls  # once it has been found
    cdef Plan plan
    cdef Codec codec
    cdef bint is_safe  # `object.__new__` has made an instance


@cython.final
cdef class Origin:
    """What values that are not decoded yet have of their Source. The collector need not know of it, nor of them."""

    cdef PyObject* source  # the Source, borrowed; NULL once it is gone


@cython.final
cdef class Source:
    cdef PyObject* origin  # borrowed: while it lives there are values to decode
    cdef Py_buffer view
    cdef bint has_view
    cdef const unsigned char* data
    cdef Py_ssize_t size
    cdef object db  # whom to ask for classes first; may be None
    cdef Codecs codecs
    cdef list entries  # what values may name by number: Entry
    cdef dict handle_classes  # kind -> class, as found
    cdef object reader  # of `unpack`: one that is not in use
    cdef bint was_plain  # the value that was read last consists of standard types only, and was made just then
    cdef dict long_sizes  # of values that are not decoded yet: place -> size, where that is large (`packed`)
    cdef object new_ids  # kind -> {id in the bytes: id of the handle}; None: as they are

    cdef int release(self) except -1
    cdef Span span(self, Py_ssize_t start, Py_ssize_t end)
    cdef object handle_class(self, uint32_t kind, Py_ssize_t at)
    cdef object handle_id(self, uint32_t kind, uint32_t number, Py_ssize_t at)

    # The class or codec that is named next, resolved. `defined`: the entries of this value, which may become one more.
    cdef Entry entry(self, Span* span, list defined, int code)
    cdef Entry named_entry(self, Span* span, list defined, int code)


cdef Origin new_origin(Source source)
cdef Source new_source(object data, object db, Codecs codecs, object names, object new_ids)

cdef int skip_name(Span* span, int code) except -1  # of a class or codec

cdef object read_leaf(Span* span, Head* head)  # a value without parts, whose head was read
cdef object read_plain(Span* span)  # the same with its head; DecodeError if it has parts
cdef list read_clock(Span* span, int code)  # of a `time` or a `datetime`: all but its zone
cdef object read_standard(Span* span, int code)  # the content of such an extension, up to `span.end`, besides these two
cdef object read_text(Span* span, Py_ssize_t size, const char* errors)
# Whether these bytes, which were checked, are `text`, where that is short and ASCII.
cdef bint is_text(const unsigned char* data, Py_ssize_t size, object text) noexcept
cdef object as_decode_error(object error, Py_ssize_t at)  # for what user code or a constructor has raised
