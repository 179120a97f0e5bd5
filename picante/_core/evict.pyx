"""Bounded memory: which memos go, and what is left of them.

Where a limit is set, on a query or on the whole database, every memo that is committed comes into a *sieve* (`sieve`),
and where that is over its limit the hand evicts. What costs a hit nothing is the bit that says "not used since the hand
came by": UNVISITED is among the flags of the node, and the hit path wants a node with no flag but VALUE. So the first
hit after the hand has passed takes the general way, once, where the bit is cleared.

An evicted memo is a node without a value that keeps its name, its interval and its edges, both ways (EVICTED). So a
change beneath it still marks what depends on it, and a walk settles it like any other: who read it stays valid
without its value, as long as everything that it had read is as it was. Where the value itself is wanted, the query
runs again; if the name still holds, the result takes it over, for from the same outcomes comes the same value. Else
it is a new outcome with a name of its own: the value that it could have been compared with is gone. Nodes that
nothing depends on do not outlive their memos: `sweep` forgets them, with their edges.

Only memos are evicted, and failures whose revision is over. Never while the query is being computed: its old memo is
what comes back if the computation is cancelled. What was a hit when a snapshot was taken stays one in it (`claim`).
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t, uint32_t

from picante._core.errors import SnapshotFrozenError
from picante._core.node cimport (
    EVICTED, FAILED, MARKED, UNLINKED, UNVISITED, VALUE, Failure, begin_transition, copy_current, end_transition,
    release_slot, untrack_if_plain,
)
from picante._core.packed cimport Packed, is_opened
from picante._core.sharing cimport forget_result
from picante._core.sieve cimport OF_DATABASE, OF_QUERY, Sieve, Slot, resize
from picante._core.sizes import estimate_size
from picante._core.store cimport FAILURE_SIZE, View, admit, keep_version, mark_from, release_edges, sweep

cdef enum:
    MAX_STEPS = 1024  # of the hand for one memo that comes in: it goes on with the next


# -- what comes in


cdef void count_memo(Store store, Node node, uint64_t size) noexcept:
    """`node` has got a value: let it in (in a transition; `make_room` comes next)."""
    if node.slot == NULL:
        admit(store, node, size)
    else:
        resize(node.slot, size)


cdef uint64_t size_of(Store store, Node node, object value) except? 0xDEAD_BEEF:
    """How many bytes `value` counts as; 0 where nobody counts them. May run user code."""
    if store.sieve is None or store.sieve.max_bytes < 0:
        return 0
    return measure(node, value)


cdef uint64_t measure(Node node, object value) except? 0xDEAD_BEEF:
    sizer = (<Table> node.table).sizer
    if type(value) is Failure:
        return FAILURE_SIZE
    if type(value) is Packed:
        if not is_opened(<Packed> value):
            return <uint64_t> (<Packed> value).size()
        value = (<Packed> value).content
    size = estimate_size(value) if sizer is None else sizer(value)
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"size= returns a number of bytes, not {size!r}.")
    return min(size, 1 << 40)


cdef int recount(Store store, Node node) except -1:
    """The value of `node` was decoded, and takes another size."""
    cdef uint64_t size
    if node.slot != NULL and store.sieve is not None and store.sieve.max_bytes >= 0:
        size = size_of(store, node, node.value)
        if node.slot != NULL:
            resize(node.slot, size)
    return 0


# -- the hand


cdef int make_room(Store store, Node spared, list trash) except -1:
    """Evict until no limit is exceeded (in a transition); `spared` has just ended, and its value is about to be used.

    With `spared` the hand may stop for now; it goes on when the next memo comes in.
    """
    if spared is None:
        for table in store.tables.values():
            if (<Table> table).sieve is not None:
                _shrink(store, (<Table> table).sieve, None, trash)
    elif (<Table> spared.table).sieve is not None:
        _shrink(store, (<Table> spared.table).sieve, spared, trash)
    if store.sieve is not None:
        _shrink(store, store.sieve, spared, trash)
    return 0


cdef int _shrink(Store store, Sieve sieve, Node spared, list trash) except -1:
    cdef int64_t steps = 2 * sieve.n_memos + 1
    cdef Node node
    if spared is not None:
        steps = min(steps, MAX_STEPS)
    while sieve.is_over():
        node = _victim(store, sieve, spared, &steps)
        if node is None:
            return 0
        evict(store, node, trash)
        sieve.n_evicted += 1
    return 0


cdef Node _victim(Store store, Sieve sieve, Node spared, int64_t *steps):
    """The next memo to evict, None where there is none for now: move the hand (the algorithm of SIEVE)."""
    cdef Slot *slot = sieve.hand
    cdef Node node
    while steps[0] > 0:
        steps[0] -= 1
        if slot == NULL:
            slot = sieve.oldest
        node = <Node> slot.node
        slot = slot.places[sieve.which].newer
        sieve.hand = slot
        if node is spared or not is_evictable(store, node):
            continue
        if node.flags & UNVISITED:
            return node
        node.flags |= UNVISITED
    return None


cdef inline bint is_evictable(Store store, Node node) noexcept:
    return node.running is None and (
        not node.flags & FAILED or node.flags & MARKED and node.verified_at < store.present.revision
    )


cdef int evict(Store store, Node node, list trash) except -1:
    """Drop what `node` holds (in a transition)."""
    cdef uint32_t left = EVICTED | node.flags & MARKED
    store.idle.append(node)
    _keep_claimed(store, node)
    if node.flags & (FAILED | UNLINKED):  # it can only be computed again, so who read it must be, too
        if not node.flags & MARKED:  # no change will find the way through it to them any more
            mark_from(store, node, store.present.revision)
        release_edges(store, node)
        left = MARKED | UNLINKED
    if store.completed is not None:
        forget_result(store, node, trash)
    trash.append(node.value)
    node.value = None
    untrack_if_plain(node)
    release_slot(node)
    node.flags = left
    return 0


cdef int _keep_claimed(Store store, Node node) except -1:
    """Keep the outcome of `node` for the snapshots at which it was a hit when they were taken; and a failure, which is
    the same object for all who read at its revision, for every view there."""
    cdef uint64_t until = node.verified_at if node.flags & MARKED else store.present.revision
    cdef uint64_t clock = node.slot.clock if node.slot != NULL else 0
    cdef Py_ssize_t i
    cdef View view = store.present
    for i in range(len(store.pins), -1, -1):
        if i < len(store.pins):
            view = <View> store.pins[i]
        if view.revision < node.valid_since:
            return 0
        if view.revision <= until and (clock < view.claims or node.flags & FAILED):
            return keep_version(store, node, view, copy_current(node, until))
    return 0


# -- limits


@cython.final
cdef class Limits:
    """How many memos may be kept, of a database or of one of its queries. Can be changed at any time.

    Attributes (None: any number):
        max_memos: how many memos.
        max_bytes: how many bytes their values may take together, about (of databases only).
    """

    def __init__(self):
        raise TypeError("Limits are those of a runtime: runtime.limits.")

    def __repr__(self):
        return f"<Limits max_memos={self.max_memos} max_bytes={self.max_bytes} of {self.n_memos} memos>"

    cdef Sieve sieve(self):
        return self.store.sieve if self.table is None else self.table.sieve

    @property
    def max_memos(self):
        """How many memos are kept at most. What is over is evicted at once."""
        cdef Sieve sieve = self.sieve()
        return None if sieve is None or sieve.max_memos < 0 else sieve.max_memos

    @max_memos.setter
    def max_memos(self, limit):
        self.limit(limit, self.max_bytes)

    @property
    def max_bytes(self):
        """How many bytes the values take together at most, about."""
        cdef Sieve sieve = self.sieve()
        return None if sieve is None or sieve.max_bytes < 0 else sieve.max_bytes

    @max_bytes.setter
    def max_bytes(self, limit):
        self.limit(self.max_memos, limit)

    @property
    def n_memos(self):
        """How many memos there are, where there is a limit."""
        cdef Sieve sieve = self.sieve()
        return 0 if sieve is None else sieve.n_memos

    @property
    def n_bytes(self):
        """How many bytes their values take, about, where `max_bytes` is set."""
        cdef Sieve sieve = self.sieve()
        return 0 if sieve is None else sieve.n_bytes

    @property
    def n_evicted(self):
        """How many memos were evicted for this limit since it was set."""
        cdef Sieve sieve = self.sieve()
        return 0 if sieve is None else sieve.n_evicted

    cdef int limit(self, max_memos, max_bytes) except -1:
        """Set both limits, and let in what is there already where it was not counted before."""
        cdef Sieve sieve = self.sieve()
        cdef list trash = [], nodes = [], sizes = []
        cdef bint collecting
        cdef int64_t most_memos = checked_limit("max_memos", max_memos)
        cdef int64_t most_bytes = checked_limit("max_bytes", max_bytes)
        if self.frozen:
            raise SnapshotFrozenError("This snapshot is frozen. Change the limits of the database it was taken from.")
        if sieve is None:
            sieve = Sieve(OF_DATABASE if self.table is None else OF_QUERY)
        if sieve.n_memos == 0 or most_bytes >= 0 and sieve.max_bytes < 0:
            nodes = _memos(self.store, self.table)
            if most_bytes >= 0:
                sizes = [measure(<Node> node, (<Node> node).value) for node in nodes]
        collecting = begin_transition()
        try:
            sieve.max_memos, sieve.max_bytes = most_memos, most_bytes
            if most_memos < 0 and most_bytes < 0:
                sieve.clear()
                self.install(None)
            else:
                self.install(sieve)
                for i in range(PyList_GET_SIZE(nodes)):
                    _admit_old(self.store, sieve, <Node> nodes[i], sizes[i] if sizes else 0)
                make_room(self.store, None, trash)
        finally:
            end_transition(collecting)
        del nodes, trash
        sweep(self.store)
        return 0

    cdef int install(self, Sieve sieve) except -1:
        if self.table is None:
            self.store.sieve = sieve
        else:
            self.table.sieve = sieve
        return 0


cdef int _admit_old(Store store, Sieve sieve, Node node, uint64_t size) except -1:
    """Let in what was there before there was a limit: any snapshot may have seen it."""
    if not node.flags & (VALUE | FAILED) or node.flags & FAILED and not is_evictable(store, node):
        return 0  # failures come in when their revision is over
    if node.slot == NULL:
        if admit(store, node, size) != NULL:
            node.slot.clock = 0
    else:
        resize(node.slot, max(size, node.slot.size))
        if node.slot.places[sieve.which].sieve == NULL:
            sieve.enter(node.slot)
    return 0


cdef list _memos(Store store, Table table):
    """All nodes of derived cells that have a memo, or those of one table."""
    nodes = []
    for each in list(store.tables.values()) if table is None else [table]:
        if (<Table> each).derived:
            for found in ((<Table> each).plain, (<Table> each).encoded):
                nodes += [node for node in found.values() if (<Node> node).flags & (VALUE | FAILED)]
    return nodes


cdef object checked_limit(str name, object limit):
    """A limit as a number, -1 for none."""
    if limit is None:
        return -1
    if type(limit) is not int or not 1 <= limit < 1 << 62:
        raise ValueError(f"{name} is a number from 1 on, or None for no limit, not {limit!r}.")
    return limit


cdef Limits new_limits(Store store, Table table, bint frozen):
    cdef Limits limits = Limits.__new__(Limits)
    limits.store = store
    limits.table = table
    limits.frozen = frozen
    return limits
