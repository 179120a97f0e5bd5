"""Stored outcomes, and how they become those of a database."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Edge
from picante._core.store cimport Store
from picante._core.stored cimport Source


cdef struct Place:
    # Of a record in the bytes.
    Py_ssize_t start
    Py_ssize_t key         # of interned values: where they start
    Py_ssize_t key_end
    Py_ssize_t deps        # derived: where the dependencies start
    Py_ssize_t value       # where the value starts; at `end`: there is none
    Py_ssize_t end
    uint64_t changed_at
    uint64_t verified_at
    Edge *edges            # derived: what it read; `seen` is 1 if that is as it was read, else 0
    uint32_t n_edges
    bint has_stale         # derived: something that it read is not as it was read
    bint is_left_out       # it names what this process does not know, or depends on such a record


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
    cdef Py_ssize_t n_before      # interned: how many values there were, ...
    cdef Py_ssize_t n_interned    # ... and how many there are with those of the file
    cdef list ids                 # interned: what the ids in the file are here


cdef int drop_doubles(Place *place) except -1

# Of a load into a database that has state (in a transition, before it): what it changes, as a list of the node of an
# input, whether that has a value then, and the queries that read it; None of any other load.
cdef list find_changes(Store store, list parts, Place *places, uint64_t stored_at)
cdef int tell_changes(object hub, list changes, object revision) except -1

# Whether nothing is there that anybody could have seen, so that the database becomes what was stored at `stored_at`.
cdef bint is_fresh_database(Store store, uint64_t stored_at) except -1

# Put all outcomes in place (in a transition), at the revision that the store has then. `is_fresh`: the same, if it is
# known to be so; or else it is found out.
cdef int install(
    Store store, Source source, list parts, Place *places, uint64_t stored_at, bint is_fresh, list trash
) except -1
