"""From stored bytes to the value (the format is described in `wire.pyx`).

The bytes may come from anywhere. What they announce is believed only once it is there, and room for elements is made
in advance only for as many as there are bytes in the whole value, however the announcements nest.

A value of nothing but standard types cannot lead back to itself, and a large cache has very many of them. So the lists,
dicts and sets of such a value of a node stay unknown to the garbage collector, as tuples and dicts without containers
always do: it would go over all of them again and again while values are read. The price: who changes what a query has
returned, which nobody may, and makes a cycle of it, keeps that in memory. In a value in which an object of any other
class was met, and in one that is not a node's, all containers are known to the collector as usual.
"""

cimport cython
from cpython.dict cimport PyDict_Next, PyDict_SetItem
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New
from cpython.object cimport PyObject, PyObject_GenericSetAttr, PyTypeObject, Py_TYPE
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.set cimport PySet_Add
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from picante._core.check cimport check_structure, check_value
from picante._core.classes cimport member_of
from picante._core.codecs cimport Codecs
from picante._core.extension cimport (
    BYTEARRAY, CODEC, COMPLEX, DATACLASS, DATE, DATETIME, DECIMAL, ENUM, FRACTION, FROZENSET, HANDLE, LONG_TUPLE,
    NAMED_TUPLE, RANGE, REFERENCE, SET, SHARED, SURROGATE_STR, TIME, ZONE, from_parts,
)
from picante._core.ids cimport new_handle
from picante._core.stored cimport (
    Entry, Source, as_decode_error, new_source, read_clock, read_leaf, read_plain, read_standard,
)
from picante._core.wire cimport (
    IS_BYTES, IS_DICT, IS_EXTENSION, IS_FLOAT, IS_LIST, IS_SMALL, IS_STR, IS_TUPLE, LONG_TEXT, MAX_NESTING,
    Head, Span, big_endian, damaged, is_ascii, is_simple, next_head,
)

__all__ = ["check", "unpack"]


cdef extern from "Python.h":
    bint PyObject_GC_IsTracked(object container) noexcept
    void PyObject_GC_Track(void* container) noexcept
    void PyObject_GC_UnTrack(void* container) noexcept
    object PyUnicode_New(Py_ssize_t size, unsigned int greatest)
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    void* PyUnicode_1BYTE_DATA(object text) noexcept
    void PyList_SET_ITEM(object whole, Py_ssize_t i, object item) noexcept
    void PyTuple_SET_ITEM(object whole, Py_ssize_t i, object item) noexcept


@cython.final
@cython.freelist(4)
cdef class Reader:
    """One reading of one value."""

    cdef Source source
    cdef Span span
    cdef list defined  # the classes that this value has named itself: Entry
    cdef list numbered  # what references may mean; None if there are no references
    cdef Py_ssize_t room  # for how many more elements room may be made in advance
    cdef bint is_plain  # no class or codec of a user was met
    cdef Py_ssize_t n_tracked  # how much of what was read may be of interest to the garbage collector, in the long run

    cdef object read_all(self):
        cdef Py_ssize_t start = self.span.at
        cdef Head head
        if self.span.at < self.span.end and self.span.data[start] >= 0xC0:
            next_head(&self.span, &head)
            if head.form == IS_EXTENSION and head.code == SHARED:
                # References can make it deeper than it looks, and hashing it endless.
                check_structure(self.source.span(start, self.span.end))
                self.numbered = []
            else:
                self.span.at = start
        value = self.read(0)
        if self.span.at != self.span.end:
            raise damaged(self.span.at, "bytes are left over")
        return value

    cdef object read(self, int depth):
        """The value that comes next, at a depth of so many containers."""
        cdef Head head
        cdef const unsigned char* data = self.span.data + self.span.at
        cdef Py_ssize_t left = self.span.end - self.span.at, size
        if left > 0 and data[0] < 0xC0:  # what most parts of values are
            size = data[0] & 31
            if data[0] < 0x80:
                self.span.at += 1
                return <long> data[0]
            if data[0] >= 0xA0 and size < left:
                self.span.at += 1 + size
                return short_text(data + 1, size)
            size &= 15
            if size << (data[0] < 0x90) < left and data[0] < 0xA0:
                self.span.at += 1
                return self.read_tuple(size, depth) if data[0] >= 0x90 else self.read_dict(size, depth)
        next_head(&self.span, &head)
        if head.form == IS_FLOAT:
            return head.real
        if head.form == IS_SMALL:
            return head.number
        if head.form == IS_TUPLE:
            return self.read_tuple(head.size, depth)
        if head.form == IS_LIST:
            return self.read_list(head.size, depth)
        if head.form == IS_DICT:
            return self.read_dict(head.size, depth)
        if head.form == IS_EXTENSION:
            return self.read_extension(head.code, head.size, depth)
        value = read_leaf(&self.span, &head)
        if self.numbered is not None and (head.form == IS_STR or head.form == IS_BYTES) and head.size >= LONG_TEXT:
            self.numbered.append(value)
        return value

    cdef int enter(self, int depth) except -1:
        if depth >= MAX_NESTING:
            raise damaged(self.span.at, f"it nests deeper than {MAX_NESTING} levels")
        return 0

    cdef int make_room(self, Py_ssize_t size, int depth) except -1:
        self.enter(depth)
        self.room -= size
        if self.room < 0:
            raise damaged(self.span.at, "more elements are announced than there are bytes")
        return 0

    cdef object number(self, object value):
        """Let references find what has just been read."""
        if self.numbered is not None:
            self.numbered.append(value)
        return value

    cdef object finish(self, object container, bint was_plain):
        """Let the collector know a container that is complete, if it need; and let references find it."""
        if not self.is_plain:
            if was_plain:
                track_whole(<PyObject*> container)
            else:
                PyObject_GC_Track(<void*> container)
        return self.number(container)

    cdef object read_tuple(self, Py_ssize_t size, int depth):
        cdef Py_ssize_t i, n_tracked = self.n_tracked
        cdef bint was_plain = self.is_plain
        if size == 0:
            return ()
        self.make_room(size, depth)
        elements = PyTuple_New(size)
        PyObject_GC_UnTrack(<void*> elements)  # until it is complete: others must not find it
        for i in range(size):
            element = self.read(depth + 1)
            Py_INCREF(element)
            PyTuple_SET_ITEM(elements, i, element)
        if self.n_tracked == n_tracked:  # it stays as the collector would leave it
            return self.number(elements)
        return self.finish(elements, was_plain)

    cdef object read_list(self, Py_ssize_t size, int depth):
        cdef Py_ssize_t i
        cdef bint was_plain = self.is_plain
        self.make_room(size, depth)
        self.n_tracked += 1
        elements = PyList_New(size)
        PyObject_GC_UnTrack(<void*> elements)
        for i in range(size):
            element = self.read(depth + 1)
            Py_INCREF(element)
            PyList_SET_ITEM(elements, i, element)
        return self.finish(elements, was_plain)

    cdef object read_dict(self, Py_ssize_t size, int depth):
        cdef bint was_plain = self.is_plain
        self.enter(depth)
        self.n_tracked += 1
        cdef dict made = {}
        while size:
            key = self.read(depth + 1)
            PyDict_SetItem(made, key, self.read(depth + 1))
            size -= 1
        if not was_plain:  # it has found out itself
            return self.number(made)
        PyObject_GC_UnTrack(<void*> made)
        return self.finish(made, True)

    cdef object read_extension(self, int code, Py_ssize_t size, int depth):
        cdef Py_ssize_t outer = self.span.end
        self.span.end = self.span.at + size
        value = self.read_content(code, size, depth)
        if self.span.at != self.span.end:
            raise damaged(self.span.at, "bytes are left over in an extension")
        self.span.end = outer
        return value

    cdef object read_content(self, int code, Py_ssize_t size, int depth):
        cdef Head head
        if code == DATACLASS:
            return self.read_record(depth)
        self.n_tracked += 1
        if code in (NAMED_TUPLE, ENUM, HANDLE, CODEC, TIME, DATETIME, ZONE):
            self.is_plain = False
        if code == NAMED_TUPLE:
            return self.read_named_tuple(depth)
        if code == ENUM:
            return self.read_member()
        if code == HANDLE:
            return self.read_handle()
        if code == SET or code == FROZENSET:
            return self.read_set(code, depth)
        if code == LONG_TUPLE:
            self.enter(depth)
            elements = []
            while self.span.at < self.span.end:
                elements.append(self.read(depth + 1))
            return self.number(tuple(elements))
        if code == REFERENCE:
            return self.read_reference()
        if code == CODEC:
            return self.read_encoded(depth)
        if code == TIME or code == DATETIME:
            return self.read_zoned(code, depth)
        if DATE <= code <= DECIMAL or code == COMPLEX or code == RANGE or code == FRACTION or code == ZONE:
            return read_standard(&self.span, code)
        head.form = IS_EXTENSION
        head.code = code
        head.size = size
        value = read_leaf(&self.span, &head)
        if code == BYTEARRAY or code == SURROGATE_STR and size >= LONG_TEXT:
            self.number(value)
        return value

    cdef object read_set(self, int code, int depth):
        cdef bint was_plain = self.is_plain
        self.enter(depth)
        cdef set elements = set()
        while self.span.at < self.span.end:
            PySet_Add(elements, self.read(depth + 1))
        if code == FROZENSET:
            return self.number(frozenset(elements))
        PyObject_GC_UnTrack(<void*> elements)
        return self.finish(elements, was_plain)

    cdef object read_record(self, int depth):
        """A dataclass. Its fields are set as `object.__setattr__` would, frozen or not."""
        cdef Entry entry = self.source.entry(&self.span, self.defined, DATACLASS)
        self.enter(depth)
        self.n_tracked += 1
        self.is_plain = False
        if entry.is_safe:
            record = (<PyTypeObject*> object).tp_new(<type> entry.cls, <PyObject*> (), NULL)
        else:
            record = object.__new__(entry.cls)  # which refuses what must not be made so
            entry.is_safe = True
        for name in entry.plan.fields:
            if self.span.at >= self.span.end:
                raise damaged(self.span.at, f"{entry.name} has {len(entry.plan.fields)} fields, not fewer")
            PyObject_GenericSetAttr(record, name, self.read(depth + 1))
        return self.number(record)

    cdef object read_named_tuple(self, int depth):
        cdef Entry entry = self.source.entry(&self.span, self.defined, NAMED_TUPLE)
        self.enter(depth)
        elements = []
        while self.span.at < self.span.end:
            elements.append(self.read(depth + 1))
        if len(elements) != len(entry.plan.fields):
            raise damaged(self.span.at, f"{entry.name} has {len(entry.plan.fields)} fields, not {len(elements)}")
        return self.number(tuple.__new__(entry.cls, elements))

    cdef object read_member(self):
        cdef Entry entry = self.source.entry(&self.span, self.defined, ENUM)
        member = member_of(entry.cls, read_plain(&self.span))
        if member is None:
            raise damaged(self.span.at, f"{entry.name} has no such member")
        return member

    cdef object read_handle(self):
        if self.span.end - self.span.at != 8:
            raise damaged(self.span.at, "a handle has 8 bytes")
        cdef uint32_t kind = <uint32_t> big_endian(self.span.data + self.span.at, 4)
        cdef uint32_t number = <uint32_t> big_endian(self.span.data + self.span.at + 4, 4)
        cls = self.source.handle_class(kind, self.span.at)
        number = self.source.handle_id(kind, number, self.span.at)
        self.span.at += 8
        return new_handle(cls, number)

    cdef object read_reference(self):
        cdef Py_ssize_t size = self.span.end - self.span.at
        cdef uint64_t number = big_endian(self.span.data + self.span.at, 8 if size > 8 else <int> size)
        if self.numbered is None or size > 8 or number >= <uint64_t> len(self.numbered):
            raise damaged(self.span.at, "a reference points at nothing")
        self.span.at += size
        return self.numbered[number]

    cdef object read_encoded(self, int depth):
        """What a codec makes of a stored value."""
        cdef Entry entry = self.source.entry(&self.span, self.defined, CODEC)
        self.enter(depth)
        stored = self.read(depth + 1)
        return self.number(entry.codec.decode(stored))

    cdef object read_zoned(self, int code, int depth):
        """A `time` or a `datetime`: numbers, and a zone, which may be any value that is a zone."""
        cdef list parts = read_clock(&self.span, code)
        self.enter(depth)
        zone = self.read(depth + 1)
        if zone is None or type(zone) is str or type(zone) is int:
            parts.append(zone)
            return from_parts(code, parts)
        parts.append(None)
        return from_parts(code, parts).replace(tzinfo=zone)


# --- What the collector knows -----------------------------------------------------------------------------

cdef int track_whole(PyObject* part) noexcept:
    """Let the collector know a container, and all in it that were made before it was known that they must be.

    One that it knows has nothing in it that it does not know. Depth is that of the value, which was checked.
    """
    cdef PyTypeObject* cls = Py_TYPE(<object> part)
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t i = 0
    if cls is not <PyTypeObject*> tuple and cls is not <PyTypeObject*> list and cls is not <PyTypeObject*> dict:
        if cls is <PyTypeObject*> set and not PyObject_GC_IsTracked(<object> part):
            PyObject_GC_Track(part)
        return 0
    if PyObject_GC_IsTracked(<object> part) or part is <PyObject*> ():
        return 0
    PyObject_GC_Track(part)
    if cls is <PyTypeObject*> tuple:
        for i in range(PyTuple_GET_SIZE(<object> part)):
            track_whole(<PyObject*> PyTuple_GET_ITEM(<object> part, i))
    elif cls is <PyTypeObject*> list:
        for i in range(PyList_GET_SIZE(<object> part)):
            track_whole(<PyObject*> PyList_GET_ITEM(<object> part, i))
    else:
        while PyDict_Next(<object> part, &i, &key, &value):
            track_whole(key)
            track_whole(value)
    return 0


# --- Short texts ---------------------------------------------------------------------------------------
# The keys of dicts are few, short, and the same again and again, and so are names in values. The last ones are kept, at
# most N_KEPT of them; all are ASCII.

cdef enum:
    N_KEPT = 512

cdef PyObject* _kept[N_KEPT]


cdef inline uint64_t eight(const unsigned char* data) noexcept:
    cdef uint64_t number
    memcpy(&number, data, 8)
    return number


cdef inline object ascii_text(const unsigned char* data, Py_ssize_t size):
    """What is ASCII, and of at least two characters: of the shortest ones the interpreter keeps a single one."""
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_1BYTE_DATA(text), data, size)
    return text


cdef inline PyObject** kept_place(const unsigned char* data, Py_ssize_t size) noexcept:
    """Where a text of 2 to 31 bytes is kept, if it is."""
    cdef uint64_t mixed = 0
    if size >= 8:
        mixed = eight(data) ^ eight(data + size - 8) * 0xFF51AFD7ED558CCDu
        if size > 16:
            mixed ^= (eight(data + 8) ^ eight(data + size - 16)) * 0xC4CEB9FE1A85EC53u
    else:
        memcpy(&mixed, data, size)
    return &_kept[(mixed ^ mixed >> 32 ^ <uint64_t> size) * 0x9E3779B97F4A7C15u >> 55]


cdef object short_text(const unsigned char* data, Py_ssize_t size):
    """The text of less than 32 bytes."""
    cdef PyObject* old
    cdef PyObject** kept
    if size < 2:
        return PyUnicode_DecodeUTF8(<const char*> data, size, NULL)
    kept = kept_place(data, size)
    old = kept[0]
    if old is not NULL and PyUnicode_GET_LENGTH(<object> old) == size and (
        memcmp(PyUnicode_1BYTE_DATA(<object> old), data, size) == 0
    ):
        return <object> old
    if not is_ascii(data, size):
        return PyUnicode_DecodeUTF8(<const char*> data, size, NULL)
    text = ascii_text(data, size)
    Py_INCREF(text)
    kept[0] = <PyObject*> text
    Py_XDECREF(old)
    return text


cdef int keep_text(object text) except -1:
    cdef PyObject** kept
    cdef PyObject* old
    if type(text) is not str or not PyUnicode_IS_COMPACT_ASCII(text) or not 2 <= PyUnicode_GET_LENGTH(text) < 32:
        return 0
    kept = kept_place(<const unsigned char*> PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
    old = kept[0]
    Py_INCREF(text)
    kept[0] = <PyObject*> text
    Py_XDECREF(old)
    return 0


# --- Numbers and short texts -----------------------------------------------------------------------------

cdef enum:
    SHORT = 100  # bytes from which on a text is not worth making before somebody asks for it

cdef object NO_SCALAR = object()


cdef object unpack_scalar(Source source, Py_ssize_t start, Py_ssize_t end):
    cdef const unsigned char* data = source.data + start
    cdef Py_ssize_t size = end - start
    cdef Span span
    cdef Head head
    if not 0 < size <= SHORT:
        return NO_SCALAR
    if 0xA0 < data[0] < 0xC0 and size > 2 and is_simple(data, size):
        return ascii_text(data + 1, size - 1)
    if data[0] < 0x80 or data[0] >= 0xE0 or 0xA0 <= data[0] < 0xC4 or 0xCB <= data[0] < 0xD4 or data[0] == 0xD9:
        span.data = source.data
        span.at = start
        span.end = end
        next_head(&span, &head)
        value = read_leaf(&span, &head)
        if span.at == end:
            return value
    return NO_SCALAR


# --- Entry points --------------------------------------------------------------------------------------

cdef object unpack_value(Source source, Py_ssize_t start, Py_ssize_t end):
    cdef Reader reader = source.reader
    if reader is None:  # the first, or that one is busy with another value
        reader = Reader()
        reader.defined = []
    source.reader = None
    reader.source = source
    reader.span = source.span(start, end)
    reader.room = end - start
    reader.n_tracked = 0
    reader.is_plain = True
    try:
        value = reader.read_all()
        if reader.numbered is None and not PyList_GET_SIZE(reader.defined):
            reader.source = None
            source.reader = reader
        source.was_plain = reader.is_plain
        return value
    except Exception as error:
        wrapped = as_decode_error(error, reader.span.at)
        if wrapped is error:
            raise error.with_traceback(None)  # the way down into the value says nothing
        raise wrapped from error


def unpack(data, Py_ssize_t start=0, end=None, db=None, Codecs codecs=None, names=(), new_ids=None):
    """The value that was packed into `data`, or into the part of it from `start` to `end`.

    Classes are asked of `db` first, and then of what this process has stored or registered; codecs of `codecs`, or of
    this process. `names` is what the Packer that wrote it has put into its own `names`, if it did. `new_ids` gives
    handles new numbers, by kind; what it has no kind for keeps its number.

    Raises:
        DecodeError: it is no stored value, or names a class or a codec that is not known.
    """
    cdef Source source = new_source(data, db, codecs, names, new_ids)
    value = unpack_value(source, start, source.size if end is None else end)
    track_whole(<PyObject*> value)
    return value


def check(data, Py_ssize_t start=0, end=None, db=None, Codecs codecs=None, names=(), new_ids=None):
    """Raise DecodeError if `unpack` would, without making the value. A codec or a class may still refuse it then."""
    cdef Source source = new_source(data, db, codecs, names, new_ids)
    check_value(source, start, source.size if end is None else end)
