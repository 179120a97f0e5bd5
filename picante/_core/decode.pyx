"""From canonical bytes to the value (r[key.encoding]); the format is described in `extension.pyx`.

The bytes may come from anywhere: what they announce is believed only once it is there.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject_GenericSetAttr
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from picante._core.classes cimport Plan, find_class, member_of, plan_of, type_name
from picante._core.encode cimport encode_key
from picante._core.errors import DecodeError
from picante._core.extension cimport (
    BAD_PARTS, BIG_INT, DATACLASS, DATE, DECIMAL, ENUM, FROZENSET, HANDLE, MAX_DEPTH, NAMED_TUPLE, SURROGATE_STR,
    from_parts, standard_code,
)
from picante._core.ids cimport Handle, new_handle


cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)


@cython.final
cdef class Reader:
    """One decoding: the bytes, how far it has come, and whom it asks for classes."""

    cdef bytes source
    cdef const unsigned char* data
    cdef Py_ssize_t at
    cdef object db
    cdef bint extended  # an extension has been read

    cdef object read_all(self, bytes source, object db):
        self.source = source
        self.data = <const unsigned char*> PyBytes_AS_STRING(source)
        self.at = 0
        self.db = db
        self.extended = False
        cdef Py_ssize_t end = PyBytes_GET_SIZE(source)
        value = self.read(end, 0)
        if self.at != end:
            left = end - self.at
            raise self.error(f"{left} byte{' is' if left == 1 else 's are'} left over")
        # Plain forms were checked one by one. What an extension must look like is known to the encoder alone.
        if self.extended and encode_key(value) != source:
            raise DecodeError(reason="it is not in the canonical form")
        return value

    cdef object error(self, reason):
        # Cut, because it may quote the bytes, which may be many.
        return DecodeError(reason=reason[:200], position=self.at)

    cdef const unsigned char* take(self, uint64_t size, Py_ssize_t end) except NULL:
        """The next `size` bytes, which must all be there."""
        if size > <uint64_t> (end - self.at):
            raise self.error(f"{size} bytes are announced, and only {end - self.at} are there")
        cdef const unsigned char* start = self.data + self.at
        self.at += <Py_ssize_t> size
        return start

    cdef uint64_t number(self, int width, uint64_t least, Py_ssize_t end) except? 0xDEAD:
        """A number of `width` bytes, of at least `least`: a smaller one has a shorter form."""
        cdef const unsigned char* data = self.take(width, end)
        cdef uint64_t result = 0
        cdef int i
        for i in range(width):
            result = result << 8 | data[i]
        if result < least:
            raise self.error("it is not in the shortest form")
        return result

    cdef object read(self, Py_ssize_t end, int depth):
        """The value that starts here and lies before `end`."""
        cdef unsigned char tag = self.take(1, end)[0]
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 256
        if 0x90 <= tag < 0xA0:
            return self.read_tuple(tag & 15, end, depth)
        if 0xA0 <= tag < 0xC0:
            return self.read_str(tag & 31, end)
        if tag == 0xC0:
            return None
        if tag == 0xC2:
            return False
        if tag == 0xC3:
            return True
        if tag == 0xC4:
            return self.read_bytes(self.number(1, 0, end), end)
        if tag == 0xC5:
            return self.read_bytes(self.number(2, 0x100, end), end)
        if tag == 0xC6:
            return self.read_bytes(self.number(4, 0x1_0000, end), end)
        if tag == 0xC7:
            return self.read_extension(self.number(1, 0, end), end, depth)
        if tag == 0xC8:
            return self.read_extension(self.number(2, 0x100, end), end, depth)
        if tag == 0xC9:
            return self.read_extension(self.number(4, 0x1_0000, end), end, depth)
        if tag == 0xCB:
            return self.read_float(end)
        if tag == 0xCC:
            return self.number(1, 0x80, end)
        if tag == 0xCD:
            return self.number(2, 0x100, end)
        if tag == 0xCE:
            return self.number(4, 0x1_0000, end)
        if tag == 0xCF:
            return self.number(8, 0x1_0000_0000u, end)
        if tag == 0xD0:
            return self.read_negative(1, -0x20, end)
        if tag == 0xD1:
            return self.read_negative(2, -0x80, end)
        if tag == 0xD2:
            return self.read_negative(4, -0x8000, end)
        if tag == 0xD3:
            return self.read_negative(8, -0x8000_0000, end)
        if 0xD4 <= tag <= 0xD8:
            return self.read_extension(1 << (tag - 0xD4), end, depth)
        if tag == 0xD9:
            return self.read_str(self.number(1, 0x20, end), end)
        if tag == 0xDA:
            return self.read_str(self.number(2, 0x100, end), end)
        if tag == 0xDB:
            return self.read_str(self.number(4, 0x1_0000, end), end)
        if tag == 0xDC:
            return self.read_tuple(self.number(2, 0x10, end), end, depth)
        if tag == 0xDD:
            return self.read_tuple(self.number(4, 0x1_0000, end), end, depth)
        raise self.error(f"no value starts with {tag:#04x}")

    cdef object read_negative(self, int width, int64_t bound, Py_ssize_t end):
        """A signed number below `bound`: any other has a shorter form."""
        cdef int shift = 64 - 8 * width
        cdef int64_t number = <int64_t> (self.number(width, 0, end) << shift) >> shift
        if number >= bound:
            raise self.error("it is not in the shortest form")
        return number

    cdef object read_float(self, Py_ssize_t end):
        cdef uint64_t bits = self.number(8, 0, end)
        cdef double number
        memcpy(&number, &bits, 8)
        if number != number and bits != 0x7FF8_0000_0000_0000u:
            raise self.error("it is not the one NaN")
        return number

    cdef object read_str(self, uint64_t size, Py_ssize_t end):
        cdef const unsigned char* data = self.take(size, end)
        try:
            return PyUnicode_DecodeUTF8(<const char*> data, <Py_ssize_t> size, "strict")
        except UnicodeDecodeError:
            raise self.error("it is not UTF-8") from None

    cdef object read_bytes(self, uint64_t size, Py_ssize_t end):
        return PyBytes_FromStringAndSize(<const char*> self.take(size, end), <Py_ssize_t> size)

    cdef tuple read_tuple(self, uint64_t size, Py_ssize_t end, int depth):
        # Each element takes a byte at least. The list grows with what is read, not with what is announced: nested
        # announcements would multiply.
        if size > <uint64_t> (end - self.at):
            raise self.error(f"{size} elements are announced, and only {end - self.at} bytes are there")
        self.check_depth(depth)
        elements = []
        while size:
            elements.append(self.read(end, depth + 1))
            size -= 1
        return tuple(elements)

    cdef int check_depth(self, int depth) except -1:
        if depth == MAX_DEPTH:
            raise self.error(f"it nests deeper than {MAX_DEPTH} levels")
        return 0

    cdef list read_until(self, Py_ssize_t end, int depth):
        """All values before `end`."""
        values = []
        while self.at < end:
            values.append(self.read(end, depth))
        return values

    cdef object read_extension(self, uint64_t size, Py_ssize_t end, int depth):
        cdef int code = self.take(1, end)[0]
        self.take(size, end)
        end = self.at  # the content's
        self.at -= <Py_ssize_t> size
        self.extended = True
        if code == BIG_INT:
            return int.from_bytes(self.read_bytes(size, end), "big", signed=True)
        if code == SURROGATE_STR:
            return self.read_surrogates(size, end)
        if code == HANDLE:
            return self.read_handle(end)
        if code == FROZENSET:
            self.check_depth(depth)
            return frozenset(self.read_until(end, depth + 1))
        if code == ENUM:
            return self.read_member(end, depth)
        if code == DATACLASS or code == NAMED_TUPLE:
            return self.read_record(code, end, depth)
        if DATE <= code <= DECIMAL:
            return self.read_standard(code, end, depth)
        raise self.error(f"there is no extension {code}")

    cdef object read_surrogates(self, uint64_t size, Py_ssize_t end):
        cdef const unsigned char* data = self.take(size, end)
        try:
            return PyUnicode_DecodeUTF8(<const char*> data, <Py_ssize_t> size, "surrogatepass")
        except UnicodeDecodeError:
            raise self.error("it is not UTF-8") from None

    cdef Handle read_handle(self, Py_ssize_t end):
        if end - self.at != 8:
            raise self.error("a handle has 8 bytes")
        kind = self.number(4, 0, end)
        cls = find_class(kind, self.db, "_handle_class", True)
        cdef Plan plan = plan_of(cls)
        if plan is None or plan.code != HANDLE or plan.shape != <uint32_t> kind:
            raise self.error(f"{type_name(cls)} is not the handle class of kind_{kind}")
        return new_handle(cls, <uint32_t> self.number(4, 0, end))

    cdef object read_member(self, Py_ssize_t end, int depth):
        cls = self.read_class(ENUM, end, depth)
        name = self.read(end, depth)
        if self.at != end:
            raise self.error("a member has nothing but a name")
        member = member_of(cls, name)
        if member is None:
            raise self.error(f"{type_name(cls)} has no such member")
        return member

    cdef object read_record(self, int code, Py_ssize_t end, int depth):
        """A frozen dataclass or a named tuple."""
        cls = self.read_class(code, end, depth)
        cdef Plan plan = plan_of(cls)
        if self.read(end, depth) != plan.shape:
            raise self.error(f"the fields of {plan.name} have changed")
        self.check_depth(depth)
        values = self.read_until(end, depth + 1)
        if len(values) != len(plan.fields):
            raise self.error(f"{plan.name} has {len(plan.fields)} fields, not {len(values)}")
        if code == NAMED_TUPLE:
            return tuple.__new__(cls, values)
        record = object.__new__(cls)
        for name, value in zip(plan.fields, values):
            PyObject_GenericSetAttr(record, name, value)
        return record

    cdef object read_class(self, int code, Py_ssize_t end, int depth):
        name = self.read(end, depth)
        if type(name) is not str:
            raise self.error("a class has a name")
        cls = find_class(name, self.db, "_known_class", True)
        cdef Plan plan = plan_of(cls)
        if plan is None or plan.code != code or plan.name != name:
            raise self.error(f"{name} is another sort of class now")
        return cls

    cdef object read_standard(self, int code, Py_ssize_t end, int depth):
        standard_code(object)  # which sees to it that their modules are imported
        parts = self.read_until(end, depth)
        try:
            return from_parts(code, parts)
        except BAD_PARTS as error:
            raise self.error(str(error) or type(error).__name__) from error


cdef object decode_key(bytes encoding, object db):
    cdef Reader reader = Reader()
    return reader.read_all(encoding, db)
