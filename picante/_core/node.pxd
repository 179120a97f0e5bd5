"""The records of the dependency graph: nodes, the edges between them, and the tables that own them."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.sieve cimport Sieve, Slot


cdef enum:
    # Node.flags and Version.flags: which outcome there is, if any ...
    VALUE = 1      # `value` is a value
    FAILED = 2     # `value` is the exception that the computation raised
    ABSENT = 4     # an input slot that holds nothing: absence is an outcome too
    OUTCOME = VALUE | FAILED | ABSENT
    # ... and what is known about it
    MARKED = 8     # a change may have affected it: it is known to hold up to `verified_at` only
    UNLINKED = 16  # its edges were cleared, so it cannot be verified, only computed again
    PART = 32      # a named part of an input record (its presence, a field), not a record of its own
    PACKED = 64    # nodes: `value` was loaded and is not decoded yet
    UNVISITED = 128  # nodes: its memo was not asked for since the hand of a sieve came by
    EVICTED = 256  # nodes: the value was evicted, but its name, its interval and its edges are there
    KNOWN = 512    # inputs and their parts: the first `ran_at` of the dependents are marked, no change looks at them
    NAMED = OUTCOME | EVICTED


cdef enum:
    # The low bits of a note (`ran`, `turned`): why a query ran. Above them stands the place, among the edges of that
    # run, of the dependency that led to it, for the three reasons that have one; it may have been lost (NOWHERE).
    FIRST = 0         # there was no memo, and never had been one
    DIFFERS = 1       # the dependency had another outcome
    UNSEEN = 2        # its outcome had not been seen, for the read was cut short, or can never be known
    GONE = 3          # the dependency is no more, or the database does not know its kind
    INVALIDATED = 4   # what the query reads outside of the database has changed
    AFTER_FAILURE = 5  # it had failed, and a failure ends with its revision
    DROPPED = 6       # the memo had been dropped
    FORGOTTEN = 7     # the edges had been cleared
    CODE_CHANGED = 8  # the memo was loaded, and its code had been another one
    LOADED = 9        # it did not run: the memo was loaded
    ADOPTED = 10      # it did not run: an earlier result had read the same
    HANDED_IN = 11    # it did not run: somebody outside of the engine computed it
    REASON = 15
    AFRESH = 16       # `ran` only: the outcome was another one than before


cdef struct Edge:
    PyObject *dep    # the Node that was read; borrowed, NULL once that node is gone
    uint64_t seen    # `changed_at` of the outcome that the reader saw
    uint32_t slot    # where the way back stands: dep.dependents[slot]
    uint32_t group   # reads of one `map` share a group and may be verified side by side; 0: none


cdef struct Backref:
    PyObject *reader  # the Node that read; borrowed
    uint32_t edge     # where the way forth stands: reader.edges[edge]


@cython.final
cdef class Version:
    """An outcome that is no longer its node's current one, kept for the views that still need it."""

    cdef object value
    cdef uint32_t flags
    cdef uint32_t ran          # as in a Node
    cdef uint32_t turned
    cdef uint64_t ran_at
    cdef uint64_t changed_at
    cdef uint64_t valid_since
    cdef uint64_t valid_until
    cdef uint64_t ordinal      # input slots: their place in the order of insertion
    cdef list deps             # the Nodes it read, in order; they stay in their tables while this lives
    cdef uint64_t *seen        # the outcomes it saw of them


@cython.final
cdef class Failure:
    """What a node that failed has for a value. What was raised is the node's own, or lent by others (`raised`)."""

    cdef object owned          # the Raised, or None ...
    cdef PyObject *lent        # ... then it belongs to others, and lives as long as one of these


@cython.final
cdef class Node:
    """One input slot, a part of one, or one derived cell: its current outcome and its place in the graph."""

    # What hits and walks look at comes first and stands together: a node is two or three cache lines.
    # -- the current outcome
    cdef object value
    cdef PyObject *table       # the Table that owns it; borrowed
    cdef uint32_t flags
    cdef uint32_t ran          # derived ones: a note why it ran last
    cdef uint64_t changed_at   # names the outcome: two different ones never share it
    cdef uint64_t valid_since  # the outcome holds from this revision on ...
    cdef uint64_t verified_at  # ... while MARKED up to this one, else now (input slots: their place in order)
    # -- edges
    cdef Edge *edges           # what the current memo read, in the order in which it read it
    cdef uint32_t n_edges
    cdef uint32_t turned       # a note why it ran when its outcome became another one
    # -- rarely there
    cdef list history          # the Versions that views still need
    cdef object running        # Frames that compute it now, one for each view at most
    # -- edges back
    cdef uint32_t n_dependents
    cdef uint32_t dependents_capacity
    cdef Backref *dependents   # whose current memo read this
    # -- identity, and what is looked at least
    cdef object key            # the key as the user gave it
    cdef bytes encoded         # its encoding, if it is found by that
    cdef uint64_t ran_at       # derived ones: at which revision it ran last; 0: never. Others: see KNOWN
    cdef dict parts            # input slots: the named parts that some query read
    cdef Slot *slot            # its place among the memos that may be evicted; NULL: nothing limits it


@cython.final
cdef class Link:
    """The way from a table to its ingredient. Refers to nothing that the collector knows, so it is never cleared."""

    cdef PyObject *ingredient  # the Ingredient whose records they are, borrowed; NULL once it is gone


@cython.final
cdef class Table:
    """All nodes of one kind, by key. Owns them: a node lives as long as it is in its table."""

    cdef readonly object kind
    cdef object name           # that of its ingredient, once it has met one
    cdef tuple fields          # input tables: the names of the items, where values are records
    cdef Link link
    cdef dict plain            # keys whose own equality is the typed one
    cdef Py_ssize_t n_tracked  # nodes in `plain` that the collector knows; where there is one, it knows `plain`, too
    cdef dict encoded          # all others, by their encoding
    cdef bint had_ingredient   # an ingredient has adopted it, even if that one is gone
    cdef bint derived          # its nodes are cells of a derived query
    cdef Sieve sieve           # the limit of this query alone, or None
    cdef object sizer          # says how large a value is; None: `estimate_size`
    cdef uint64_t checked_by   # the last walk that asked the database for this kind
    # -- input tables only
    cdef Node members          # stands for "which keys are there"
    cdef Py_ssize_t n_present
    cdef uint64_t last_ordinal
    cdef PyObject *newest      # the node that was made last, perhaps gone by now: only to compare with
    cdef bint in_order         # the order of the dicts is the order of insertion


cdef extern from *:
    """
    /* What stands for the outcome of a read that never delivered one. No revision gets this far. */
    #define NO_OUTCOME UINT64_MAX
    /* What stands for the place of a dependency that is not among the edges. */
    #define NOWHERE 0xFFFFFFE0u

    /* From 3.12 on the collector runs between instructions of Python code, of which a transition has none. */
    #if PY_VERSION_HEX >= 0x030C0000
    #define picante_hold_collector() 0
    #define picante_let_collector(collecting) ((void)(collecting))
    #else
    #define picante_hold_collector() PyGC_Disable()
    #define picante_let_collector(collecting) ((collecting) ? (void)PyGC_Enable() : (void)0)
    #endif
    """
    const uint64_t NO_OUTCOME
    const uint32_t NOWHERE
    bint picante_hold_collector() noexcept
    void picante_let_collector(bint collecting) noexcept
    bint PyObject_GC_IsTracked(object container) noexcept
    void PyObject_GC_Track(void *container) noexcept
    void PyObject_GC_UnTrack(void *container) noexcept


cdef struct Read:
    uint64_t changed_at   # the outcome that was read, or NO_OUTCOME
    uint64_t valid_since  # where its interval began when it was read
    uint32_t group        # reads of one `map` share a number; 0: read by itself


cdef inline bint begin_transition() noexcept:
    """Keep the garbage collector, and with it finalizers, out until `end_transition`.

    Between the two no user code runs: nothing that could be the last reference to a user's object is dropped,
    and making objects starts no collection. What is to be dropped goes to a list that outlives the transition.
    """
    return picante_hold_collector()


cdef inline void end_transition(bint collecting) noexcept:
    picante_let_collector(collecting)


cdef inline void track(Node node) noexcept:
    """Let the collector know `node`: to be called before it gets anything that may lead back to it.

    Forgetting the call costs memory where a database is in a reference cycle, and nothing else.
    """
    if not PyObject_GC_IsTracked(node):
        PyObject_GC_Track(<void *> node)
        count_tracked(node, 1)


cdef inline void count_tracked(Node node, int more) noexcept:
    """The collector knows `node` from now on, or no longer: in the first case it must know the dict in which that is.

    That dict is hidden after a load only (`hide_nodes`). What becomes known is young, and each young collection would
    go over all of it if it came and went with every computation.
    """
    cdef Table table = <Table> node.table
    if node.encoded is not None or node.flags & PART:
        return
    table.n_tracked += more
    if more > 0 and not PyObject_GC_IsTracked(table.plain):
        PyObject_GC_Track(<void *> table.plain)


cdef inline void hide_nodes(Table table) noexcept:
    """Hide the dict of nodes that are all hidden from the collector: it would look at each, and find nothing."""
    if table.n_tracked == 0:
        PyObject_GC_UnTrack(<void *> table.plain)


cdef bint is_bare(object value, int depth) noexcept


cdef inline bint leads_nowhere(object value) noexcept:
    """Whether the collector need not know `value`, now or ever: it refers to nothing that could lead back to it."""
    return type(value) is str or is_bare(value, 4)


cdef inline bint untrack_if_plain(Node node) noexcept:
    """Hide `node` from the collector while nothing leads from it back to it: most of a database is like that.

    Its parts have the same key and no values, and its edges are borrowed.
    """
    if (
        node.running is not None or node.history is not None
        or not leads_nowhere(node.key) or not leads_nowhere(node.value)
    ):
        return False
    if PyObject_GC_IsTracked(node):
        PyObject_GC_UnTrack(<void *> node)
        count_tracked(node, -1)
    return True


cdef inline void set_parts(Node node, dict parts) noexcept:
    """Give `node` its parts, which are as plain as its key is."""
    node.parts = parts
    if parts is not None and leads_nowhere(node.key):
        PyObject_GC_UnTrack(<void *> parts)


cdef inline bint holds_at(Node node, uint64_t revision) noexcept:
    """Whether the current outcome of `node` is the one at `revision`."""
    return (
        node.flags & OUTCOME
        and node.valid_since <= revision
        and (not node.flags & MARKED or node.verified_at >= revision)
    )


cdef inline uint32_t new_note(uint32_t reason, uint32_t place) noexcept:
    return reason | (place << 5 if place < NOWHERE >> 5 else NOWHERE)


cdef inline bint name_holds_at(Node node, uint64_t revision) noexcept:
    """The same of an outcome of which perhaps only the name is left."""
    return (
        node.flags & NAMED
        and node.valid_since <= revision
        and (not node.flags & MARKED or node.verified_at >= revision)
    )


cdef Version find_version(Node node, uint64_t revision)
cdef Version copy_current(Node node, uint64_t valid_until)

cdef Node find_node(Table table, object key)
cdef Node ensure_node(Table table, object key)
cdef list read_by(Node node)
cdef Node record_of(Node part)
cdef bint is_own_part(Node node) noexcept
cdef int forget_node(Node node) except -1

cdef Edge *reserve_edges(list deps) except? NULL
cdef int reserve_dependent(Node dep) except -1
cdef bint same_deps(Node node, list deps) noexcept
cdef void replace_edges(Node node, Edge *edges, uint32_t n_edges) noexcept
cdef void drop_edges(Node node) noexcept

cdef bint mark_dependents(Node node, uint64_t until) noexcept
cdef void know_dependents(Node node) noexcept
cdef void expose(Edge *edge) noexcept
cdef int collect_dependents(Node node, list found, set seen) except -1
cdef object node_key(Node node)
cdef str label_of(object kind, object name, object key)
cdef str safe_repr(object value)
cdef void release_slot(Node node) noexcept
