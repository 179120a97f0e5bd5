"""How a record is written: its key, what is known of its outcome, what it depends on, its value.

`docs/cache-format.md` describes it. Other records are named by their numbers, in the order of the file from 0 on.
"""

from picante._core.buffer cimport put, put_bytes, put_head, put_int, put_unsigned
from picante._core.frame cimport OUTSIDE
from picante._core.input cimport PRESENCE
from picante._core.node cimport Table


cdef int write_record(
    Buffer out, Record *record, Record *records, Dependency *deps, Buffer packed, Buffer scratch
) except -1:
    cdef Dependency *dep
    cdef uint64_t number
    cdef uint32_t i
    scratch.reset()
    if record.node != NULL:
        put_unsigned(scratch, record.value - record.start)
        put_bytes(scratch, packed.data + record.start, record.value - record.start)
        put_unsigned(scratch, record.changed_at)
        if (<Table> (<Node> record.node).table).derived:
            put_unsigned(scratch, record.verified_at)
            _put_array(scratch, record.n_deps)
            for i in range(record.n_deps):
                dep = &deps[record.first_dep + i]
                number = dep.record if dep.part == MEMBERS_PART else records[dep.record].number
                if dep.part != WHOLE:
                    _put_array(scratch, 2)
                put_unsigned(scratch, 2 * number + (not dep.is_fresh))
                if dep.part != WHOLE:
                    put_int(scratch, dep.part)
    put_bytes(scratch, packed.data + record.value, record.end - record.value)
    put_head(out, 0xC4, 0xC5, scratch.size)
    return put_bytes(out, scratch.data, scratch.size)


cdef int _put_array(Buffer out, Py_ssize_t n) except -1:
    if n < 16:
        return put(out, <unsigned char> (0x90 | n), 0, 0)
    return put_head(out, 0, 0xDC, n)


cdef int part_of(Node record, Node part) except -100:
    for name, each in record.parts.items():
        if each is part:
            return PRESENCE_PART if name == PRESENCE else OUTSIDE_PART if name == OUTSIDE else <int> name
    return WHOLE
