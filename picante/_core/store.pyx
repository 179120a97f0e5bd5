"""Revisions, views, and which outcomes are kept for whom.

A *view* reads at one revision. The present view moves on with every change; where somebody still reads at
it (an evaluation that the change overtook, a snapshot) it stays behind, *pinned*, and a fresh one takes
its place. An outcome holds over an interval of revisions. When a node gets another one, the earlier is kept while
a pinned revision lies in its interval, and dropped the moment the last such view is left: memory follows the
readers, and without readers of the past nothing is kept at all.

Failures hold at their own revision only, so the store remembers which nodes failed at the present one and marks
them, with what read them, when the next begins (r[cell.poison-scoped]).

Functions said to run *in a transition* are called between `begin_transition` and `end_transition`: no user code
runs there, and what they drop is dropped by the caller afterwards.
"""

cimport cython
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport Py_REFCNT, PyObject

from itertools import count

from picante._core.errors import DecodeError
from picante._core.key import RuntimeId
from picante._core.node cimport (
    EVICTED, FAILED, MARKED, NAMED, OUTCOME, PART, UNVISITED, VALUE, begin_transition, copy_current, drop_edges,
    end_transition, ensure_node, forget_node, mark_dependents, record_of, set_parts, track,
    untrack_if_plain,
)
from picante._core.observe cimport REVISION, tell
from picante._core.sieve cimport new_slot

_ids = count(1)


@cython.final
cdef class View:
    pass


@cython.final
@cython.no_gc_clear  # its containers break all cycles; what a query raised may still ask for them on its way out
cdef class Store:
    def __cinit__(self):
        self.id = RuntimeId(next(_ids))
        self.present = View()
        self.pins = []
        self.tables = {}
        self.failed = []
        self.idle = []
        self.sources = []


@cython.final
cdef class HeldView:
    def __del__(self):
        self.close()

    cdef void enter(self, Store store, View view) noexcept:
        self.store = store
        self.view = view
        enter_view(view)

    cpdef close(self):
        """Let go of the revision. Closing twice is no error."""
        cdef Store store = self.store
        self.store = None
        if store is not None:
            leave_view(store, self.view)


cdef Table table_for(Store store, object kind):
    cdef Table table = store.tables.get(kind)
    if table is None:
        table = store.tables.setdefault(kind, Table(kind))
    return table


cdef Node node_for(Store store, object kind, object key):
    """The node of a `Key`, made where there was none, also where nobody can decode the key."""
    try:
        decoded = key.decode()
    except DecodeError:
        decoded = key
    return ensure_node(table_for(store, kind), decoded)


# -- views


cdef void enter_view(View view) noexcept:
    view.users += 1


cdef void claim(Store store, View view) noexcept:
    """A snapshot of `view` is taken: what is a hit now shall stay one in it, evicted or not."""
    view.claims = store.clock + 1


cdef int leave_view(Store store, View view) except -1:
    """End one use of `view`; the last one drops what was kept for it alone."""
    cdef Py_ssize_t i
    cdef Node node
    cdef Version version
    cdef View other
    cdef list kept
    cdef bint collecting
    view.users -= 1
    if view.users:
        return 0
    view.claims = 0
    if not view.pinned and view.kept is None:
        return 0
    if view.pinned:
        store.pins.remove(view)
    view.raised = None
    kept, view.kept = view.kept, None
    if kept is None:
        return 0
    collecting = begin_transition()  # else a view that is given a version may end before it has it
    try:
        for i in range(0, PyList_GET_SIZE(kept), 2):
            node = <Node> PyList_GET_ITEM(kept, i)
            version = <Version> PyList_GET_ITEM(kept, i + 1)
            other = _newest_pin(store, version.valid_since, version.valid_until)
            if not version.flags:
                release_version(store, node, version)  # a failure that nobody had any more
            elif other is not None:
                _keep_for(other, node, version)
            elif node.history is not None:
                if PyList_GET_SIZE(node.history) == 1:
                    node.history = None
                    untrack_if_plain(node)
                else:
                    node.history.remove(version)
                release_version(store, node, version)
    finally:
        end_transition(collecting)
    del kept, node, version
    return sweep(store)


cdef View _newest_pin(Store store, uint64_t since, uint64_t until):
    """The newest pinned view whose revision lies within, or the present one if it is a snapshot's as well."""
    cdef Py_ssize_t i
    cdef View view = store.present
    if view.claims and since <= view.revision <= until:
        return view
    for i in range(PyList_GET_SIZE(store.pins) - 1, -1, -1):
        view = <View> PyList_GET_ITEM(store.pins, i)
        if view.revision < since:
            return None
        if view.revision <= until:
            return view
    return None


cdef int _keep_for(View view, Node node, Version version) except -1:
    if view.kept is None:
        view.kept = []
    view.kept.append(node)
    view.kept.append(version)
    return 0


cdef void add_reader(View view, Reader reader) noexcept:
    reader.next = view.snapshots
    if reader.next != NULL:
        (<Reader> reader.next).previous = <PyObject *> reader
    view.snapshots = <PyObject *> reader


cdef void remove_reader(View view, Reader reader) noexcept:
    if reader.previous != NULL:
        (<Reader> reader.previous).next = reader.next
    else:
        view.snapshots = reader.next
    if reader.next != NULL:
        (<Reader> reader.next).previous = reader.previous


cdef int leave_to_pinned(View view, set raised) except -1:
    """Let `raised` last for those who read at `view`, which is not the present one (any more).

    Snapshots own it themselves: what is reached from the store would keep an ended snapshot, perhaps another one that
    nobody else knows any more. Evaluations end, so for them the view may own it.
    """
    cdef PyObject *each = view.snapshots
    cdef Reader heir
    cdef bint collecting = begin_transition()  # making sets may run finalizers, and those may close a snapshot
    try:
        if each == NULL and view.users:
            if view.raised is None:
                view.raised = set()
            view.raised |= raised
        while each != NULL:
            heir = <Reader> each
            if heir.raised is None:
                heir.raised = set()
            heir.raised |= raised
            each = heir.next
    finally:
        end_transition(collecting)
    return 0


# -- changes


cdef uint64_t advance(Store store, uint64_t revision, list trash) except? 0:
    """Begin `revision` (in a transition); returns the last one before it. `trash` is dropped afterwards."""
    cdef View present = store.present, fresh
    cdef uint64_t until = present.revision
    cdef list failed = store.failed
    cdef Py_ssize_t i
    cdef Node node
    store.marks += 1
    if store.observer is not None:
        tell(store.observer, REVISION, None, 0, 0, revision, 0)
    if present.users:
        fresh = View()
        fresh.revision = revision
        store.pins.append(present)
        present.pinned = True
        store.present = fresh
    else:
        present.revision = revision
    if store.raised is not None:
        leave_to_pinned(present, store.raised)
        trash.append(store.raised)
        store.raised = None
    if failed:
        store.failed = []
        store.n_lent = 0
        for i in range(PyList_GET_SIZE(failed)):
            node = <Node> PyList_GET_ITEM(failed, i)
            if node.flags & FAILED and not node.flags & MARKED:
                node.flags |= MARKED
                node.verified_at = until
                mark_from(store, node, until)
            if node.flags & FAILED and node.slot == NULL:
                admit(store, node, FAILURE_SIZE)  # its revision is over, so from here on it may be evicted
            elif not node.flags & FAILED and may_be_idle(node):
                store.idle.append(node)  # what it raised is gone
    return until


cdef void mark_from(Store store, Node node, uint64_t until) noexcept:
    """Mark all that depends on `node`; where memory runs out, everything: that is always sound."""
    cdef Py_ssize_t position, outer = 0
    cdef PyObject *entry
    cdef PyObject *table
    cdef Node each
    store.marks += 1
    if mark_dependents(node, until):
        return
    while PyDict_Next(store.tables, &outer, NULL, &table):
        for nodes in ((<Table> table).plain, (<Table> table).encoded):
            position = 0
            while PyDict_Next(nodes, &position, NULL, &entry):
                each = <Node> entry
                if each.flags & (VALUE | FAILED | EVICTED) and each.n_edges and not each.flags & MARKED:
                    each.flags |= MARKED
                    each.verified_at = until


# -- outcomes and their intervals


cdef bint fits_node(
    Node node, uint64_t name, uint64_t revision, uint64_t *since, uint64_t *until, bint *clean
) noexcept:
    """Whether the outcome `name` at `revision` becomes the current one of `node`, else it is its view's only.

    Moves `since` behind every earlier outcome of another name that is still known, and `until` before every later one,
    where it also takes back `clean`: no interval reaches over a failure, or over what was known to be different.
    """
    cdef Py_ssize_t i
    cdef Version version
    if node.history is not None:
        for i in range(PyList_GET_SIZE(node.history)):
            version = <Version> PyList_GET_ITEM(node.history, i)
            if version.flags & FAILED or version.changed_at != name:
                if version.valid_since > revision:
                    clean[0] = False
                    until[0] = min(until[0], version.valid_since - 1)
                elif version.valid_until >= since[0]:
                    since[0] = version.valid_until + 1
    if node.flags & FAILED or node.flags & (VALUE | EVICTED) and node.changed_at != name:
        if node.valid_since > revision:
            clean[0] = False
            until[0] = min(until[0], node.valid_since - 1)
        else:
            since[0] = max(since[0], (node.valid_since if node.flags & FAILED else node.verified_at) + 1)
    if not node.flags & NAMED:
        return True
    return node.flags & MARKED and (clean[0] or node.verified_at < revision)


cdef int keep_current(Store store, Node node, uint64_t until, uint64_t new_since, uint64_t new_until) except -1:
    """Keep the current outcome of `node`, good up to `until`, where a pinned view needs it.

    It is about to be replaced by one that holds from `new_since` to `new_until`.
    """
    cdef Py_ssize_t i
    cdef View view
    if not node.flags & OUTCOME:
        return 0
    for i in range(PyList_GET_SIZE(store.pins) - 1, -1, -1):
        view = <View> PyList_GET_ITEM(store.pins, i)
        if view.revision < node.valid_since:
            return 0
        if view.revision <= until and not new_since <= view.revision <= new_until:
            return keep_version(store, node, view, copy_current(node, until))
    return 0


cdef int keep_version(Store store, Node node, View view, Version version) except -1:
    """Keep `version` for `view`, and for whoever else reads within its interval."""
    if node.history is None:
        track(node)
        node.history = []
    node.history.append(version)
    return _keep_for(view, node, version)


cdef int release_version(Store store, Node node, Version version) except -1:
    """`version` of `node` is about to be dropped: what it referred to may be of use to nobody any more."""
    if not node.flags & (VALUE | FAILED):
        store.idle.append(node)
    store.idle.extend([dep for dep in version.deps if dep is not None and may_be_idle(<Node> dep)])
    return 0


# -- memos that may be evicted


cdef Slot *admit(Store store, Node node, uint64_t size) noexcept:
    """Let what `node` holds into the sieves, as the newest; NULL where nothing limits it, or memory has run out."""
    cdef Table table = <Table> node.table
    if node.slot != NULL or store.sieve is None and table.sieve is None:
        return node.slot
    node.slot = new_slot(<PyObject *> node, store.clock + 1)
    if node.slot == NULL:
        return NULL
    store.clock += 1
    node.slot.size = size
    node.flags |= UNVISITED
    if store.sieve is not None:
        store.sieve.enter(node.slot)
    if table.sieve is not None:
        table.sieve.enter(node.slot)
    return node.slot


# -- nodes of no use


cdef bint may_be_idle(Node node) noexcept:
    """Whether `node` is worth a look by `sweep` when a reader lets go of it."""
    return not node.flags & VALUE or node.flags & PART and node.n_dependents == 0


cdef int sweep(Store store) except -1:
    """Forget the nodes among the idle that hold nothing and that nobody refers to any more.

    Not while somebody wants evicted memos kept, since what reads them may still come (`memos.KeptMemos`).
    """
    cdef list idle, forgotten = []
    cdef Node node
    cdef bint collecting
    if store.n_keeping:
        return 0
    collecting = begin_transition()
    try:
        while store.idle:
            idle, store.idle = store.idle, []
            while idle:
                node = <Node> idle.pop()
                # Two references: ours and its owner's. Whoever holds another one comes by again.
                if (
                    Py_REFCNT(node) == 2 and not node.n_dependents and node.history is None and node.running is None
                ):
                    if node.flags & PART:
                        _forget_part(store, node)
                    elif not node.flags & (VALUE | FAILED):
                        if node.n_edges:
                            release_edges(store, node)  # of an evicted memo
                            node.flags = 0
                        if node.parts is None:
                            forget_node(node)
                    forgotten.append(node)  # dropping its key may run user code
    finally:
        end_transition(collecting)
    return 0


cdef int release_edges(Store store, Node node) except -1:
    """Let `node` have read nothing (in a transition); what it had read may be of use to nobody any more."""
    cdef uint32_t i
    for i in range(node.n_edges):
        if node.edges[i].dep != NULL and (<Node> node.edges[i].dep).flags & (PART | VALUE) != VALUE:
            store.idle.append(<Node> node.edges[i].dep)
    drop_edges(node)
    return 0


cdef int _forget_part(Store store, Node part) except -1:
    cdef Node record = record_of(part)
    if record is None or record.parts is None:
        return 0
    set_parts(record, {name: each for name, each in record.parts.items() if each is not part} or None)
    if record.parts is None:
        store.idle.append(record)
    return 0
