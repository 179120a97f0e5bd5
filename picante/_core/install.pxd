"""Stored outcomes, and how they become those of a database."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Edge, Node, Table
from picante._core.store cimport Store
from picante._core.stored cimport Source
from picante._core.wire cimport Head, Span, next_head, next_number


cdef struct Place:
    # Of a record in the bytes. There is one of each record, so it holds no more than it must: what stands in front of a
    # value is read again where it is needed (`read_front`).
    Py_ssize_t start           # where its content starts
    uint32_t value             # where its value starts, seen from there; at `size`: there is none
    uint32_t size              # of its content, which cannot be larger
    Edge *edges                # derived: what it read; `seen` is 1 if that is as it was read, else 0
    uint32_t n_edges
    unsigned char is_old       # derived: it was not known any more to hold when it was stored
    unsigned char has_stale    # derived: something that it read is not as it was read
    unsigned char is_left_out  # it names what this process does not know, or depends on such a record


cdef struct Front:
    # What stands in front of the value of a record that is not interned.
    Py_ssize_t key
    Py_ssize_t key_end
    uint64_t changed_at
    uint64_t verified_at       # derived
    Py_ssize_t deps            # derived: where the dependencies start


@cython.final
cdef class Part:
    """A section of the bytes."""

    cdef Ingredient ingredient    # None: no section of this database, or of a kind that nobody asked for
    cdef str type                 # "interned", "input" or "derived", which is to say:
    cdef bint is_interned
    cdef bint is_input
    cdef bint is_derived
    cdef bint lacks_some          # some of its records are left out
    cdef bint rerun               # the code of the query is another one: nothing holds before it has run
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t n_records
    cdef Py_ssize_t first         # the number of its first record
    cdef Py_ssize_t checked       # how many records were checked
    cdef list nodes               # of its records, once they are made; None for one that is left out
    cdef Py_ssize_t n_made        # `bulk`: how many of them are made, ...
    cdef dict made                # ... and all of them by key, once they are
    cdef list waiting             # `bulk`: the memos, by position, that have no edges yet
    cdef Py_ssize_t n_before      # interned: how many values there were, ...
    cdef Py_ssize_t n_interned    # ... and how many there are with those of the file
    cdef list ids                 # interned: what the ids in the file are here


cdef inline int _read_checked(Span *span, uint64_t *number) except -1:
    cdef Head head
    if not next_number(span, number):
        head.number = 0
        next_head(span, &head)
        number[0] = <uint64_t> head.number
    return 0


cdef inline int read_front(Source source, Part part, const Place *place, Front *front) except -1:
    """What stands in front of the value of a record that was checked, and is not interned."""
    cdef Span span
    cdef uint64_t size
    span.data = source.data
    span.at = place.start
    span.end = place.start + place.size
    _read_checked(&span, &size)
    front.key = span.at
    front.key_end = span.at = span.at + <Py_ssize_t> size
    _read_checked(&span, &front.changed_at)
    front.verified_at = 0
    if part.is_derived:
        _read_checked(&span, &front.verified_at)
    front.deps = span.at
    return 0


cdef inline Node new_node(Table table, object key):
    """A vacant one, which is not in the table yet."""
    cdef Node node = Node.__new__(Node)
    node.table = <PyObject *> table
    node.key = key
    return node


# What stands for the world outside of the database that the query of `cell` reads.
cdef Node outside_part(Node cell)

cdef int drop_doubles(Place *place) except -1
cdef int refuse_doubles(Part part) except -1
cdef object stored_twice(Part part)  # the error for it

# Leave out all memos that depend on one that is left out; how many these are.
cdef Py_ssize_t spread_left_out(list parts, Place *places) except -1
cdef dict dict_of(tuple texts, list values)

# A value that was checked, and the flags of a node that has it. Where there is none these stay.
cdef object loaded_value(Source source, const Place *place, uint32_t *flags)

cdef Part find_part(list parts, Py_ssize_t number)  # in which the record with this number is

# Of a load into a database that has state (in a transition, before it): what it changes, as a list of the node of an
# input, whether that has a value then, and the queries that read it; None of any other load.
cdef list find_changes(Store store, list parts, Place *places, uint64_t stored_at)
cdef int tell_changes(object hub, list changes, object revision) except -1

# Whether nothing is there that anybody could have seen, so that the database becomes what was stored at `stored_at`.
cdef bint is_fresh_database(Store store, uint64_t stored_at) except -1

# At which revision it then is.
cdef uint64_t first_revision(Store store, list parts, uint64_t stored_at) except? 0xDEAD

# Whether some memo will have to be verified: what depends on it may have to run at this very revision, too.
cdef bint has_stale(list parts, Place *places) except -1

cdef int draw_edges_of(Part part, Place *places, Py_ssize_t i, uint64_t revision) except -1

# Put all outcomes in place (in a transition), at the revision that the store has then. `is_fresh`: the same, if it is
# known to be so; or else it is found out.
cdef int install(
    Store store, Source source, list parts, Place *places, uint64_t stored_at, bint is_fresh, list trash
) except -1
