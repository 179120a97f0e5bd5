"""MessagePack on the wire: the head of the next value, for all who read stored values."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    MAX_NESTING = 500  # how deep a stored value may nest, on a C stack of 512 KiB
    LONG_TEXT = 64  # from so many bytes on a text, or bytes, can be referred to

cdef enum Form:
    IS_NONE
    IS_FALSE
    IS_TRUE
    IS_SMALL  # an integer: `number`
    IS_LARGE  # an integer above 2**63 - 1: `number` as unsigned
    IS_FLOAT  # `real`
    IS_STR  # `size` bytes follow, and are there
    IS_BYTES
    IS_TUPLE  # `size` values follow; as many bytes are there
    IS_LIST
    IS_DICT  # twice as many values
    IS_EXTENSION  # `size` bytes follow, and are there; `code`

cdef struct Head:
    Form form
    int code
    int64_t number
    double real
    Py_ssize_t size

cdef struct Span:
    # What is left to read.
    const unsigned char* data
    Py_ssize_t at
    Py_ssize_t end

cdef object damaged(Py_ssize_t at, str reason)  # the DecodeError for what stands at a place
cdef int too_short(const Span* span, uint64_t announced) except -1  # raises it


cdef inline uint64_t big_endian(const unsigned char* data, int width) noexcept nogil:
    cdef uint64_t result = 0
    while width:
        result = result << 8 | data[0]
        data += 1
        width -= 1
    return result


cdef inline bint is_ascii(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Whether these bytes are ASCII, and so UTF-8, whatever else they may be."""
    cdef uint64_t found = 0, eight
    cdef Py_ssize_t at = 8
    if size >= 8:
        while at < size:
            memcpy(&eight, data + at - 8, 8)
            found |= eight
            at += 8
        memcpy(&eight, data + size - 8, 8)  # perhaps some of them once more
        return not (found | eight) & 0x8080_8080_8080_8080u
    while size:
        size -= 1
        found |= data[size]
    return not found & 0x80


cdef inline bint is_simple(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """Whether these bytes are one value of the simplest kinds: a short ASCII text, a number, None or a bool.

    If not, they may still be any value, or none.
    """
    cdef unsigned char tag
    if size <= 0:
        return False
    tag = data[0]
    if 0xA0 <= tag < 0xC0:
        return size == 1 + (tag & 31) and is_ascii(data + 1, size - 1)
    if tag < 0x80 or tag >= 0xE0 or tag == 0xC0 or tag == 0xC2 or tag == 0xC3:
        return size == 1
    if 0xCC <= tag <= 0xD3:
        return size == 1 + (1 << (tag & 3))
    if tag == 0xD9:
        return size >= 2 and size == 2 + <Py_ssize_t> data[1] and is_ascii(data + 2, size - 2)
    return tag == 0xCB and size == 9


cdef inline bint next_number(Span* span, uint64_t* number) noexcept nogil:
    """Read what comes next if it is a number in the forms that most numbers have; else nothing is read."""
    cdef const unsigned char* data = span.data + span.at
    cdef Py_ssize_t left = span.end - span.at
    if left >= 1 and data[0] < 0x80:
        number[0] = data[0]
        span.at += 1
    elif left >= 2 and data[0] == 0xCC:
        number[0] = data[1]
        span.at += 2
    elif left >= 3 and data[0] == 0xCD:
        number[0] = <uint64_t> data[1] << 8 | data[2]
        span.at += 3
    elif left >= 5 and data[0] == 0xCE:
        number[0] = <uint64_t> data[1] << 24 | <uint64_t> data[2] << 16 | <uint64_t> data[3] << 8 | data[4]
        span.at += 5
    else:
        return False
    return True


cdef inline int expect(const Span* span, uint64_t size) except -1:
    """Make sure that `size` bytes are left."""
    if size > <uint64_t> (span.end - span.at):
        too_short(span, size)
    return 0


cdef inline int take_number(Span* span, int width, uint64_t* number) except -1:
    expect(span, width)
    number[0] = big_endian(span.data + span.at, width)
    span.at += width
    return 0


cdef inline int sized(Span* span, Head* head, Form form, int width) except -1:
    """A head whose size takes `width` bytes; what it announces is there."""
    cdef uint64_t size
    take_number(span, width, &size)
    head.form = form
    head.size = <Py_ssize_t> size
    return 0


cdef inline int next_head(Span* span, Head* head) except -1:
    """Read the head of the next value. Nothing that it announces is believed before it is there."""
    cdef unsigned char tag
    cdef uint64_t bits
    expect(span, 1)
    tag = span.data[span.at]
    span.at += 1
    if tag < 0x80:
        head.form = IS_SMALL
        head.number = tag
        return 0
    if tag >= 0xE0:
        head.form = IS_SMALL
        head.number = <int8_t> tag
        return 0
    if tag < 0xC0:
        if tag >= 0xA0:
            head.form = IS_STR
            head.size = tag & 31
        else:
            head.form = IS_TUPLE if tag >= 0x90 else IS_DICT
            head.size = tag & 15
    elif tag == 0xC0:
        head.form = IS_NONE
        return 0
    elif tag == 0xC2:
        head.form = IS_FALSE
        return 0
    elif tag == 0xC3:
        head.form = IS_TRUE
        return 0
    elif tag == 0xC4 or tag == 0xC5 or tag == 0xC6:
        sized(span, head, IS_BYTES, 1 << (tag - 0xC4))
    elif tag == 0xC7 or tag == 0xC8 or tag == 0xC9:
        sized(span, head, IS_EXTENSION, 1 << (tag - 0xC7))
    elif tag == 0xCB:
        take_number(span, 8, &bits)
        head.form = IS_FLOAT
        memcpy(&head.real, &bits, 8)
        return 0
    elif 0xCC <= tag <= 0xCF:
        take_number(span, 1 << (tag - 0xCC), &bits)
        head.number = <int64_t> bits
        head.form = IS_LARGE if head.number < 0 else IS_SMALL
        return 0
    elif 0xD0 <= tag <= 0xD3:
        take_number(span, 1 << (tag - 0xD0), &bits)
        head.form = IS_SMALL
        if tag == 0xD0:
            head.number = <int8_t> bits
        elif tag == 0xD1:
            head.number = <int16_t> bits
        elif tag == 0xD2:
            head.number = <int32_t> bits
        else:
            head.number = <int64_t> bits
        return 0
    elif 0xD4 <= tag <= 0xD8:
        head.form = IS_EXTENSION
        head.size = 1 << (tag - 0xD4)
    elif tag == 0xD9 or tag == 0xDA or tag == 0xDB:
        sized(span, head, IS_STR, 1 << (tag - 0xD9))
    elif tag == 0xDC:
        sized(span, head, IS_TUPLE, 2)
        if head.size < 16:  # not the shortest form
            head.form = IS_LIST
    elif tag == 0xDD:
        sized(span, head, IS_LIST, 4)
    elif tag == 0xDE or tag == 0xDF:
        sized(span, head, IS_DICT, 2 << (tag - 0xDE))
    else:
        raise damaged(span.at - 1, f"no value starts with {tag:#04x}")
    if head.form == IS_EXTENSION:
        expect(span, 1 + <uint64_t> head.size)
        head.code = span.data[span.at]
        span.at += 1
    elif head.form == IS_DICT:
        expect(span, 2 * <uint64_t> head.size)
    else:
        expect(span, head.size)
    return 0
