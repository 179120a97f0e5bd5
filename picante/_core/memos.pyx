"""New memos, for the log: reading them out, and putting them in place one by one.

A log holds all changes of inputs, so at any place in it the inputs are known. A memo that held there, with all that it
had read, holds again when the same changes have been made again, as far as what it read is there, unmarked. So an edge
needs no name in the log: `place_memo` asks whether each dependency is what it must be, and refuses a memo that lacks
one, or whose dependencies are marked. What it refuses is computed when somebody asks for it, as if it were not there.

Memos are read out in an order in which what they read stands before them. One that was evicted comes without a value,
if a memo that is read out has read it: put in place it is an evicted one again, which has a name, and edges that
marking and verifying walk. Where a memo stands already and holds, it counts as what another one has read only if a load
or an entry has put it there: what has run here since might have given another value, since its code, or that of what it
has read, is another one now.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.change cimport PRESENCE
from picante._core.derived cimport DerivedIngredient
from picante._core.equality cimport outcomes_equal
from picante._core.errors import DecodeError
from picante._core.evict cimport count_memo, make_room, size_of
from picante._core.ingredient cimport Ingredient
from picante._core.input cimport InputIngredient
from picante._core.interned cimport InternedIngredient
from picante._core.key cimport Key
from picante._core.node cimport (
    EVICTED, FAILED, LOADED, MARKED, NAMED, NO_OUTCOME, NOWHERE, OUTCOME, PART, REASON, UNLINKED, VALUE, Edge, Table,
    begin_transition, end_transition, ensure_node, find_node, name_holds_at, new_note, record_of, release_slot,
    replace_edges, reserve_edges, track, untrack_if_plain,
)
from picante._core.outcome cimport Outcome, name_at, outcome_at
from picante._core.packed cimport UNREADABLE, opened, readable
from picante._core.records cimport MEMBERS_PART, OUTSIDE_PART, PRESENCE_PART, WHOLE
from picante._core.install cimport outside_part
from picante._core.runtime cimport view_of
from picante._core.store cimport HeldView, is_limited, keep_current, may_be_idle, sweep

NO_VALUE = object()  # stands for the value of a memo that was evicted


@cython.final
cdef class StoredMemos:
    """Which memos are stored already: a set of numbers that stand for them, of 12 to 24 bytes each.

    It grows with each memo that is logged, up to the next compaction, as the log does. The numbers are hashes of 64
    bits. If two of them met, one memo would not be logged, and would be computed after a recovery.
    """

    def __dealloc__(self):
        PyMem_Free(self.slots)

    def __len__(self):
        return self.n

    def __sizeof__(self):
        return sizeof(StoredMemos) + self.capacity * sizeof(uint64_t)

    cdef bint has(self, uint64_t number) noexcept:
        return self.capacity > 0 and self.slots[self.slot_of(number)] == number

    cdef int add(self, uint64_t number) except -1:
        cdef uint64_t *before = self.slots
        cdef Py_ssize_t n_before = self.capacity, i
        if 3 * (self.n + 1) > 2 * self.capacity:
            i = max(2 * n_before, 16)
            self.slots = <uint64_t *> PyMem_Calloc(i, sizeof(uint64_t))
            if self.slots == NULL:
                self.slots = before
                raise MemoryError
            self.capacity = i
            for i in range(n_before):
                if before[i]:
                    self.slots[self.slot_of(before[i])] = before[i]
            PyMem_Free(before)
        i = self.slot_of(number)
        if not self.slots[i]:
            self.slots[i] = number
            self.n += 1
        return 0

    cdef Py_ssize_t slot_of(self, uint64_t number) noexcept:
        """Where a number stands, or where there is room for it."""
        cdef Py_ssize_t i = <Py_ssize_t> (number & <uint64_t> (self.capacity - 1))
        while self.slots[i] and self.slots[i] != number:
            i = (i + 1) & (self.capacity - 1)
        return i


@cython.final
cdef class KeptMemos:
    """Keeps evicted memos that nothing depends on, until it is closed, or dropped.

    A recovery brings memos back in the order in which they were logged. Where memory is limited, one of them may be
    evicted before those come that have read it.
    """

    def __init__(self, Runtime runtime not None):
        self.store = runtime.store
        self.store.n_keeping += 1

    def __del__(self):
        self.close()

    def close(self):
        """Forget what is of no use now."""
        cdef Store store = self.store
        self.store = None
        if store is not None:
            store.n_keeping -= 1
            sweep(store)


@cython.final
cdef class NewMemos:
    """The memos of some ingredients that hold at the present revision and that `stored` does not know yet.

    Args:
        runtime: that of the database.
        ingredients: all that is logged.
        stored: which memos are logged already; what is found is added to it.
        only_known: find out what there is, and nothing more: `take` gives nothing.
        only_loaded: only what a load or an entry of a log has put there.
    """

    def __init__(
        self, Runtime runtime not None, ingredients, StoredMemos stored not None, *, only_known=False, only_loaded=False
    ):
        cdef Ingredient each
        self.runtime = runtime
        self.store = runtime.store
        self.stored = stored
        self.ingredients = {}
        self.sections = []
        self.todo = []
        self.path = []
        self.positions = []
        self.seen = StoredMemos()
        self.found = []
        for each in ingredients:
            if each.table is not None and each.store is self.store:
                self.ingredients[<size_t> <PyObject *> each.table] = each
                if isinstance(each, DerivedIngredient):
                    self.sections.append(each)
        self.only_known = only_known
        self.only_loaded = only_loaded
        self.held = HeldView()
        self.view = view_of(runtime)  # last, as always
        self.held.enter(self.store, self.view)

    def close(self):
        """Let go of the revision."""
        self.held.close()

    @property
    def revision(self):
        """At which the memos hold."""
        return self.view.revision

    def step(self, Py_ssize_t n):
        """Look at `n` more memos; whether there are more."""
        cdef Table table
        while n > 0:
            n -= 1
            if self.path:
                self.go_on()
            elif self.todo:
                node = self.todo.pop()
                if self.is_new(node, False):
                    self.path.append(node)
                    self.positions.append(0)
                    self.seen.add(_number_of(node))
            elif self.sections:
                table = (<Ingredient> self.sections.pop()).table
                self.todo = [*table.plain.values(), *table.encoded.values()]
            else:
                return False
        return True

    def take(self):
        """What was found since the last call: of each memo its ingredient, its key, its value and its dependencies.

        The value of one that was evicted is NO_VALUE.
        A dependency is its ingredient, its key, of which part it is, in which state it was (whether it had a value; of
        the list of all keys, part -4, how many there were), and a number that it shares with what one `map` has read.
        """
        cdef list fresh = [], found = self.found
        self.found = fresh
        return found

    cdef bint is_new(self, Node node, bint is_read) except -1:
        """`is_read`: one that is new has read it, so it is taken even if its value is gone."""
        cdef uint32_t flags = node.flags & (VALUE | EVICTED | MARKED | UNLINKED)
        return (
            (flags == VALUE or is_read and flags == EVICTED)
            and node.valid_since <= self.view.revision
            and not self.seen.has(_number_of(node))
            and not self.stored.has(_number_of(node))
            and (flags == VALUE or not self.stored.has(_without_value(_number_of(node))))
        )

    cdef int go_on(self) except -1:
        """Go down to what the last memo of the path has read, if that is new, too; or else take it."""
        cdef Node node = self.path[-1], dep
        cdef uint32_t i = self.positions[-1]
        while i < node.n_edges:
            dep = None if node.edges[i].dep == NULL else <Node> node.edges[i].dep
            i += 1
            if dep is not None and (<Table> dep.table).derived and not dep.flags & PART and self.is_new(dep, True):
                self.positions[-1] = i
                self.path.append(dep)
                self.positions.append(0)
                self.seen.add(_number_of(dep))
                return 0
        self.path.pop()
        self.positions.pop()
        return self.add(node)

    cdef int add(self, Node node) except -1:
        """Take a memo, if it and all that it has read still hold at the revision."""
        cdef list deps = None
        cdef object ingredient = self.ingredients.get(<size_t> node.table)
        cdef uint64_t number
        cdef bint collecting
        if ingredient is None or type(node.key) is Key or self.only_loaded and not _was_put_there(node):
            return 0
        collecting = begin_transition()
        try:
            number = _number_of(node)
            value = node.value
            if node.flags & EVICTED:
                number, value = _without_value(number), NO_VALUE
            if name_holds_at(node, self.view.revision) and (
                node.flags & VALUE or node.flags & EVICTED and node.n_dependents
            ):
                deps = [] if self.only_known else self.deps_of(node)
        finally:
            end_transition(collecting)
        if deps is None:
            return 0
        if not self.only_known:
            try:
                value = opened(value)
            except DecodeError:
                return 0
            self.found.append((ingredient, node.key, value, deps))
        self.stored.add(number)
        return 0

    cdef list deps_of(self, Node node):
        """What it has read, each thing in the state in which it was read; None if it cannot be said."""
        cdef uint32_t i
        cdef list deps = []
        for i in range(node.n_edges):
            if node.edges[i].dep == NULL or node.edges[i].seen == NO_OUTCOME:
                return None
            dep = self.dep_of(node, <Node> node.edges[i].dep, node.edges[i].seen)
            if dep is None:
                return None
            deps.append((*dep, node.edges[i].group))
        return deps

    cdef tuple dep_of(self, Node reader, Node dep, uint64_t seen):
        cdef Outcome outcome
        cdef Ingredient ingredient = self.ingredients.get(<size_t> dep.table)
        cdef Table table = <Table> dep.table
        cdef Node record = dep
        cdef object part = WHOLE
        if ingredient is None or not name_at(dep, self.view, &outcome) or outcome.changed_at != seen:
            return None
        if isinstance(ingredient, InternedIngredient):
            return ingredient, (<InternedIngredient> ingredient).values[dep.key], WHOLE, 1
        if dep is table.members:
            if self.view is not self.store.present:
                return None  # how many there were then is not known any more
            return ingredient, None, MEMBERS_PART, table.n_present
        if dep.flags & PART:
            record = record_of(dep)
            if record is None or record.parts is None:
                return None
            for name, each in record.parts.items():
                if each is dep:
                    part = name
            if table.derived:
                return (ingredient, reader.key, OUTSIDE_PART, 1) if record is reader else None
            part = PRESENCE_PART if part == PRESENCE else part
            outcome_at(record, self.view, &outcome)
        if table.derived and not outcome.flags & (VALUE | EVICTED) or type(record.key) is Key:
            return None
        return ingredient, record.key, part, 1 if outcome.flags & (VALUE | EVICTED) else 0


cdef uint64_t _number_of(Node node) except? 0:
    """What tells this memo from all others: its query and its key, its outcome, and since when that holds. Never 0.

    By the key, not by the address of the node: where memory is limited, nodes come and go, and one that has come again
    with the same outcome has been logged, while another one may stand where it stood.
    """
    cdef uint64_t key = _number_of_key(node.key if node.encoded is None else node.encoded)
    return (
        _mixed(<uint64_t> <size_t> node.table + _mixed(key + _mixed(node.changed_at + _mixed(node.valid_since))))
        or 1
    )


cdef uint64_t _number_of_key(key) except? 0:
    """Of a key that is looked up as it is, or of the encoding of another one: no code of the user runs.

    Not simply its hash: -1 and -2 have one.
    """
    cdef uint64_t number = 1
    if type(key) is tuple:
        for each in <tuple> key:
            number = _mixed(number + _number_of_key(each))
        return number
    return _mixed(<uint64_t> <Py_hash_t> hash(key) + (1 if type(key) is int and key == -1 else 0)) or 1


cdef inline uint64_t _without_value(uint64_t number) noexcept:
    """The number of the same memo where its value is gone: that of one with its value says more."""
    return _mixed(number + 1) or 1


cdef uint64_t _mixed(uint64_t number) noexcept:
    """Each bit of the result depends on each bit of the number (the finalizer of SplitMix64)."""
    number += <uint64_t> 0x9E37_79B9_7F4A_7C15u
    number = (number ^ number >> 30) * <uint64_t> 0xBF58_476D_1CE4_E5B9u
    number = (number ^ number >> 27) * <uint64_t> 0x94D0_49BB_1331_11EBu
    return number ^ number >> 31


def place_memo(
    Runtime runtime not None, DerivedIngredient ingredient not None, key, value, deps, uint64_t revision
):
    """Put a memo in place, if the present revision is `revision` and all `deps` are in the state that they say.

    `deps` are as `NewMemos.take` gives them. Returns whether the cell has this outcome now, and holds. What is refused
    is computed when it is asked for; a value that is there and holds stays. Without a value to compare with, a memo
    whose dependencies are as it has read them is as it was, and any other is another outcome than before.
    """
    cdef Node node, dep
    cdef list nodes = [], groups = []
    cdef dict states = {}
    cdef Edge *edges = NULL
    cdef list trash = []
    cdef bint collecting, has_value = value is not NO_VALUE, was_compared = False, keeps_name = False, was_marked
    cdef uint64_t old_name, size = 0
    cdef Py_ssize_t i
    if ingredient.store is not runtime.store:
        return False
    node = ensure_node(ingredient.table, key)
    for of, dep_key, part, state, group in deps:
        dep = _find_dep(runtime, of, dep_key, part, node)
        if dep is None:
            _let_go(runtime, nodes, node)
            return False
        if dep not in states:
            nodes.append(dep)
            groups.append(group)
        states[dep] = state
    old_name, old = node.changed_at, node.value
    if has_value and node.flags & VALUE:
        was_compared = True
        old = readable(old)
        keeps_name = old is not UNREADABLE and outcomes_equal(ingredient.eq, old, value)
    if has_value and is_limited(<PyObject *> runtime.store, <PyObject *> node):
        size = size_of(runtime.store, node, value)
    edges = reserve_edges(nodes)
    collecting = begin_transition()
    try:
        if runtime.store.present.revision != revision or node.changed_at != old_name:
            return False
        if node.flags & (VALUE | MARKED) == VALUE:
            return keeps_name or not has_value
        if node.flags & FAILED or node.running is not None:
            return False
        if node.flags & (EVICTED | MARKED) == EVICTED:
            if not _was_put_there(node):
                return False
            keeps_name = True
        elif not was_compared:
            keeps_name = node.flags & (VALUE | EVICTED) and _has_read_the_same(node)
        if not keeps_name and (
            node.history is not None or old_name >= revision and (node.flags & NAMED or node.n_dependents)
        ):
            return False
        if not keeps_name or was_compared:
            for i in range(PyList_GET_SIZE(nodes)):
                if not _is_in_state(nodes[i], states[nodes[i]]):
                    return False
        was_marked = node.flags & MARKED
        keep_current(runtime.store, node, node.verified_at, revision, revision)
        if not keeps_name or was_compared:
            for i in range(node.n_edges):
                if node.edges[i].dep != NULL and may_be_idle(<Node> node.edges[i].dep):
                    runtime.store.idle.append(<Node> node.edges[i].dep)
            for i in range(PyList_GET_SIZE(nodes)):
                dep = nodes[i]
                edges[i].seen = dep.changed_at
                edges[i].group = groups[i]
            replace_edges(node, edges, <uint32_t> PyList_GET_SIZE(nodes))
            edges = NULL
        if has_value or not keeps_name:
            track(node)
            trash.append(node.value)
            node.value = value if has_value else None
            release_slot(node)
            node.flags = VALUE if has_value else EVICTED
        if was_marked or not keeps_name:
            node.valid_since = node.verified_at = revision
        node.changed_at = old_name if keeps_name else revision
        node.flags &= ~<uint32_t> MARKED
        node.ran = node.turned = new_note(LOADED, NOWHERE)
        node.ran_at = revision
        runtime.store.marks += 1
        if has_value and is_limited(<PyObject *> runtime.store, <PyObject *> node):
            count_memo(runtime.store, node, size)
            make_room(runtime.store, node, trash)
        untrack_if_plain(node)
        return True
    finally:
        end_transition(collecting)
        PyMem_Free(edges)
        _let_go(runtime, nodes, node)


cdef inline bint _was_put_there(Node node) noexcept:
    """Whether its outcome was loaded, or put in place by an entry of a log."""
    return node.ran & REASON == LOADED


cdef bint _has_read_the_same(Node node) noexcept:
    """Whether all that a marked memo has read is known to be as it was read: then it holds, as after a walk."""
    cdef uint32_t i
    cdef Node dep
    if node.flags & UNLINKED:
        return False
    for i in range(node.n_edges):
        if node.edges[i].dep == NULL or node.edges[i].seen == NO_OUTCOME:
            return False
        dep = <Node> node.edges[i].dep
        if (
            dep.flags & (MARKED | FAILED) or not dep.flags & NAMED or dep.changed_at != node.edges[i].seen
            or (<Table> dep.table).link.ingredient == NULL
        ):
            return False
    return True


cdef int _let_go(Runtime runtime, list nodes, Node node) except -1:
    """What was made for nothing may be of no use to anybody."""
    cdef Node dep
    if not node.flags & OUTCOME:
        runtime.store.idle.append(node)
    for dep in nodes:
        if dep.n_dependents == 0 and may_be_idle(dep):
            runtime.store.idle.append(dep)
    return 0


cdef Node _find_dep(Runtime runtime, Ingredient of, key, part, Node reader):
    """The node of a dependency, or None if there is none that could be in the right state."""
    cdef Node record
    if of.store is not runtime.store:
        return None
    if isinstance(of, InternedIngredient):
        return (<InternedIngredient> of).node_of((<InternedIngredient> of).intern(key))
    if part == MEMBERS_PART:
        return of.table.members
    if isinstance(of, InputIngredient):
        record = (<InputIngredient> of).slot(key)
        if part == WHOLE:
            return record
        if part == PRESENCE_PART:
            return (<InputIngredient> of).part(record, PRESENCE)
        return (<InputIngredient> of).part(record, part) if 0 <= part < len((<InputIngredient> of).fields) else None
    if part == OUTSIDE_PART:
        return outside_part(reader)
    return find_node(of.table, key) if part == WHOLE else None


cdef bint _is_in_state(Node dep, object state) except -1:
    cdef Table table = <Table> dep.table
    cdef Node record = dep
    if dep is table.members:
        return table.n_present == state
    if table.derived:
        return (
            dep.flags & PART or dep.flags & NAMED and not dep.flags & (FAILED | MARKED) and _was_put_there(dep)
        )
    if table.members is None:
        return True  # an interned value
    if dep.flags & PART:
        record = record_of(dep)
    return record is not None and (record.flags & VALUE != 0) == (state == 1)
