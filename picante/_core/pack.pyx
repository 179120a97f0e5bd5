"""From a value to the bytes that cache files store.

The format is described in `wire.pyx`. User code runs while a value is walked (properties, codecs): whatever it
changes, the walk stays within what is there, and refuses a container that has changed its size.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.complex cimport PyComplex_ImagAsDouble, PyComplex_RealAsDouble
from cpython.dict cimport PyDict_Next, PyDict_Size
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_FromVoidPtr
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from cpython.ref cimport Py_DECREF, Py_REFCNT
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8String
from libc.stdint cimport uint32_t, uint64_t

from picante._core.buffer cimport (
    Buffer, begin_extension, end_extension, put, put_bytes, put_double, put_head, put_int, put_number, put_reference,
    put_text, put_unsigned, wrap,
)
from picante._core.check cimport check_structure
from picante._core.classes cimport member_name, stored_plan_of, type_name
from picante._core.codecs cimport Codecs, standard_codecs
from picante._core.errors import DecodeError, EncodeError
from picante._core.extension cimport (
    BYTEARRAY, CODEC, COMPLEX, DATACLASS, DATETIME, ENUM, FRACTION, FROZENSET, HANDLE, LONG_TUPLE, NAMED_TUPLE, RANGE,
    SET, SHARED, SURROGATE_STR, TIME, ZONE, clock_parts, parts_of, zone_parts,
)
from picante._core.ids cimport Handle
from picante._core.place cimport (
    AMONG, AS_STORED, AT_FIELD, AT_INDEX, AT_KEY, Place, blame, changed, enter, path_of, place_outermost, refusal,
    too_many, user_error,
)
from picante._core.references cimport References
from picante._core.wire cimport LONG_TEXT, Span

__all__ = ["Packer", "pack"]


cdef extern from "Python.h":
    PyObject* PyObject_GetAttr(object value, object name)  # NULL: an error is set
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    void* PyUnicode_DATA(object text) noexcept


cdef enum:
    # Instead of the number of an entry in `met`.
    ALONE = -1  # nothing else refers to it
    REFERRED = -2  # it was written before, and now a reference to it


cdef class Known:
    """How values of one class are stored."""


@cython.final
cdef class Packer:
    """Packs values, many with one list of names.

    With `inline_names=True` each of them stands for itself instead, and `unpack` needs no names.

    >>> packer = Packer()
    >>> packer.pack((1, "a"))
    b'\\x92\\x01\\xa1a'
    """

    def __cinit__(self, Codecs codecs=None, *, bint inline_names=False):
        self.codecs = standard_codecs if codecs is None else codecs
        self.inline_names = inline_names
        self.names = []
        self.known = {}
        self.met = References()
        self.epoch = 1

    def pack(self, value):
        """The value as bytes. `EncodeError` says which part of it cannot be stored."""
        cdef Buffer out = Buffer()
        self.pack_into(out, value)
        return PyBytes_FromStringAndSize(<char*> out.data, out.size)

    cdef int pack_into(self, Buffer out, object value) except -1:
        cdef Py_ssize_t start = out.size
        cdef Place root
        cdef Span whole
        if self.out is not None:
            raise RuntimeError("This Packer is packing: a codec or a property needs another one.")
        if type(value) is str and PyUnicode_IS_COMPACT_ASCII(value) and PyUnicode_GET_LENGTH(value) < LONG_TEXT:
            return put_text(out, PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))  # as most keys are
        place_outermost(&root)
        if self.inline_names:
            self.epoch += 1
            self.names = []
        self.out = out
        self.shared = False
        self.n_numbered = 0
        try:
            self.write(value, &root)
            if self.shared:
                # References can make it deeper than it looks, and hashing it endless.
                wrap(out, start, SHARED)
                whole.data = out.data
                whole.at = start
                whole.end = out.size
                check_structure(whole)
        except BaseException as error:
            out.size = start
            if isinstance(error, DecodeError):
                raise EncodeError(f"The value cannot be stored: {error.reason}.", place="value") from None
            if isinstance(error, Exception) and not isinstance(error, (EncodeError, MemoryError)):
                raise blame(error, &root)
            raise error.with_traceback(None)  # the way down into the value says nothing
        finally:
            self.met.clear()
            self.out = None
        return 0

    cdef int write(self, object value, const Place* place) except -1:
        """Append one value."""
        cdef PyTypeObject* cls = Py_TYPE(value)
        cdef Buffer out = self.out
        if cls is <PyTypeObject*> str:
            return self.write_str(value, place)
        if cls is <PyTypeObject*> int:
            return put_int(out, value)
        if cls is <PyTypeObject*> tuple:
            return self.write_tuple(value, place)
        if value is None:
            return put(out, 0xC0, 0, 0)
        if cls is <PyTypeObject*> float:
            put(out, 0xCB, 0, 0)
            return put_double(out, <double> value)
        if cls is <PyTypeObject*> list:
            return self.write_list(value, place)
        if cls is <PyTypeObject*> dict:
            return self.write_dict(value, place)
        if value is True or value is False:
            return put(out, 0xC3 if value is True else 0xC2, 0, 0)
        return self.write_other(value, place)

    cdef int write_str(self, str text, const Place* place) except -1:
        cdef Py_ssize_t size, start, entry = ALONE
        if PyUnicode_IS_COMPACT_ASCII(text):
            size = PyUnicode_GET_LENGTH(text)
            if size >= LONG_TEXT:
                entry = self.begin(text, place)
            if entry != REFERRED:
                put_text(self.out, PyUnicode_DATA(text), size)
            return self.end(entry) if size >= LONG_TEXT and entry != REFERRED else 0
        surrogates = False
        try:
            data = PyUnicode_AsUTF8String(text)  # a copy: `text` would keep the one that it made
        except UnicodeEncodeError:
            surrogates = True
            data = text.encode("utf-8", "surrogatepass")
        size = PyBytes_GET_SIZE(data)
        if size >= LONG_TEXT:
            entry = self.begin(text, place)
            if entry == REFERRED:
                return 0
        if surrogates:
            start = begin_extension(self.out, SURROGATE_STR)
            put_bytes(self.out, PyBytes_AS_STRING(data), size)
            end_extension(self.out, start)
        else:
            put_text(self.out, PyBytes_AS_STRING(data), size)
        return self.end(entry) if size >= LONG_TEXT else 0

    cdef int write_bytes(self, bytes data, const Place* place) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t entry = ALONE
        if size >= LONG_TEXT:
            entry = self.begin(data, place)
            if entry == REFERRED:
                return 0
        put_head(self.out, 0xC4, 0xC5, size)
        put_bytes(self.out, PyBytes_AS_STRING(data), size)
        return self.end(entry) if size >= LONG_TEXT else 0

    cdef int write_tuple(self, object elements, const Place* place) except -1:
        cdef Py_ssize_t size = PyTuple_GET_SIZE(elements)
        cdef Py_ssize_t start = -1, entry
        if size == 0:
            return put(self.out, 0x90, 0, 0)
        entry = self.begin(elements, place)
        if entry == REFERRED:
            return 0
        if size < 16:
            put(self.out, <unsigned char> (0x90 | size), 0, 0)
        elif size <= 0xFFFF:
            put(self.out, 0xDC, size, 2)
        else:
            start = begin_extension(self.out, LONG_TUPLE)
        self.write_elements(elements, None, place)
        if start >= 0:
            end_extension(self.out, start)
        return self.end(entry)

    cdef int write_elements(self, object elements, tuple names, const Place* place) except -1:
        """The elements of a tuple or a named tuple, one after the other."""
        cdef Place inner
        cdef Py_ssize_t i
        enter(&inner, place, AT_INDEX)
        if names is not None:
            inner.step = AT_FIELD
        for i in range(PyTuple_GET_SIZE(elements)):
            element = <object> PyTuple_GET_ITEM(elements, i)
            inner.index = i
            if names is not None:
                inner.name = <void*> PyTuple_GET_ITEM(names, i)
            self.write(element, &inner)
        return 0

    cdef int write_list(self, list elements, const Place* place) except -1:
        cdef Py_ssize_t size = PyList_GET_SIZE(elements)
        cdef Py_ssize_t i, entry = self.begin(elements, place)
        cdef Place inner
        if entry == REFERRED:
            return 0
        enter(&inner, place, AT_INDEX)
        if size < 16:
            put(self.out, 0xDC, size, 2)
        else:
            if <uint64_t> size > 0xFFFF_FFFFu:
                too_many()
            put(self.out, 0xDD, size, 4)
        for i in range(size):
            if i >= PyList_GET_SIZE(elements):
                break
            element = <object> PyList_GET_ITEM(elements, i)
            inner.index = i
            self.write(element, &inner)
        if PyList_GET_SIZE(elements) != size:
            raise changed(place)
        return self.end(entry)

    cdef int write_dict(self, dict items, const Place* place) except -1:
        cdef Py_ssize_t size = PyDict_Size(items)
        cdef Py_ssize_t at = 0, n_written = 0, entry = self.begin(items, place)
        cdef PyObject* found_key
        cdef PyObject* found_value
        cdef Place inner
        if entry == REFERRED:
            return 0
        enter(&inner, place, AMONG)
        if size < 16:
            put(self.out, <unsigned char> (0x80 | size), 0, 0)
        else:
            if <uint64_t> size > 0xFFFF_FFFFu:
                too_many()
            put_head(self.out, 0, 0xDE, size)
        while n_written < size and PyDict_Next(items, &at, &found_key, &found_value):
            key = <object> found_key
            value = <object> found_value
            inner.step = AMONG
            self.write(key, &inner)
            inner.step = AT_KEY
            inner.name = <void*> key
            self.write(value, &inner)
            n_written += 1
        if n_written != size or PyDict_Size(items) != size:
            raise changed(place)
        return self.end(entry)

    cdef int write_set(self, object elements, int code, const Place* place) except -1:
        cdef Py_ssize_t entry = self.begin(elements, place)
        cdef Py_ssize_t start
        cdef Place inner
        if entry == REFERRED:
            return 0
        start = begin_extension(self.out, code)
        enter(&inner, place, AMONG)
        inner.owners = 3  # the set, the copy, and the variable
        for element in list(elements):
            self.write(element, &inner)
        end_extension(self.out, start)
        return self.end(entry)

    cdef int write_other(self, object value, const Place* place) except -1:
        """What is not written as a plain MessagePack value."""
        cls = type(value)
        cdef Py_ssize_t start, entry
        cdef Known known
        if cls is bytes:
            return self.write_bytes(value, place)
        if cls is set or cls is frozenset:
            return self.write_set(value, SET if cls is set else FROZENSET, place)
        if cls is bytearray:
            entry = self.begin(value, place)
            if entry != REFERRED:
                start = begin_extension(self.out, BYTEARRAY)
                data = bytes(value)
                put_bytes(self.out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
                end_extension(self.out, start)
                self.end(entry)
            return 0
        if cls is complex:
            put(self.out, 0xD8, COMPLEX, 1)
            put_double(self.out, PyComplex_RealAsDouble(value))
            return put_double(self.out, PyComplex_ImagAsDouble(value))
        if cls is range:
            start = begin_extension(self.out, RANGE)
            for number in (value.start, value.stop, value.step):
                put_int(self.out, int(number))
            return end_extension(self.out, start)
        known = self.know(cls)
        if known is None:
            raise refusal(cls, place)
        if known.codec is not None:
            return self.write_encoded(value, known, place)
        return self.write_planned(value, known, place)

    cdef Known know(self, object cls):
        """How values of `cls` are stored, or None."""
        cdef size_t slot = (<size_t> <void*> cls >> 5) & 31
        cdef Known known
        if self.recent[slot] is not NULL:
            known = <Known> self.recent[slot]
            if known.cls is cls:
                return known
        address = PyLong_FromVoidPtr(<void*> cls)
        known = self.known.get(address)
        if known is None:
            known = Known()
            known.cls = cls
            known.codec = self.codecs.of_class(cls)
            if known.codec is None:
                known.plan = stored_plan_of(cls)
                if known.plan is None:
                    return None
            self.known[address] = known
        self.recent[slot] = <PyObject*> known
        return known

    cdef int write_name(self, Known known) except -1:
        """Which class it is, or which codec."""
        if known.named_in == self.epoch:
            return put_unsigned(self.out, known.number)
        cdef bint has_fields = known.codec is None and known.plan.fields is not None
        name = known.plan.name if known.codec is None else known.codec.name
        cdef uint32_t shape = known.plan.shape if has_fields else 0
        data = name.encode()
        if self.inline_names:
            put_text(self.out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if has_fields:
                put_unsigned(self.out, shape)
        else:
            put_unsigned(self.out, len(self.names))
        known.number = len(self.names)
        known.named_in = self.epoch
        self.names.append((name, shape))
        return 0

    cdef int write_planned(self, object value, Known known, const Place* place) except -1:
        cdef Py_ssize_t start
        cdef int code = known.plan.code
        if code == DATACLASS:
            return self.write_record(value, known, place)
        if code == NAMED_TUPLE:
            return self.write_named_tuple(value, known, place)
        if code == HANDLE:
            if self.n_ids is not None and (<Handle> value)._id >= self.n_ids.get(known.plan.shape, 0):
                raise refusal(known.cls, place, "the value that it stands for is not stored")
            put(self.out, 0xD7, HANDLE, 1)
            self.out.reserve(8)
            put_number(self.out.data + self.out.size, <uint64_t> known.plan.shape << 32 | (<Handle> value)._id, 8)
            self.out.size += 8
            return 0
        start = begin_extension(self.out, code)
        if code == ENUM:
            name = member_name(value)
            if name is None:
                raise refusal(known.cls, place, "it is no member of its own class")
            self.write_name(known)
            self.write(name, place)
        else:
            self.write_standard(value, code, place)
        return end_extension(self.out, start)

    cdef int write_record(self, object value, Known known, const Place* place) except -1:
        """A dataclass."""
        cdef Py_ssize_t entry = self.begin(value, place)
        cdef Py_ssize_t i, start
        cdef Place inner
        cdef PyObject* got
        cdef tuple fields = known.plan.fields
        if entry == REFERRED:
            return 0
        enter(&inner, place, AT_FIELD)
        start = begin_extension(self.out, DATACLASS)
        self.write_name(known)
        for i in range(PyTuple_GET_SIZE(fields)):
            inner.name = <void*> PyTuple_GET_ITEM(fields, i)
            got = PyObject_GetAttr(value, <object> inner.name)
            if got is NULL:
                raise user_error(&inner)
            field = <object> got
            Py_DECREF(field)  # the variable has its own reference
            self.write(field, &inner)
        end_extension(self.out, start)
        return self.end(entry)

    cdef int write_named_tuple(self, object value, Known known, const Place* place) except -1:
        cdef Py_ssize_t entry = self.begin(value, place)
        cdef Py_ssize_t start
        if entry == REFERRED:
            return 0
        if PyTuple_GET_SIZE(value) != PyTuple_GET_SIZE(known.plan.fields):
            raise refusal(known.cls, place, "it has not as many elements as fields")
        start = begin_extension(self.out, NAMED_TUPLE)
        self.write_name(known)
        self.write_elements(value, known.plan.fields, place)
        end_extension(self.out, start)
        return self.end(entry)

    cdef int write_standard(self, object value, int code, const Place* place) except -1:
        """The content for a value of one of the standard library's classes."""
        cdef Place inner
        if code == TIME or code == DATETIME:
            parts = clock_parts(code, value)
        elif code == FRACTION:
            parts = (value.numerator, value.denominator)
        elif code == ZONE:
            parts = zone_parts(value)
            if parts is None:
                raise refusal(type(value), place, "it was read from a file, and has no name")
            if type(parts) is not tuple:
                parts = (parts,)
        else:
            parts = parts_of(code, value)
        for part in parts:
            self.write(part, place)
        if code == TIME or code == DATETIME:
            enter(&inner, place, AT_FIELD)
            field = "tzinfo"
            inner.name = <void*> field
            zone = value.tzinfo
            parts = zone_parts(zone)
            self.write(zone if parts is None or type(parts) is tuple else parts, &inner)
        return 0

    cdef int write_encoded(self, object value, Known known, const Place* place) except -1:
        """What a codec makes of a value."""
        cdef Py_ssize_t entry = self.begin(value, place)
        cdef Py_ssize_t start
        cdef Place inner
        if entry == REFERRED:
            return 0
        enter(&inner, place, AS_STORED)
        inner.name = <void*> known.codec.name
        try:
            stored = known.codec.encode(value)
        except MemoryError:
            raise
        except Exception as error:
            raise blame(error, place)
        start = begin_extension(self.out, CODEC)
        self.write_name(known)
        self.write(stored, &inner)
        end_extension(self.out, start)
        return self.end(entry)

    cdef inline Py_ssize_t begin(self, object value, const Place* place) except -3:
        """Start a value that can be referred to: ALONE, its entry in `met`, or REFERRED, and it is done."""
        if Py_REFCNT(value) <= place.owners:
            return ALONE
        cdef bint is_new
        cdef Py_ssize_t entry = self.met.find(value, &is_new)
        return entry if is_new else self.refer(self.met.entries[entry].number, value, place)

    cdef Py_ssize_t refer(self, Py_ssize_t number, object value, const Place* place) except -3:
        if number < 0:
            path = path_of(place)
            raise EncodeError(
                f"{path} contains itself, and cannot be stored.", type_name=type_name(type(value)), place=path
            )
        put_reference(self.out, number)
        self.shared = True
        return REFERRED

    cdef inline int end(self, Py_ssize_t entry) except -1:
        """It is complete, and has the next number."""
        if entry != ALONE:
            self.met.entries[entry].number = self.n_numbered
        self.n_numbered += 1
        return 0


def pack(value, Codecs codecs=None):
    """The bytes of one value, from which `unpack` makes it anew: equal, of the same types, with the same parts shared.

    >>> pack((1, "a"))
    b'\\x92\\x01\\xa1a'

    Raises:
        EncodeError: a part of it cannot be stored; the message says which, and why.
    """
    return Packer(codecs, inline_names=True).pack(value)
