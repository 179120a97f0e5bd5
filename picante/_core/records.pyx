"""The records of a cache file: where they stand, what they depend on, how they are written.

`docs/cache-format.md` describes how they look. A record has its key, what is known of its outcome, what it depends on,
and its value. Other records are named by their numbers, in the order of the file from 0 on.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from functools import partial
from libc.string cimport memcpy, memmove

from picante._core.buffer cimport end_bytes, put, put_bytes, put_head, put_int, put_unsigned
from picante._core.change cimport PRESENCE
from picante._core.frame cimport OUTSIDE
from picante._core.node cimport FAILED, PART, Version, find_version, record_of


@cython.final
cdef class Section:
    """The records of one ingredient: how many there are, and of which type."""

    @property
    def kind(self):
        return self.ingredient.kind

    @property
    def name(self):
        return self.ingredient.name


cdef void *grown(void *array, Py_ssize_t *capacity, Py_ssize_t n, size_t size) except? NULL:
    cdef Py_ssize_t wanted = max(2 * capacity[0], n, 64)
    cdef void *found
    if n <= capacity[0]:
        return array
    found = PyMem_Realloc(array, wanted * size)
    if found == NULL:
        raise MemoryError
    capacity[0] = wanted
    return found


cdef list nodes_in_order(Table table, View view):
    cdef list nodes = list(table.plain.values())
    nodes += table.encoded.values()
    if view.pinned or not table.in_order or table.plain and table.encoded:
        nodes.sort(key=partial(_ordinal_at, view.revision))
    return nodes


def _ordinal_at(uint64_t revision, node):
    """Where an input stood in the order of insertion."""
    cdef Version version = None
    if (<Node> node).valid_since > revision:
        version = find_version(node, revision)
    return (<Node> node).verified_at if version is None else version.ordinal


cdef int join_arrived(
    list sections, Py_ssize_t n_interned, Record *records, Py_ssize_t n_in_order, Py_ssize_t n_records
) except -1:
    cdef Py_ssize_t n_arrived = n_records - n_in_order, n_before, n_old, n_new, next_old, next_new, i
    cdef Section section
    cdef Record *copied
    if n_arrived == 0:
        return 0
    n_before = (<Section> sections[n_interned - 1]).last
    copied = <Record *> PyMem_Malloc((n_before + n_arrived) * sizeof(Record))
    if copied == NULL:
        raise MemoryError
    memcpy(copied, records, n_before * sizeof(Record))
    memcpy(copied + n_before, records + n_in_order, n_arrived * sizeof(Record))
    memmove(records + n_before + n_arrived, records + n_before, (n_in_order - n_before) * sizeof(Record))
    next_old, next_new = 0, n_before
    for i in range(PyList_GET_SIZE(sections)):
        section = sections[i]
        if i >= n_interned:
            section.first += n_arrived
            section.last += n_arrived
            continue
        n_old = section.last - section.first
        n_new = section.n_ids - n_old
        section.first = next_old + next_new - n_before
        section.last = section.first + section.n_ids
        memcpy(records + section.first, copied + next_old, n_old * sizeof(Record))
        memcpy(records + section.first + n_old, copied + next_new, n_new * sizeof(Record))
        next_old += n_old
        next_new += n_new
    PyMem_Free(copied)
    return 0


cdef bint is_ready(Record *record, Record *records, Dependency *deps) noexcept:
    cdef Dependency *dep
    cdef uint32_t i
    for i in range(record.n_deps):
        dep = &deps[record.first_dep + i]
        if dep.record < 0 or dep.part == MEMBERS_PART or records[dep.record].fate != STORED:
            return False
    return True


cdef Py_ssize_t drop_incomplete(list sections, Record *records, Dependency *deps, Py_ssize_t n_records) except -1:
    cdef Py_ssize_t i, n_dropped = 0
    cdef uint32_t k
    cdef Dependency *dep
    cdef Record *record
    for i in range(n_records):
        record = &records[i]
        for k in range(record.n_deps if record.fate == STORED else 0):
            dep = &deps[record.first_dep + k]
            if dep.part != MEMBERS_PART and records[dep.record].fate == DROPPED:
                record.fate = DROPPED
                (<Section> sections[record.section]).n_records -= 1
                n_dropped += 1
                break
    return n_dropped


cdef bint saw_failure(Node node) noexcept:
    """Failures are not stored, so a memo that has read one is not, either."""
    cdef uint32_t i
    for i in range(node.n_edges):
        if node.edges[i].dep != NULL and (<Node> node.edges[i].dep).flags & FAILED:
            return True
    return False


cdef inline size_t slot_of(const PyObject *node, Py_ssize_t n_slots) noexcept:
    return <size_t> ((<uint64_t> <size_t> node >> 4) * 0x9E3779B97F4A7C15u >> 32) & <size_t> (n_slots - 1)


@cython.final
cdef class Index:
    """Finds records by address: a hash table of numbers, which a dict would take several times as long for."""

    def __dealloc__(self):
        PyMem_Free(self.slots)

    cdef int make_room(self, Py_ssize_t n_records) except -1:
        cdef Py_ssize_t n_slots = 16
        while n_slots < 2 * n_records:
            n_slots *= 2
        if <uint64_t> n_slots > 0xFFFF_FFFFu:
            raise MemoryError
        self.slots = <uint32_t *> PyMem_Calloc(n_slots, sizeof(uint32_t))
        if self.slots == NULL:
            raise MemoryError
        self.n_slots = n_slots
        return 0

    cdef void enter(self, Record *records, Py_ssize_t at) noexcept:
        cdef size_t slot
        if records[at].node == NULL:
            return
        slot = slot_of(records[at].node, self.n_slots)
        while self.slots[slot]:
            slot = (slot + 1) & <size_t> (self.n_slots - 1)
        self.slots[slot] = <uint32_t> (at + 1)

    cdef Py_ssize_t find(self, Record *records, Node node) noexcept:
        cdef size_t slot = slot_of(<PyObject *> node, self.n_slots)
        while self.slots[slot]:
            if records[self.slots[slot] - 1].node == <PyObject *> node:
                return <Py_ssize_t> self.slots[slot] - 1
            slot = (slot + 1) & <size_t> (self.n_slots - 1)
        return -1

    cdef int look_up(self, Table table) except -1:
        if self.table == <PyObject *> table:
            return 0
        self.table = NULL
        at = self.section_of.get(<size_t> <PyObject *> table)
        self.place = -1 if at is None else at
        self.section = None if at is None else self.sections[at]
        self.table = <PyObject *> table
        return 0

    cdef int find_read(self, Record *records, Node dep, Dependency *found) except -1:
        cdef Node record
        found.record = -1
        found.part = WHOLE
        found.group = 0
        if dep is None:
            return 0
        self.look_up(<Table> dep.table)
        if self.section is None:
            return 0
        if self.section.is_interned:
            if dep.key < self.section.last - self.section.first:
                found.record = self.section.first + <Py_ssize_t> dep.key
        elif dep is (<Table> dep.table).members:
            found.record = self.place
            found.part = MEMBERS_PART
        elif dep.flags & PART:
            record = record_of(dep)
            if record is not None:
                found.record = self.find(records, record)
                found.part = _part_of(record, dep)
        else:
            found.record = self.find(records, dep)
        return 0


cdef int write_record(Buffer out, Record *record, Record *records, Dependency *deps, Buffer packed) except -1:
    cdef Dependency *dep
    cdef uint64_t number
    cdef uint32_t i
    cdef Py_ssize_t start = out.size
    out.reserve(2)
    out.size += 2  # the head that most of them get
    if record.node != NULL:
        put_unsigned(out, record.value - record.start)
        put_bytes(out, packed.data + record.start, record.value - record.start)
        put_unsigned(out, record.changed_at)
        if (<Table> (<Node> record.node).table).derived:
            put_unsigned(out, record.verified_at)
            _put_array(out, record.n_deps + record.must_run)
            for i in range(record.n_deps):
                dep = &deps[record.first_dep + i]
                number = dep.record if dep.part == MEMBERS_PART else records[dep.record].number
                if dep.part != WHOLE or dep.group:
                    _put_array(out, 3 if dep.group else 2)
                put_unsigned(out, 2 * number + (not dep.is_fresh))
                if dep.part != WHOLE or dep.group:
                    put_int(out, dep.part)
                if dep.group:
                    put_unsigned(out, dep.group)
            if record.must_run:  # as if the world outside of the database had changed
                _put_array(out, 2)
                put_unsigned(out, 2 * <uint64_t> record.number + 1)
                put_int(out, OUTSIDE_PART)
    put_bytes(out, packed.data + record.value, record.end - record.value)
    return end_bytes(out, start)


cdef Py_ssize_t record_size(Record *record, Dependency *deps, Py_ssize_t n_records) noexcept:
    cdef Py_ssize_t size = record.end - record.start
    cdef Py_ssize_t per_number = _size_of(2 * <uint64_t> n_records + 1)
    cdef uint32_t i
    if record.node != NULL:
        size += _size_of(record.value - record.start) + _size_of(record.changed_at)
        if (<Table> (<Node> record.node).table).derived:
            size += _size_of(record.verified_at) + _size_of(record.n_deps) + 2
            for i in range(record.n_deps):
                size += per_number + (0 if deps[record.first_dep + i].part == WHOLE else 6)
                size += 7 if deps[record.first_dep + i].group else 0
            if record.must_run:
                size += per_number + 2
    return size + (2 if size <= 0xFF else 3 if size <= 0xFFFF else 5)


cdef Py_ssize_t _size_of(uint64_t number) noexcept:
    """How many bytes a number takes."""
    return 1 if number < 0x80 else 2 if number <= 0xFF else 3 if number <= 0xFFFF else 5 if number >> 32 == 0 else 9


cdef int _put_array(Buffer out, Py_ssize_t n) except -1:
    if n < 16:
        return put(out, <unsigned char> (0x90 | n), 0, 0)
    return put_head(out, 0, 0xDC, n)


cdef int _part_of(Node record, Node part) except -100:
    for name, each in record.parts.items():
        if each is part:
            return PRESENCE_PART if name == PRESENCE else OUTSIDE_PART if name == OUTSIDE else <int> name
    return WHOLE
