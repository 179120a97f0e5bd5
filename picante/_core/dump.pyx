"""Reading a database out: what is stored of it, as records (r[persist.section]).

A dump holds on to a view, so that what it reads is of one revision whoever writes meanwhile, and works in steps
between which the event loop may do anything. Three passes: `step` packs keys and values; `decide` says which records
are stored, for a memo is stored only with all that it read; `chunk` writes them, dependencies as numbers of records.

What is known to hold at the revision is stored so. A marked memo is stored, too, as far as it was known to hold: each
of its dependencies is stored as being still what was read, or not, and that is all that verifying it later takes.
Of a memo that was evicted there is a record without a value, for those that have read it: see `evict`. Failures, and
computations that are under way, are not stored, nor who has read them.

Memos that are computed meanwhile may hold ids that were given out meanwhile. So interned values are read twice: in the
beginning those that are there, and when all else has been read those that have come since.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.derived cimport DerivedIngredient
from picante._core.errors import DecodeError, DuplicateKindError, EncodeError, ForeignDatabaseError
from picante._core.ingredient cimport describe_key
from picante._core.input cimport InputIngredient
from picante._core.interned cimport InternedIngredient
from picante._core.key cimport Key
from picante._core.node cimport (
    EVICTED, NO_OUTCOME, UNLINKED, VALUE, Table, Version, begin_transition, end_transition, find_version, holds_at,
)
from picante._core.outcome cimport Outcome, name_at, outcome_at
from picante._core.packed cimport opened
from picante._core.records cimport (
    DROPPED, LOOKED_AT, MEMBERS_PART, STORED, UNDECIDED, drop_incomplete, grown, is_ready, join_arrived, nodes_in_order,
    record_size, saw_failure, write_record,
)
from picante._core.runtime cimport view_of
from picante._core.store cimport HeldView

cdef Py_ssize_t ANY_ID = <Py_ssize_t> 1 << 32  # there are no more than these

cdef enum:
    MAX_REPORTED = 20
    CHUNK = 1 << 16  # bytes from which on a chunk is large enough


@cython.final
cdef class Dump:
    """What is stored of the database, or snapshot, of `runtime`.

    Args:
        ingredients: whose records are stored.
        max_bytes: how large all records may be together, about.
        max_records: of each ingredient.
        max_record_bytes: of each record.
        strict: what cannot be stored is an EncodeError, instead of being left out.
    """

    def __init__(
        self, Runtime runtime not None, ingredients, *, max_bytes=None, max_records=None, max_record_bytes=None,
        strict=False,
    ):
        cdef Section section
        self.runtime = runtime
        self.store = runtime.store
        self.packer = Packer()
        self.packed = Buffer()
        self.out = Buffer()
        self.all = []
        self.index = Index()
        self.index.section_of = {}
        self.dep_nodes = []
        self.unstorable = []
        self.max_bytes = max_bytes
        self.max_records = max_records
        self.max_record_bytes = max_record_bytes
        self.strict = strict
        self.packer.n_ids = {}
        seen = {}
        for ingredient in ingredients:
            if not isinstance(ingredient, Ingredient):
                raise TypeError(f"Only ingredients can be stored, not {ingredient!r}.")
            if ingredient.kind in seen:
                raise DuplicateKindError(kind=ingredient.kind, name=ingredient.name, other=seen[ingredient.kind].name)
            seen[ingredient.kind] = ingredient
            if (<Ingredient> ingredient).store is not None and (<Ingredient> ingredient).store is not self.store:
                raise ForeignDatabaseError(
                    f"{ingredient.name} belongs to another database than the one that is stored.", name=ingredient.name
                )
        for cls, name in ((InternedIngredient, "interned"), (InputIngredient, "input"), (DerivedIngredient, "derived")):
            for ingredient in seen.values():
                if isinstance(ingredient, cls):
                    section = Section()
                    section.ingredient = ingredient
                    section.type = name
                    section.is_interned = name == "interned"
                    if (<Ingredient> ingredient).table is not None:
                        self.index.section_of[<size_t> <PyObject *> (<Ingredient> ingredient).table] = len(self.all)
                    self.all.append(section)
        self.index.sections = self.all
        self.current = self.turn = -1
        self.held = HeldView()
        self.view = view_of(runtime)  # last, as always
        self.held.enter(self.store, self.view)
        for section in self.all:
            if section.type == "interned":
                self.n_interned += 1
                section.limit = len((<InternedIngredient> section.ingredient).values)
                self.accept_ids(section, ANY_ID)

    def __dealloc__(self):
        PyMem_Free(self.records)
        PyMem_Free(self.reads)
        PyMem_Free(self.deps)

    def close(self):
        """Let go of the revision."""
        self.held.close()

    @property
    def revision(self):
        """The revision that is stored."""
        return self.view.revision

    @property
    def n_read(self):
        """How many records were looked at by now."""
        return self.n_looked_at

    @property
    def n_expected(self):
        """How many there are to look at, about."""
        cdef Section section
        n = 0
        for section in self.all:
            if isinstance(section.ingredient, InternedIngredient):
                n += len((<InternedIngredient> section.ingredient).values)
            elif section.ingredient.table is not None:
                n += len(section.ingredient.table.plain) + len(section.ingredient.table.encoded)
        return n

    @property
    def names(self):
        """The classes and codecs that the records name by number."""
        return self.packer.names

    @property
    def sections(self):
        """What there is to store, in the order of the file."""
        return list(self.all)

    # -- reading

    def step(self, Py_ssize_t n):
        """Look at `n` more records; whether there are more."""
        cdef Section section
        while n > 0:
            section = None if self.turn < 0 else <Section> PyList_GET_ITEM(self.all, self.current)
            if section is None or section.n_looked_at == PyList_GET_SIZE(section.todo):
                if section is not None and self.turn == self.current:
                    section.last = self.n_records
                if self.turn + 1 == PyList_GET_SIZE(self.all):
                    self.take_arrived()
                if self.turn + 1 == PyList_GET_SIZE(self.all) + self.n_interned:
                    join_arrived(self.all, self.n_interned, self.records, self.n_in_order, self.n_records)
                    return False
                self.turn += 1
                self.current = self.turn % PyList_GET_SIZE(self.all)
                if self.turn == self.current:
                    self.begin_section(self.all[self.current])
                continue
            item = <object> PyList_GET_ITEM(section.todo, section.n_looked_at)
            section.n_looked_at += 1
            self.n_looked_at += 1
            n -= 1
            if section.is_interned:
                self.read_interned(section, item)
            else:
                self.read_node(section, <Node> item)
        return True

    cdef int begin_section(self, Section section) except -1:
        cdef Table table = section.ingredient.table
        section.first = section.last = self.n_records
        section.n_ids = 0
        if isinstance(section.ingredient, InternedIngredient):
            section.todo = (<InternedIngredient> section.ingredient).between(0, section.limit)
        else:
            section.todo = [] if table is None else nodes_in_order(table, self.view)
        section.n_looked_at = 0
        return 0

    cdef int take_arrived(self) except -1:
        """Take the values that were interned since the beginning, of all ingredients up to one instant."""
        cdef Section section
        self.n_in_order = self.n_records
        for section in self.all[:self.n_interned]:
            if not section.is_cut:
                section.todo = (<InternedIngredient> section.ingredient).between(section.n_ids, 0x1_0000_0000)
                section.n_looked_at = 0
                self.accept_ids(section, section.n_ids + PyList_GET_SIZE(section.todo))
        return 0

    cdef int read_interned(self, Section section, value) except -1:
        cdef Py_ssize_t before = self.n_records, packed = self.packed.size, size = self.size_of_interned
        if self.max_records is None or section.n_ids < self.max_records:
            self.add(section, None, None, value, True)
        if self.n_records > before:
            size += record_size(&self.records[before], NULL, 0)
            if self.max_bytes is None or size <= self.room_for_records():
                section.n_ids += 1
                self.size_of_interned = size
                return 0
        self.n_records, self.packed.size = before, packed
        # Ids are positions, so from here on there is none. Values that were packed before may hold some of them.
        section.is_cut = True
        section.limit = section.n_ids
        self.accept_ids(section, section.n_ids)
        section.todo = []
        section.n_looked_at = 0
        if self.turn > 0:
            self.n_records = self.packed.size = self.size_of_interned = 0
            self.n_unstorable = self.n_too_large = 0
            self.dep_nodes, self.unstorable = [], []
            self.current = self.turn = -1
            for section in self.all[:self.n_interned]:
                self.accept_ids(section, section.n_ids if section.is_cut else ANY_ID)
        return 0

    cdef int accept_ids(self, Section section, Py_ssize_t n) except -1:
        """From now on, values may hold the first `n` ids of an interned ingredient."""
        self.packer.n_ids[int((<InternedIngredient> section.ingredient).handle_kind)] = n
        return 0

    cdef int read_node(self, Section section, Node node) except -1:
        cdef Outcome outcome
        cdef Version version = None
        cdef uint64_t verified_at = self.view.revision, changed_at
        cdef uint32_t flags
        cdef Py_ssize_t n_deps = PyList_GET_SIZE(self.dep_nodes)
        cdef bint collecting = begin_transition()
        try:
            if outcome_at(node, self.view, &outcome):
                if not holds_at(node, self.view.revision):
                    version = find_version(node, self.view.revision)
                flags = node.flags if version is None else version.flags
                if not outcome.flags & VALUE and (
                    (<Table> node.table).derived or not node.n_dependents and node.parts is None
                ):
                    return 0
                flags = flags & UNLINKED | outcome.flags
                value, changed_at = <object> outcome.value, outcome.changed_at
            elif node.flags & EVICTED and (node.flags & UNLINKED or not node.n_dependents):
                return 0
            elif name_at(node, self.view, &outcome):
                flags, value, changed_at = EVICTED, None, outcome.changed_at
            elif node.flags & (VALUE | EVICTED) and node.verified_at < verified_at:
                flags, value, changed_at, verified_at = node.flags, node.value, node.changed_at, node.verified_at
            else:
                return 0
            if (<Table> node.table).derived:
                if not flags & UNLINKED:
                    self.keep_deps(node, version)
                elif saw_failure(node):
                    return 0
        finally:
            end_transition(collecting)
        before = self.n_records
        try:
            self.add(section, node, node.key, value, flags & VALUE)
        finally:
            if self.n_records == before:
                del self.dep_nodes[n_deps:]
        if self.n_records > before:
            self.records[before].changed_at = min(changed_at, self.view.revision)  # its name may be of later on
            self.records[before].verified_at = verified_at
            self.records[before].must_run = flags & UNLINKED != 0
            self.records[before].first_dep = n_deps
            self.records[before].n_deps = <uint32_t> (PyList_GET_SIZE(self.dep_nodes) - n_deps)
        return 0

    cdef int keep_deps(self, Node node, object kept) except -1:
        """Note what the outcome has read, and whether it is still as it was read."""
        cdef Version version = kept
        cdef Py_ssize_t n = node.n_edges if version is None else PyList_GET_SIZE(version.deps), i
        cdef Py_ssize_t at = PyList_GET_SIZE(self.dep_nodes)
        cdef uint64_t seen
        cdef Outcome outcome
        cdef Node dep
        self.reads = <uint32_t *> grown(self.reads, &self.fresh_capacity, at + n, sizeof(uint32_t))
        for i in range(n):
            if version is None:
                dep = <Node> node.edges[i].dep if node.edges[i].dep != NULL else None
                seen = node.edges[i].seen
            else:
                dep, seen = version.deps[i], version.seen[i]
            self.dep_nodes.append(dep)
            if dep is None or seen == NO_OUTCOME:
                self.reads[at + i] = False
            elif name_at(dep, self.view, &outcome):
                self.reads[at + i] = outcome.changed_at == seen
            else:
                self.reads[at + i] = dep.flags & (VALUE | EVICTED) and dep.changed_at == seen
            if version is None:
                self.reads[at + i] |= node.edges[i].group << 1
        return 0

    cdef int add(self, Section section, Node node, key, value, bint has_value) except -1:
        """Pack a record. What cannot be packed, or is too large, is counted and left out."""
        cdef Buffer packed = self.packed
        cdef Py_ssize_t start = packed.size, at_value
        cdef Record *record
        try:
            if node is not None:
                if type(key) is Key:
                    raise EncodeError("its key names a class that the database does not know")
                self.packer.pack_into(packed, key)
            at_value = packed.size
            if has_value:
                self.packer.pack_into(packed, opened(value))
        except (EncodeError, DecodeError) as error:  # the latter of what was loaded and nobody could read
            packed.size = start
            section.lacks_some = True
            return self.refuse(section.ingredient, key if node is not None else value, error)
        if self.max_record_bytes is not None and packed.size - start > self.max_record_bytes:
            packed.size = start
            section.lacks_some = True
            self.n_too_large += 1
            return 0
        self.records = <Record *> grown(self.records, &self.records_capacity, self.n_records + 1, sizeof(Record))
        record = &self.records[self.n_records]
        record.node = NULL if node is None else <PyObject *> node
        record.start = start
        record.value = at_value
        record.end = packed.size
        record.first_dep = 0
        record.n_deps = 0
        record.section = <uint32_t> self.current
        record.changed_at = record.verified_at = 0
        record.must_run = False
        record.number = -1
        record.fate = UNDECIDED
        self.n_records += 1
        return 0

    cdef int refuse(self, Ingredient ingredient, key, error) except -1:
        if self.strict:
            raise error
        self.n_unstorable += 1
        if PyList_GET_SIZE(self.unstorable) < MAX_REPORTED:
            self.unstorable.append((describe_key(ingredient, key), str(error)))
        return 0

    # -- deciding

    def decide(self, Py_ssize_t n):
        """Decide on `n` more records, whether they are stored; whether there are more. To be called after `step`."""
        cdef Py_ssize_t until, n_dropped
        cdef Record *record
        if self.n_indexed < self.n_records:
            if self.index.slots == NULL:
                self.index.make_room(self.n_records)
            until = min(self.n_records, self.n_indexed + n)
            while self.n_indexed < until:
                self.index.enter(self.records, self.n_indexed)
                self.n_indexed += 1
            return True
        if self.n_linked < PyList_GET_SIZE(self.dep_nodes):
            if self.deps == NULL:
                self.deps = <Dependency *> PyMem_Realloc(NULL, PyList_GET_SIZE(self.dep_nodes) * sizeof(Dependency))
                if self.deps == NULL:
                    raise MemoryError
            until = min(PyList_GET_SIZE(self.dep_nodes), self.n_linked + n)
            while self.n_linked < until:
                self.index.find_read(
                    self.records, <Node> PyList_GET_ITEM(self.dep_nodes, self.n_linked), &self.deps[self.n_linked]
                )
                self.deps[self.n_linked].is_fresh = self.reads[self.n_linked] & 1
                self.deps[self.n_linked].group = self.reads[self.n_linked] >> 1
                self.n_linked += 1
            return True
        if self.n_decided < self.n_records:
            if self.n_decided == 0:
                self.room = self.room_for_records()
            until = min(self.n_records, self.n_decided + n)
            while self.n_decided < until:
                record = &self.records[self.n_decided]
                if record.fate == UNDECIDED:
                    if is_ready(record, self.records, self.deps):
                        self.settle(record, True)
                    else:
                        self.decide_one(self.n_decided)
                self.n_decided += 1
            return True
        while self.has_cycle:
            n_dropped = drop_incomplete(self.all, self.records, self.deps, self.n_records)
            self.n_incomplete += n_dropped
            self.has_cycle = n_dropped > 0
        until = min(self.n_records, self.n_numbered + n)
        while self.n_numbered < until:
            record = &self.records[self.n_numbered]
            if record.fate == STORED:
                record.number = self.n_stored
                self.n_stored += 1
            self.n_numbered += 1
        self.current = self.written = 0
        return self.n_numbered < self.n_records

    cdef Py_ssize_t room_for_records(self) except -2:
        """How many bytes the records may take, beside all that a file has besides; -1: as many as they want."""
        cdef Py_ssize_t room
        cdef Section section
        if self.max_bytes is None:
            return -1
        room = self.max_bytes - 256
        for name, _ in self.packer.names:
            room -= 4 * len(name) + 12
        for section in self.all:
            room -= 4 * len(section.ingredient.name) + 160
        return max(0, room)

    cdef int decide_one(self, Py_ssize_t index) except -1:
        """Decide on the record at `index`, after all that it depends on: depth first, on a stack of its own."""
        cdef list path = [index], positions = [0]
        cdef Record *record
        cdef Dependency *dep
        cdef Py_ssize_t position
        while path:
            record = &self.records[<Py_ssize_t> path[-1]]
            position = positions[-1]
            dep = NULL
            record.fate = LOOKED_AT
            while position < record.n_deps:
                dep = &self.deps[record.first_dep + position]
                if dep.record < 0 or dep.part != MEMBERS_PART and (
                    self.records[dep.record].fate == UNDECIDED or self.records[dep.record].fate == DROPPED
                ):
                    break
                if dep.part == MEMBERS_PART:
                    if (<Section> self.all[dep.record]).lacks_some:
                        dep.is_fresh = False  # what is stored has other members
                elif self.records[dep.record].fate == LOOKED_AT and dep.record != path[-1]:
                    self.has_cycle = True  # made by hand
                position += 1
            positions[-1] = position
            if position < record.n_deps and dep.record >= 0 and self.records[dep.record].fate == UNDECIDED:
                path.append(dep.record)
                positions.append(0)
                continue
            path.pop()
            positions.pop()
            self.settle(record, position == record.n_deps)
        return 0

    cdef int settle(self, Record *record, bint is_complete) except -1:
        """Decide on a record; `is_complete`: all that it depends on is stored."""
        cdef Section section = <Section> PyList_GET_ITEM(self.all, record.section)
        cdef Py_ssize_t size = record_size(record, self.deps, self.n_records) if self.room >= 0 else 0
        if not is_complete:
            record.fate = DROPPED
            self.n_incomplete += 1
        elif record.node != NULL and (  # ids are positions, so that interned values stay once they are packed
            self.max_records is not None and section.n_records >= self.max_records or 0 <= self.room < size
        ):
            record.fate = DROPPED
            section.lacks_some = True
            self.n_over_limit += 1
        else:
            record.fate = STORED
            section.n_records += 1
            if self.room >= 0:
                self.room = max(0, self.room - size)
        return 0

    # -- writing

    def chunk(self, Py_ssize_t n):
        """The next `n` records of the present section as bytes, or fewer large ones.

        None at its end, and the next section begins.
        """
        cdef Record *record
        self.out.reset()
        while n > 0 and self.out.size < CHUNK and self.written < self.n_records:
            record = &self.records[self.written]
            if record.section != self.current:
                break
            if record.fate == STORED:
                write_record(self.out, record, self.records, self.deps, self.packed)
                n -= 1
            self.written += 1
        if self.out.size == 0:
            self.current += 1
            return None
        return PyBytes_FromStringAndSize(<char *> self.out.data, self.out.size)
