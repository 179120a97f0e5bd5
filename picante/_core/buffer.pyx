"""Bytes that grow, and the heads of MessagePack in them.

Heads come in their shortest forms, but those of extensions, which are written before it is known how long they get.
Keys are encoded without these buffers (`encode.pyx`), and with the same heads.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memmove

from picante._core.errors import EncodeError
from picante._core.extension cimport BIG_INT, REFERENCE


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


@cython.final
cdef class Buffer:
    """Bytes that grow."""

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef int grow(self, Py_ssize_t extra) except -1:
        cdef Py_ssize_t capacity = self.capacity if self.capacity else 256
        cdef void* data
        if extra > PY_SSIZE_T_MAX // 4 - self.size:
            raise MemoryError
        while capacity - self.size < extra:
            capacity *= 2
        data = PyMem_Realloc(self.data, capacity)
        if data is NULL:
            raise MemoryError
        self.data = <unsigned char*> data
        self.capacity = capacity
        return 0


cdef int head_of_int(unsigned char* head, object number) except -1:
    cdef int overflow
    cdef int64_t small = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow == 0:
        if small >= 0:
            return head_of_unsigned(head, small)
        if small >= -32:
            return head_of(head, <unsigned char> (small & 0xFF), 0, 0)
        if small >= -0x80:
            return head_of(head, 0xD0, small, 1)
        if small >= -0x8000:
            return head_of(head, 0xD1, small, 2)
        if small >= -<int64_t> 0x8000_0000u:
            return head_of(head, 0xD2, small, 4)
        return head_of(head, 0xD3, small, 8)
    if overflow > 0 and number.bit_length() <= 64:
        return head_of_unsigned(head, number)
    return 0


cdef bytes bytes_of_int(object number):
    """Two's complement in the fewest bytes: -2**63 needs 8, 2**63 needs 9."""
    n_bytes = (number if number >= 0 else ~number).bit_length() // 8 + 1
    return number.to_bytes(n_bytes, "big", signed=True)


cdef int put_int(Buffer out, object number) except -1:
    out.reserve(LONGEST_HEAD)
    cdef int size = head_of_int(out.data + out.size, number)
    out.size += size
    if size:
        return 0
    cdef Py_ssize_t start = begin_extension(out, BIG_INT)
    data = bytes_of_int(number)
    put_bytes(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return end_extension(out, start)


cdef int put_head(Buffer out, int tag8, int tag16, Py_ssize_t size) except -1:
    """The head of what is too long for a shorter one. `tag8` may be 0."""
    out.reserve(LONGEST_HEAD)
    cdef int head_size = head_of_size(out.data + out.size, tag8, tag16, size)
    if head_size == 0:
        raise EncodeError("A part of the value is longer than 4 GiB, which cache files cannot express.")
    out.size += head_size
    return 0


cdef int end_extension(Buffer out, Py_ssize_t start) except -1:
    """Say how long the extension is that starts there, and widen its head if it must be."""
    cdef Py_ssize_t size = out.size - start - 3
    cdef unsigned char code = out.data[start + 2]
    cdef int width = 2 if size <= 0xFFFF else 4
    if size <= 0xFF:
        out.data[start + 1] = <unsigned char> size
        return 0
    if <uint64_t> size > 0xFFFF_FFFFu:
        raise EncodeError("A part of the value is longer than 4 GiB, which cache files cannot express.")
    out.reserve(width - 1)
    memmove(out.data + start + 2 + width, out.data + start + 3, size)
    out.data[start] = 0xC8 if width == 2 else 0xC9
    put_number(out.data + start + 1, size, width)
    out.data[start + 1 + width] = code
    out.size += width - 1
    return 0


cdef int end_bytes(Buffer out, Py_ssize_t start) except -1:
    """Say how many bytes there are behind the head that starts there, and widen that if it must be."""
    cdef Py_ssize_t size = out.size - start - 2
    cdef unsigned char[LONGEST_HEAD] head
    cdef int head_size = head_of_size(head, 0xC4, 0xC5, size)
    if head_size == 0:
        raise EncodeError("A part of the value is longer than 4 GiB, which cache files cannot express.")
    if head_size > 2:
        out.reserve(head_size - 2)
        memmove(out.data + start + head_size, out.data + start + 2, size)
        out.size += head_size - 2
    memcpy(out.data + start, head, head_size)
    return 0


cdef int wrap(Buffer out, Py_ssize_t start, int code) except -1:
    """Make all from `start` on the content of an extension."""
    cdef Py_ssize_t size = out.size - start
    out.reserve(6)
    memmove(out.data + start + 3, out.data + start, size)
    out.size = start
    begin_extension(out, code)
    out.size += size
    return end_extension(out, start)


cdef int put_reference(Buffer out, uint64_t number) except -1:
    cdef int width = 0  # 1, 2, 4 or 8 bytes
    while width < 3 and number >> (8 << width):
        width += 1
    put(out, <unsigned char> (0xD4 + width), REFERENCE, 1)
    out.reserve(8)
    put_number(out.data + out.size, number, 1 << width)
    out.size += 1 << width
    return 0
