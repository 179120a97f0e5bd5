"""What all readers of stored values share: the bytes, the classes that they name, and values without parts.

The format is described in `wire.pyx`. The bytes may come from anywhere.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.complex cimport PyComplex_FromDoubles
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from picante._core.classes cimport Plan, find_class, stored_plan_of, type_name
from picante._core.codecs cimport Codecs, standard_codecs
from picante._core.errors import DecodeError
from picante._core.extension cimport (
    BIG_INT, BYTEARRAY, CODEC, COMPLEX, DATACLASS, DATETIME, FRACTION, HANDLE, NAMED_TUPLE, RANGE, SURROGATE_STR, ZONE,
    fraction_from, from_parts, standard_code, zone_from_parts,
)
from picante._core.wire cimport (
    IS_BYTES, IS_EXTENSION, IS_FALSE, IS_FLOAT, IS_LARGE, IS_NONE, IS_SMALL, IS_STR, IS_TRUE, Head, Span, big_endian,
    damaged, is_ascii, next_head,
)


cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    object PyUnicode_New(Py_ssize_t size, unsigned int greatest)
    void* PyUnicode_1BYTE_DATA(object text) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept


@cython.final
cdef class Entry:
    """A class or codec that stored values name."""


@cython.final
cdef class Origin:
    """The way from values that are not decoded yet to their Source, which is let go with the last of them."""

    def __dealloc__(self):
        if self.source != NULL:
            (<Source> self.source).release()


@cython.final
cdef class Source:
    """Bytes that hold stored values, and what is needed to understand them. It does not change but to remember.

    A database that was loaded owns its source. The values that are not decoded yet find it through an `Origin`, which
    owns nothing: so they may be unknown to the garbage collector, of whose work they would make a good part.
    """

    def __dealloc__(self):
        if self.origin != NULL:
            (<Origin> self.origin).source = NULL
        if self.has_view:
            PyBuffer_Release(&self.view)

    cdef int release(self) except -1:
        """Nobody will read anything any more."""
        self.origin = NULL
        if self.has_view:
            self.has_view = False
            PyBuffer_Release(&self.view)
        self.data = NULL
        self.size = 0
        self.db = self.reader = self.new_ids = None
        self.entries = []
        self.handle_classes = {}
        self.long_sizes = {}
        return 0

    cdef Span span(self, Py_ssize_t start, Py_ssize_t end):
        cdef Span span
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"There is nothing from {start} to {end}: these are {self.size} bytes.")
        span.data = self.data
        span.at = start
        span.end = end
        return span

    cdef object handle_class(self, uint32_t kind, Py_ssize_t at):
        cls = self.handle_classes.get(kind)
        if cls is None:
            cls = find_class(kind, self.db, "_handle_class", False)
            plan = stored_plan_of(cls)
            if plan is None or (<Plan> plan).code != HANDLE or (<Plan> plan).shape != kind:
                raise damaged(at, f"{type_name(cls)} is not the handle class of kind_{kind}")
            self.handle_classes[kind] = cls
        return cls

    cdef object handle_id(self, uint32_t kind, uint32_t number, Py_ssize_t at):
        """The id that the handle gets here: a database that has records gives those of a file new numbers."""
        if self.new_ids is not None:
            new = self.new_ids.get(kind, {}).get(number)
            if new is None:
                raise damaged(at, f"there is no record {number} of kind_{kind}")
            return new
        return number

    cdef Entry entry(self, Span* span, list defined, int code):
        cdef Py_ssize_t at = span.at
        cdef Entry entry = self.named_entry(span, defined, code)
        cdef Plan plan
        if code == CODEC:
            if entry.codec is None:
                entry.codec = self.codecs.of_name(entry.name)
                if entry.codec is None:
                    raise damaged(
                        at, f"it names the codec {entry.name[:100]!r}, which nobody has registered: "
                        "`picante.persist.register_codec`"
                    )
            return entry
        if entry.plan is None:
            cls = find_class(entry.name, self.db, "_known_class", False)
            plan = stored_plan_of(cls)
            if plan is None or plan.name != entry.name:
                raise damaged(at, f"{entry.name} is another sort of class now")
            entry.cls = cls
            entry.plan = plan
        if entry.plan.code != code:
            raise damaged(at, f"{entry.name} is another sort of class now")
        if (code == DATACLASS or code == NAMED_TUPLE) and entry.plan.shape != entry.shape:
            raise damaged(at, f"the fields of {entry.name} have changed")
        return entry

    cdef Entry named_entry(self, Span* span, list defined, int code):
        """A number says which one; a name defines the next one, and is followed by the hash of its fields if it has."""
        cdef Py_ssize_t at = span.at
        cdef Py_ssize_t n_given = len(self.entries)
        cdef Head head
        cdef Entry entry
        next_head(span, &head)
        if head.form == IS_SMALL and 0 <= head.number < n_given:
            return self.entries[head.number]
        if head.form == IS_SMALL and n_given <= head.number < n_given + len(defined):
            return defined[head.number - n_given]
        if head.form != IS_STR:
            raise damaged(at, "it names no class")
        entry = Entry()
        entry.name = read_text(span, head.size, NULL)
        if code == DATACLASS or code == NAMED_TUPLE:
            entry.shape = read_shape(span)
        defined.append(entry)
        return entry


cdef uint32_t read_shape(Span* span) except? 0xDEAD:
    """The hash of the names of a class's fields."""
    cdef Head head
    next_head(span, &head)
    if head.form != IS_SMALL or not 0 <= head.number <= 0xFFFF_FFFF:
        raise damaged(span.at, "the fields of its class have no hash")
    return <uint32_t> head.number


cdef int skip_name(Span* span, int code) except -1:
    cdef Head head
    next_head(span, &head)
    if head.form == IS_STR:
        read_text(span, head.size, NULL)
        if code == DATACLASS or code == NAMED_TUPLE:
            read_shape(span)
    elif head.form != IS_SMALL:
        raise damaged(span.at, "it names no class")
    return 0


cdef Origin new_origin(Source source):
    """The one way to `source`."""
    cdef Origin origin = Origin()
    origin.source = <PyObject*> source
    source.origin = <PyObject*> origin
    return origin


cdef Source new_source(object data, object db, Codecs codecs, object names, object new_ids):
    """A source of anything that has bytes. `names`: pairs of a name and a shape, as a `Packer` gives them."""
    cdef Source source = Source()
    cdef Entry entry
    PyObject_GetBuffer(data, &source.view, PyBUF_SIMPLE)
    source.has_view = True
    source.data = <const unsigned char*> source.view.buf
    source.size = source.view.len
    source.db = db
    source.codecs = standard_codecs if codecs is None else codecs
    source.entries = []
    source.handle_classes = {}
    source.long_sizes = {}
    source.new_ids = new_ids
    try:
        for name, shape in names:
            entry = Entry()
            entry.name = name
            entry.shape = shape
            if entry.name is None:
                raise TypeError
            source.entries.append(entry)
    except (TypeError, ValueError, OverflowError):  # the file gives them
        raise DecodeError("What names the classes of stored values is no list of names and numbers.") from None
    return source


# --- Values without parts ------------------------------------------------------------------------------

cdef object read_text(Span* span, Py_ssize_t size, const char* errors):
    cdef const unsigned char* data = span.data + span.at
    span.at += size
    if size < 2 or not is_ascii(data, size):  # of the shortest ones the interpreter keeps a single one
        return PyUnicode_DecodeUTF8(<const char*> data, size, errors)
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_1BYTE_DATA(text), data, size)
    return text


cdef bint is_text(const unsigned char* data, Py_ssize_t size, object text) noexcept:
    cdef int head = 2 if data[0] == 0xD9 else 1
    if type(text) is not str or not PyUnicode_IS_COMPACT_ASCII(text) or PyUnicode_GET_LENGTH(text) != size - head:
        return False
    if data[0] != 0xD9 and not 0xA0 <= data[0] < 0xC0:
        return False
    return memcmp(data + head, PyUnicode_1BYTE_DATA(text), size - head) == 0


cdef object read_raw(Span* span, Py_ssize_t size):
    cdef const unsigned char* data = span.data + span.at
    span.at += size
    return PyBytes_FromStringAndSize(<const char*> data, size)


cdef object read_leaf(Span* span, Head* head):
    if head.form == IS_NONE:
        return None
    if head.form == IS_TRUE:
        return True
    if head.form == IS_FALSE:
        return False
    if head.form == IS_SMALL:
        return head.number
    if head.form == IS_LARGE:
        return <uint64_t> head.number
    if head.form == IS_FLOAT:
        return head.real
    if head.form == IS_STR:
        return read_text(span, head.size, NULL)
    if head.form == IS_BYTES:
        return read_raw(span, head.size)
    if head.form == IS_EXTENSION:
        if head.code == BIG_INT:
            return int.from_bytes(read_raw(span, head.size), "big", signed=True)
        if head.code == SURROGATE_STR:
            return read_text(span, head.size, "surrogatepass")
        if head.code == BYTEARRAY:
            return bytearray(read_raw(span, head.size))
    raise damaged(span.at, "something without parts should stand here")


cdef object read_plain(Span* span):
    cdef Head head
    next_head(span, &head)
    return read_leaf(span, &head)


cdef list read_clock(Span* span, int code):
    cdef list parts = []
    while len(parts) < (8 if code == DATETIME else 5):
        parts.append(read_plain(span))
    return parts


cdef object read_standard(Span* span, int code):
    cdef double[2] numbers
    cdef uint64_t bits
    cdef int i
    cdef list parts
    standard_code(object)  # which sees to it that their modules are imported
    if code == COMPLEX:
        if span.end - span.at != 16:
            raise damaged(span.at, "a complex number has 16 bytes")
        for i in range(2):
            bits = big_endian(span.data + span.at, 8)
            memcpy(&numbers[i], &bits, 8)
            span.at += 8
        return PyComplex_FromDoubles(numbers[0], numbers[1])
    parts = []
    while span.at < span.end:
        parts.append(read_plain(span))
    if code == RANGE or code == FRACTION:
        for part in parts:
            if type(part) is not int:
                raise damaged(span.at, "its parts are of the wrong type")
        if len(parts) != (3 if code == RANGE else 2):
            raise damaged(span.at, "its parts are too few or too many")
        return range(*parts) if code == RANGE else fraction_from(parts[0], parts[1])
    if code == ZONE:
        return zone_from_parts(parts[0] if len(parts) == 1 else tuple(parts))
    return from_parts(code, parts)


cdef object as_decode_error(object error, Py_ssize_t at):
    """What to raise instead: `error` itself if it is a DecodeError, or memory that is really short."""
    if isinstance(error, (DecodeError, MemoryError)):
        return error
    if isinstance(error, UnicodeDecodeError):
        return damaged(at, "it is not UTF-8")
    try:
        text = str(error)
    except Exception:  # a user's exception
        text = ""
    return damaged(at, f"{type(error).__name__}: {text}" if text else type(error).__name__)
