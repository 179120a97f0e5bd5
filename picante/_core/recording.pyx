"""A recording of events: fixed-size structures in one growing buffer.

An event costs a reading of the clock, a look into a hash of addresses, and 48 bytes; no object is made unless a record
is met for the first time. A recording holds the keys of what it has met, not the records: nodes may come and go as they
would without it. An address that is used again is told by the key, which cannot have the address of another one as long
as it is held.

`append` is called in transitions and in the middle of walks: it runs no user code, drops nothing, and cannot fail. What
finds no room is counted.
"""

cimport cython

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from libc.stdint cimport int64_t

from picante._core.key cimport Key, new_dyn_key
from picante._core.node cimport PART, label_of, record_of

cdef extern from *:
    """
    #include <time.h>

    /* The clock of time.monotonic_ns(), without making an object of what it says. */
    static inline uint64_t picante_now(void) {
        struct timespec now;
    #ifdef CLOCK_MONOTONIC
        clock_gettime(CLOCK_MONOTONIC, &now);
    #else
        timespec_get(&now, TIME_UTC);
    #endif
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    """
    uint64_t picante_now() noexcept
    unsigned long PyThread_get_thread_ident() noexcept


cdef uint64_t now() noexcept:
    return picante_now()


cdef unsigned long this_thread() noexcept:
    return PyThread_get_thread_ident()


@cython.final
@cython.freelist(16)
cdef class Subject:
    def __init__(self):
        raise TypeError("Subjects come with events.")

    def __repr__(self):
        return f"<Subject {self.label}>"

    @property
    def label(self):
        """What a person would call it: `line_count('a.md')`, `SourceFile("a.md").content`, `Config.debug`."""
        if self.part == "members":
            return f"{self.name.rpartition('.')[2]}(*)"
        label = label_of(self.kind, self.name or f"kind_{int(self.kind)}", self.key)
        if self.part == "presence":
            return f"the presence of {label}"
        return f"{label.removesuffix('()')}.{self.part}" if self.part else label

    @property
    def dyn_key(self):
        """The `DynKey` of the record."""
        return new_dyn_key(int(self.kind), self.key if type(self.key) is Key else Key.encode(self.key))


cdef Subject subject_of(Node node):
    """What there is to say of `node`. Makes objects, so it is called while no collection can start."""
    cdef Subject subject = Subject.__new__(Subject)
    cdef Table table = <Table> node.table
    subject.kind = table.kind
    subject.name = "" if table.name is None else table.name
    subject.key = node.key
    subject.part = _part_of(node, table) if node.flags & PART else ""
    return subject


cdef str _part_of(Node part, Table table):
    """The name of a part of a record; the list of all records counts as one of their table's."""
    cdef Node record
    if part is table.members:
        return "members"
    record = record_of(part)
    if record is not None and record.parts is not None:
        for name, each in record.parts.items():
            if each is part:
                if type(name) is str:
                    return name
                return table.fields[name] if table.fields is not None and name < len(table.fields) else f"{name}"
    return "part"


@cython.final
cdef class Recording:
    """Observed events, in the order in which they happened; see `observe`.

    Attributes:
        max_events: how many find room. What comes later is only counted.
        subjects: the records that events are about, each once.
        threads: the identifiers of the threads in which they happened, as `threading.get_ident` gives them.
    """

    def __init__(self, max_events=1_000_000):
        if type(max_events) is not int or not 0 < max_events < 1 << 40:
            raise ValueError(f"max_events= is how many events find room: a positive int, not {max_events!r}.")
        self.max_events = max_events
        self.limit = max_events
        self.subjects = []
        self.threads = []

    def __dealloc__(self):
        PyMem_Free(self.entries)
        PyMem_Free(self.known)
        PyMem_Free(self.slots)

    def __len__(self):
        """How many events there are."""
        return self.n

    def __bool__(self):
        return True

    def __repr__(self):
        return f"<Recording of {self.n} events>"

    @property
    def dropped(self):
        """How many events found no room."""
        return self.n_dropped

    def rows(self, start=0, stop=None):
        """Events from `start` up to `stop` as tuples: (time, kind, detail, number, by, extra, subject, other, thread).

        `kind` is the number of an `EventKind`, `subject` and `other` are places in `subjects`, or -1, `thread` is one
        in `threads`, and the rest is what attributes of an `Event` have.
        """
        cdef uint64_t i, first = start, last = self.n if stop is None else min(stop, self.n)
        cdef list rows = []
        cdef Entry each
        for i in range(first, last):
            each = self.entries[i]  # a copy: making a tuple may let others in, who may record
            rows.append((
                each.time, each.kind, each.detail, each.number, each.by, each.extra,
                <int64_t> each.subject - 1, <int64_t> each.other - 1, each.thread,
            ))
        return rows

    cdef void append(
        self, uint32_t kind, uint64_t time, uint64_t number, uint64_t by, uint64_t extra, uint32_t detail,
        PyObject *node, PyObject *other
    ) noexcept:
        """Record an event (while no collection can start)."""
        cdef Entry *entry
        cdef uint32_t thread, subject, dependency
        if self.n >= self.limit:
            self.n_dropped += 1
            return
        try:
            if self.n == self.capacity:
                self.grow()
            thread = self.thread_index()
            subject = 0 if node == NULL else self.index_of(node) + 1
            dependency = 0 if other == NULL else self.index_of(other) + 1
        except BaseException:  # memory is short: this is not what the query should fail for
            self.n_dropped += 1
            return
        entry = &self.entries[self.n]
        entry.time = time
        entry.number = number
        entry.by = by
        entry.extra = extra
        entry.subject = subject
        entry.other = dependency
        entry.thread = thread
        entry.kind = <uint16_t> kind
        entry.detail = <uint16_t> detail
        self.n += 1

    cdef int grow(self) except -1:
        cdef uint64_t capacity = 2 * self.capacity if self.capacity else 1024
        cdef void *grown
        capacity = min(capacity, self.limit)
        grown = PyMem_Realloc(self.entries, capacity * sizeof(Entry))
        if grown == NULL:
            raise MemoryError
        self.entries = <Entry *> grown
        self.capacity = capacity
        return 0

    cdef uint32_t thread_index(self) except? 0xFFFFFFFF:
        cdef unsigned long thread = this_thread()
        if thread == self.last_thread and self.threads:
            return self.last_index
        number = thread
        if number not in self.threads:
            self.threads.append(number)
        self.last_index = <uint32_t> self.threads.index(number)
        self.last_thread = thread
        return self.last_index

    # -- subjects

    cdef uint32_t index_of(self, PyObject *node) except? 0xFFFFFFFF:
        """The place of `node` among the subjects."""
        cdef uint32_t n = <uint32_t> PyList_GET_SIZE(self.subjects)
        cdef uint64_t slot
        cdef uint64_t capacity
        cdef void *grown
        if 2 * <uint64_t> n >= self.mask:
            self.grow_slots()
        slot = _hash(node) & self.mask
        while self.slots[slot]:
            if self.known[self.slots[slot] - 1].node == node:
                if self.is_known(self.slots[slot] - 1, <Node> node):
                    return self.slots[slot] - 1
                break  # the address is that of another node by now
            slot = (slot + 1) & self.mask
        if n == self.known_capacity:
            capacity = 2 * self.known_capacity if self.known_capacity else 64
            grown = PyMem_Realloc(self.known, capacity * sizeof(Known))
            if grown == NULL:
                raise MemoryError
            self.known = <Known *> grown
            self.known_capacity = capacity
        self.subjects.append(subject_of(<Node> node))
        self.known[n].node = node
        self.known[n].table = (<Node> node).table
        self.known[n].key = <PyObject *> (<Node> node).key
        self.slots[slot] = n + 1
        return n

    cdef bint is_known(self, uint32_t index, Node node) except -1:
        """Whether what is known of the address of `node` is still true."""
        if self.known[index].table != node.table or self.known[index].key != <PyObject *> node.key:
            return False
        if not node.flags & PART:
            return not (<Subject> PyList_GET_ITEM(self.subjects, index)).part
        return _part_of(node, <Table> node.table) == (<Subject> PyList_GET_ITEM(self.subjects, index)).part

    cdef int grow_slots(self) except -1:
        cdef uint64_t size = 2 * (self.mask + 1) if self.mask else 1024, slot
        cdef uint32_t i
        cdef uint32_t *slots = <uint32_t *> PyMem_Calloc(size, sizeof(uint32_t))
        if slots == NULL:
            raise MemoryError
        PyMem_Free(self.slots)
        self.slots = slots
        self.mask = size - 1
        for i in range(<uint32_t> PyList_GET_SIZE(self.subjects)):
            slot = _hash(self.known[i].node) & self.mask
            # Later ones replace earlier ones of the same address.
            while slots[slot] and self.known[slots[slot] - 1].node != self.known[i].node:
                slot = (slot + 1) & self.mask
            slots[slot] = i + 1
        return 0


cdef inline uint64_t _hash(PyObject *node) noexcept:
    return (<uint64_t> <size_t> node * 0x9E3779B97F4A7C15ULL) >> 20
