"""Stored outcomes, and how they become those of a database."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.ingredient cimport Ingredient
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
    bint is_left_out       # it names what this process does not know, or depends on such a record


@cython.final
cdef class Part:
    """A section of the bytes."""

    cdef Ingredient ingredient    # None: no section of this database, or of a kind that nobody asked for
    cdef str type
    cdef bint lacks_some          # some of its records are left out
    cdef bint rerun               # the code of the query is another one: nothing holds before it has run
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t n_records
    cdef Py_ssize_t first         # the number of its first record
    cdef Py_ssize_t checked       # how many records were checked
    cdef list nodes               # of its records, once they are made; None for one that is left out
    cdef list deps                # derived: of each the nodes that it read, and whether they are as they were read
    cdef Py_ssize_t n_before      # interned: how many values there were, ...
    cdef Py_ssize_t n_interned    # ... and how many there are with those of the file
    cdef list ids                 # interned: what the ids in the file are here


# Put all outcomes in place (in a transition), at the revision that the store has then.
cdef int install(Store store, Source source, list parts, Place *places, uint64_t stored_at, list trash) except -1
