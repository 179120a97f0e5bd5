"""Bytes that grow, and the heads of MessagePack in them."""

cimport cython
from libc.stdint cimport uint64_t
from libc.string cimport memcpy


@cython.final
cdef class Buffer:
    """Bytes that grow."""

    cdef unsigned char* data
    cdef Py_ssize_t size  # how many there are
    cdef Py_ssize_t capacity

    cdef int grow(self, Py_ssize_t extra) except -1

    cdef inline int reserve(self, Py_ssize_t extra) except -1:
        """Make room for `extra` more bytes."""
        if extra > self.capacity - self.size:
            self.grow(extra)
        return 0

    cdef inline void reset(self) noexcept:
        self.size = 0


cdef int put_int(Buffer out, object number) except -1  # of any size
cdef int put_reference(Buffer out, uint64_t number) except -1
cdef int put_head(Buffer out, int tag8, int tag16, Py_ssize_t size) except -1  # beyond the shortest; `tag8` may be 0

# An extension stands between the two. `start` is where it begins; more bytes may be moved to widen its head.
cdef int end_extension(Buffer out, Py_ssize_t start) except -1

# The same for bytes that begin there: two bytes for their head, and all that follows.
cdef int end_bytes(Buffer out, Py_ssize_t start) except -1

cdef int wrap(Buffer out, Py_ssize_t start, int code) except -1  # all from `start` on becomes an extension's content


# --- Heads, for whoever has room for them ----------------------------------------------------------------
# Each writes at most LONGEST_HEAD bytes to `head`, in the shortest form, and returns how many.

cdef enum:
    LONGEST_HEAD = 9

cdef int head_of_int(unsigned char* head, object number) except -1  # 0: it takes more than 64 bits
cdef bytes bytes_of_int(object number)  # the content of the extension for such a number


cdef inline void put_number(unsigned char* data, uint64_t number, int width) noexcept nogil:
    """The low `width` bytes of a number, the highest first."""
    while width:
        width -= 1
        data[0] = <unsigned char> (number >> (8 * width))
        data += 1


cdef inline int head_of(unsigned char* head, unsigned char tag, uint64_t number, int width) noexcept nogil:
    """A tag, and a number of so many bytes."""
    head[0] = tag
    put_number(head + 1, number, width)
    return 1 + width


cdef inline int head_of_unsigned(unsigned char* head, uint64_t number) noexcept nogil:
    if number < 0x80:
        return head_of(head, <unsigned char> number, 0, 0)
    if number <= 0xFF:
        return head_of(head, 0xCC, number, 1)
    if number <= 0xFFFF:
        return head_of(head, 0xCD, number, 2)
    if number <= 0xFFFF_FFFFu:
        return head_of(head, 0xCE, number, 4)
    return head_of(head, 0xCF, number, 8)


cdef inline int head_of_size(unsigned char* head, int tag8, int tag16, Py_ssize_t size) noexcept nogil:
    """That of what is too long for a shorter one. `tag8` may be 0. Returns 0 where there is no such head."""
    if size <= 0xFF and tag8:
        return head_of(head, <unsigned char> tag8, size, 1)
    if size <= 0xFFFF:
        return head_of(head, <unsigned char> tag16, size, 2)
    if <uint64_t> size <= 0xFFFF_FFFFu:
        return head_of(head, <unsigned char> (tag16 + 1), size, 4)
    return 0


# --- What is appended ------------------------------------------------------------------------------------

cdef inline int put(Buffer out, unsigned char tag, uint64_t number, int width) except -1:
    """A tag, and a number of so many bytes."""
    out.reserve(LONGEST_HEAD)
    out.size += head_of(out.data + out.size, tag, number, width)
    return 0


cdef inline int put_unsigned(Buffer out, uint64_t number) except -1:
    out.reserve(LONGEST_HEAD)
    out.size += head_of_unsigned(out.data + out.size, number)
    return 0


cdef inline int put_double(Buffer out, double number) except -1:
    """The eight bytes of a float, without a tag."""
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    out.reserve(8)
    put_number(out.data + out.size, bits, 8)
    out.size += 8
    return 0


cdef inline int put_bytes(Buffer out, const void* data, Py_ssize_t size) except -1:
    out.reserve(size)
    memcpy(out.data + out.size, data, size)
    out.size += size
    return 0


cdef inline int put_text(Buffer out, const void* data, Py_ssize_t size) except -1:
    if size >= 32:
        put_head(out, 0xD9, 0xDA, size)
        return put_bytes(out, data, size)
    out.reserve(1 + size)
    out.data[out.size] = <unsigned char> (0xA0 | size)
    memcpy(out.data + out.size + 1, data, size)
    out.size += 1 + size
    return 0


cdef inline Py_ssize_t begin_extension(Buffer out, int code) except -1:
    """Start an extension, with the head that most of them get. Returns where."""
    cdef Py_ssize_t start = out.size
    out.reserve(3)
    out.data[start] = 0xC7
    out.data[start + 2] = <unsigned char> code
    out.size += 3
    return start
