"""One database's state: its tables, its revisions, and the views that read at them."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node, Table, Version
from picante._core.observe cimport Observation
from picante._core.sieve cimport Sieve, Slot


cdef enum:
    FAILURE_SIZE = 500  # what a kept failure counts as, in bytes: what its traceback refers to cannot be known


@cython.final
cdef class View:
    """All that reads at one revision: running evaluations and snapshots. Alive while it has users."""

    cdef uint64_t revision
    cdef bint pinned        # a later change has passed it: what it needs is kept for it
    cdef Py_ssize_t users
    cdef list kept          # Node, Version, Node, Version, ...: kept for this view at least
    cdef set raised         # failures that nobody but running evaluations can read any more, or None
    cdef PyObject *snapshots  # the first Reader of those that are open at it; borrowed
    cdef uint64_t claims    # memos that came in before this have a snapshot here that shall hit them; 0: no snapshot


cdef class Reader:
    """A snapshot among those that are open at its view, and what belongs to it. (What `Runtime` is, to this module.)"""

    cdef PyObject *previous  # the open ones of one view, for each other; borrowed
    cdef PyObject *next
    cdef set raised          # what queries raised that is its own (`failure`), or None


@cython.final
cdef class Store:
    """What a database and its snapshots share."""

    cdef readonly object id  # RuntimeId
    cdef View present
    cdef list pins           # the pinned views, oldest first
    cdef dict tables         # kind -> Table
    cdef list failed         # nodes that failed at the present revision ...
    cdef Py_ssize_t n_lent   # ... of which so many were looked at when a snapshot was taken
    cdef set raised          # what cells have lent that the database owns up to its next revision, or None
    cdef uint64_t marks      # how often anything was marked, or lost its edges
    cdef list idle           # nodes that may no longer be of use to anybody
    cdef Py_ssize_t n_keeping  # how many want them kept nevertheless, for now
    cdef set kept            # tasks of computations that go on though their callers may be gone, or None
    cdef list sources        # of values that were loaded and are not decoded yet
    cdef dict completed      # what snapshots computed (`sharing`); None where there never was a snapshot
    cdef Observation observer  # who observes what happens; None while nobody does
    cdef Sieve sieve         # the limit of the whole database, or None
    cdef uint64_t clock      # how many memos came into a sieve
    cdef object __weakref__


@cython.final
cdef class HeldView:
    """One use of a view by what reads in steps. Ends with `close`, or with the object."""

    cdef Store store  # None before `enter` and after `close`
    cdef View view

    cdef void enter(self, Store store, View view) noexcept
    cpdef close(self)


cdef Table table_for(Store store, object kind)
cdef Node node_for(Store store, object kind, object key)

cdef void enter_view(View view) noexcept
cdef void claim(Store store, View view) noexcept
cdef int leave_view(Store store, View view) except -1
cdef void add_reader(View view, Reader reader) noexcept
cdef void remove_reader(View view, Reader reader) noexcept
cdef int leave_to_pinned(View view, set raised) except -1

cdef uint64_t advance(Store store, uint64_t revision, list trash) except? 0
cdef void mark_from(Store store, Node node, uint64_t until) noexcept

cdef bint fits_node(
    Node node, uint64_t name, uint64_t revision, uint64_t *since, uint64_t *until, bint *clean
) noexcept
cdef int keep_current(Store store, Node node, uint64_t until, uint64_t new_since, uint64_t new_until) except -1
cdef int keep_version(Store store, Node node, View view, Version version) except -1
cdef int release_version(Store store, Node node, Version version) except -1

cdef inline bint is_limited(PyObject *store, PyObject *node) noexcept:
    """Whether the memo of `node` may be evicted. By pointers: it is asked for every computation."""
    return (<Store> store).sieve is not None or (<Table> (<Node> node).table).sieve is not None


cdef Slot *admit(Store store, Node node, uint64_t size) noexcept
cdef bint may_be_idle(Node node) noexcept
cdef int release_edges(Store store, Node node) except -1
cdef int sweep(Store store) except -1
