"""From a value to its canonical bytes (r[key.encoding]); the format is described in `extension.pyx`.

What a value's own code raises (a field may be a property) reaches the caller; nothing is shared between two encodings,
which therefore may nest. Messages say where in the key the value stands that cannot be part of it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyTypeObject, Py_TYPE
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memmove

from picante._core.buffer cimport (
    LONGEST_HEAD, bytes_of_int, head_of, head_of_int, head_of_size, head_of_unsigned, put_number,
)
from picante._core.classes cimport Plan, hint_for, member_name, plan_of, type_name
from picante._core.errors import EncodeError
from picante._core.extension cimport (
    BIG_INT, DATACLASS, ENUM, FROZENSET, HANDLE, MAX_DEPTH, NAMED_TUPLE, NO_ZONE, SURROGATE_STR, parts_of,
)
from picante._core.ids cimport Handle


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    # Without counting a reference to the object.
    bint is_str "PyUnicode_CheckExact"(PyObject* value) noexcept
    bint is_int "PyLong_CheckExact"(PyObject* value) noexcept


# --- Values that need no encoding ----------------------------------------------------------------------

cdef bint is_plain_object(object key) noexcept:
    cdef Py_ssize_t budget = 32
    return is_plain(key, 4, &budget)


cdef bint is_plain(object key, int depth, Py_ssize_t* budget) noexcept:
    """`is_plain_key`, for tuples of at most `budget` objects in all that nest at most `depth` deep.

    Larger ones are encoded, which costs them little more than hashing them each time. `bool` and `float` are
    not plain because they equal integers; `bytes` are not because `python -bb` lets them refuse a comparison.
    """
    cdef Py_ssize_t i
    cdef PyObject* part
    if Py_TYPE(key).tp_hash is (<PyTypeObject*> Handle).tp_hash:
        # A Handle, or of a class derived from it. One that overrides either would run user code, or equal what is not
        # the same.
        return Py_TYPE(key).tp_richcompare is (<PyTypeObject*> Handle).tp_richcompare
    if not PyTuple_CheckExact(key):
        return type(key) is str or type(key) is int or key is None
    budget[0] -= PyTuple_GET_SIZE(key)
    if budget[0] < 0 or depth == 0:
        return False
    for i in range(PyTuple_GET_SIZE(key)):
        part = PyTuple_GET_ITEM(key, i)
        if not (is_str(part) or is_int(part) or is_plain(<object> part, depth - 1, budget)):
            return False
    return True


# --- Encoding ------------------------------------------------------------------------------------------

cdef struct Place:
    # Where the value that is being written stands in the key: a list in the callers' frames, from the inside out,
    # which costs nothing until an error message needs it.
    const Place* outer
    Py_ssize_t index  # in a tuple; -1: in a frozenset
    void* name  # the field of a dataclass or named tuple, borrowed from its Plan; else NULL
    int depth


cdef struct Out:
    # A growing buffer. The first bytes stand in the caller's frame: most keys need no more.
    unsigned char* data
    Py_ssize_t used
    Py_ssize_t size
    unsigned char[128] first


cdef bytes encode_key(object value):
    """The canonical encoding of `value` (r[key.encoding])."""
    cdef Out out
    cdef Place root
    root.outer = NULL
    root.index = 0
    root.name = NULL
    root.depth = 0
    out.data = out.first
    out.used = 0
    out.size = sizeof(out.first)
    try:
        write(&out, value, &root)
        return PyBytes_FromStringAndSize(<const char*> out.data, out.used)
    finally:
        if out.data is not out.first:
            PyMem_Free(out.data)


cdef int reserve(Out* out, Py_ssize_t extra) except -1:
    """Make room for `extra` more bytes."""
    cdef Py_ssize_t size = out.size
    cdef unsigned char* data
    if extra <= size - out.used:
        return 0
    if extra > PY_SSIZE_T_MAX // 4 - out.used:
        raise MemoryError
    while size - out.used < extra:
        size *= 2
    if out.data is out.first:
        data = <unsigned char*> PyMem_Malloc(size)
        if data is not NULL:
            memcpy(data, out.first, out.used)
    else:
        data = <unsigned char*> PyMem_Realloc(out.data, size)
    if data is NULL:
        raise MemoryError
    out.data = data
    out.size = size
    return 0


cdef int write_number(Out* out, unsigned char tag, uint64_t number, int width) except -1:
    reserve(out, LONGEST_HEAD)
    out.used += head_of(out.data + out.used, tag, number, width)
    return 0


cdef int write_bytes(Out* out, const void* data, Py_ssize_t size) except -1:
    reserve(out, size)
    memcpy(out.data + out.used, data, size)
    out.used += size
    return 0


cdef int write_head(Out* out, int small, int small_limit, int tag8, int tag16, Py_ssize_t size) except -1:
    """The shortest head of `size` bytes or elements. `small`: the tag that contains the size; `tag8` may be 0."""
    if size < small_limit:
        return write_number(out, <unsigned char> (small | size), 0, 0)
    reserve(out, LONGEST_HEAD)
    cdef int head_size = head_of_size(out.data + out.used, tag8, tag16, size)
    if head_size == 0:
        raise EncodeError("A part of the key is longer than 4 GiB, which its encoding cannot express.")
    out.used += head_size
    return 0


cdef int write(Out* out, object value, const Place* place) except -1:
    """Append the encoding of one value."""
    cls = type(value)
    cdef Plan plan
    if cls is str:
        return write_str(out, value)
    if cls is int:
        return write_int(out, value)
    if cls is tuple:
        write_head(out, 0x90, 16, 0, 0xDC, PyTuple_GET_SIZE(value))
        return write_elements(out, value, None, place)
    if value is None:
        return write_number(out, 0xC0, 0, 0)
    if value is True or value is False:
        return write_number(out, 0xC3 if value is True else 0xC2, 0, 0)
    if cls is bytes:
        write_head(out, 0, 0, 0xC4, 0xC5, PyBytes_GET_SIZE(value))
        return write_bytes(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if cls is float:
        return write_float(out, value)
    if cls is frozenset:
        return write_frozenset(out, value, place)
    plan = plan_of(cls)
    if plan is None:
        raise refusal(cls, place, hint_for(cls))
    return write_planned(out, value, plan, place)


cdef int write_str(Out* out, str text) except -1:
    cdef Py_ssize_t size, start
    cdef const char* utf8
    try:
        utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        start = out.used
        data = text.encode("utf-8", "surrogatepass")
        write_bytes(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return close_extension(out, start, SURROGATE_STR)
    write_head(out, 0xA0, 32, 0xD9, 0xDA, size)
    return write_bytes(out, utf8, size)


cdef int write_int(Out* out, object number) except -1:
    reserve(out, LONGEST_HEAD)
    cdef int head_size = head_of_int(out.data + out.used, number)
    out.used += head_size
    if head_size:
        return 0
    cdef Py_ssize_t start = out.used
    data = bytes_of_int(number)
    write_bytes(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return close_extension(out, start, BIG_INT)


cdef int write_unsigned(Out* out, uint64_t number) except -1:
    reserve(out, LONGEST_HEAD)
    out.used += head_of_unsigned(out.data + out.used, number)
    return 0


cdef int write_float(Out* out, double number) except -1:
    cdef uint64_t bits
    memcpy(&bits, &number, 8)
    if number != number:
        bits = 0x7FF8_0000_0000_0000u
    return write_number(out, 0xCB, bits, 8)


cdef int enter(Place* inner, const Place* outer) except -1:
    """Start a level of nesting."""
    if outer.depth == MAX_DEPTH:
        raise EncodeError(f"The key nests deeper than {MAX_DEPTH} levels: flatten it.")
    inner.outer = outer
    inner.index = -1
    inner.name = NULL
    inner.depth = outer.depth + 1
    return 0


cdef int write_elements(Out* out, object elements, tuple names, const Place* place) except -1:
    """The elements of a tuple, or of a named tuple, one after the other."""
    cdef Place inner
    cdef Py_ssize_t i
    enter(&inner, place)
    for i in range(PyTuple_GET_SIZE(elements)):
        inner.index = i
        if names is not None and i < PyTuple_GET_SIZE(names):
            inner.name = <void*> PyTuple_GET_ITEM(names, i)
        write(out, <object> PyTuple_GET_ITEM(elements, i), &inner)
    return 0


cdef int write_frozenset(Out* out, frozenset elements, const Place* place) except -1:
    cdef Place inner
    cdef Py_ssize_t start = out.used
    cdef set encodings = set()
    enter(&inner, place)
    for element in elements:
        write(out, element, &inner)
        # As a set of bytes: two NaN objects are one key.
        encodings.add(PyBytes_FromStringAndSize(<const char*> out.data + start, out.used - start))
        out.used = start
    for encoding in sorted(encodings):
        write_bytes(out, PyBytes_AS_STRING(encoding), PyBytes_GET_SIZE(encoding))
    return close_extension(out, start, FROZENSET)


cdef int write_planned(Out* out, object value, Plan plan, const Place* place) except -1:
    cdef Py_ssize_t start = out.used
    cdef Place inner
    if plan.code == HANDLE:
        reserve(out, 8)
        put_number(out.data + start, <uint64_t> plan.shape << 32 | (<Handle> value)._id, 8)
        out.used += 8
    elif plan.code == ENUM:
        write_str(out, plan.name)
        name = member_name(value)
        if name is None:
            raise refusal(type(value), place, "it is no member of its own class")
        write(out, name, place)
    elif plan.code == DATACLASS:
        write_str(out, plan.name)
        write_unsigned(out, plan.shape)
        enter(&inner, place)
        for name in plan.fields:
            inner.name = <void*> name
            write(out, getattr(value, name), &inner)
    elif plan.code == NAMED_TUPLE:
        write_str(out, plan.name)
        write_unsigned(out, plan.shape)
        write_elements(out, value, plan.fields, place)
    else:
        for part in parts_of(plan.code, value):
            if part is NO_ZONE:
                hint = "its time zone has no name and gives no offset; use a `datetime.timezone`"
                raise refusal(type(value), place, hint)
            write(out, part, place)
    return close_extension(out, start, plan.code)


cdef int close_extension(Out* out, Py_ssize_t start, int code) except -1:
    """Make what stands from `start` on the content of an extension, by putting the head before it."""
    cdef Py_ssize_t size = out.used - start
    cdef unsigned char[6] head
    cdef int width
    if size == 1 or size == 2 or size == 4 or size == 8 or size == 16:
        width = 0
        head[0] = 0xD4
        while 1 << (head[0] - 0xD4) < size:
            head[0] += 1
    elif size <= 0xFF:
        head[0] = 0xC7
        width = 1
    elif size <= 0xFFFF:
        head[0] = 0xC8
        width = 2
    elif <uint64_t> size <= 0xFFFF_FFFFu:
        head[0] = 0xC9
        width = 4
    else:
        raise EncodeError("A part of the key is longer than 4 GiB, which its encoding cannot express.")
    put_number(head + 1, size, width)
    head[1 + width] = <unsigned char> code
    reserve(out, 2 + width)
    memmove(out.data + start + 2 + width, out.data + start, size)
    memcpy(out.data + start, head, 2 + width)
    out.used += 2 + width
    return 0


cdef object refusal(object cls, const Place* place, object hint):
    """The error for a value that cannot be a key."""
    steps = []
    while place.outer is not NULL:
        if place.name is not NULL:
            steps.append(f".{<object> place.name}")
        else:
            steps.append("{...}" if place.index < 0 else f"[{place.index}]")
        place = place.outer
    return EncodeError(type_name=type_name(cls), place="key" + "".join(reversed(steps)), hint=hint)
