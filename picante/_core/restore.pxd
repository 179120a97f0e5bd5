"""Bringing stored records back into a database."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from picante._core.check cimport Checker
from picante._core.install cimport Front, Part, Place
from picante._core.node cimport Node
from picante._core.store cimport Store
from picante._core.stored cimport Origin, Source
from picante._core.wire cimport Span


@cython.final
cdef class Restore:
    """One load: first everything is checked, then everything is put in place, at once."""

    cdef Store store
    cdef object runtime
    cdef object db
    cdef Source source
    cdef Origin origin            # its values that are not decoded yet live at least as long as this
    cdef Checker checker
    cdef uint64_t revision        # at which the records were stored
    cdef list parts
    cdef Part last_part           # the one that was looked for last by the number of a record
    cdef Place *places
    cdef Py_ssize_t n_records
    cdef Py_ssize_t current
    cdef list kept                # what is read besides records: it must not go before it is linked
    cdef bint was_fresh           # nothing was in the database when keys and nodes began to be made ...
    cdef bint ran_code            # ... and code of a user may have run since, and changed that
    cdef bint is_complete         # `bulk` has made everything
    cdef list unknown_handles     # kinds of handles whose values are not loaded
    cdef readonly list left_out   # (what, why): records that name what this process does not know; the first few
    cdef readonly Py_ssize_t n_left_out

    cdef int check_up_to(self, Part part, Py_ssize_t last) except -1
    cdef int leave_out(self, Part part, Place *place, error) except -1

    cdef int undo(self) except -1
    cdef int make_all(self) except -1
    cdef bint make_at_once(self) except -1
    cdef int find_waiting_deps(self) except -1
    cdef int intern_all(self) except -1
    cdef object intern_part(self, Part part, dict new_ids)
    cdef int make_nodes(self, Part part) except -1
    cdef object read_key(self, Part part, const Place *place)
    cdef Node make_node(self, Part part, Place *place, bint lacks_ids, bint *is_new)
    cdef object key_of_first(self, Part part, const Front *front, Py_ssize_t value)
    cdef int find_deps(self, Part part) except -1
    cdef int find_deps_of(self, Part part, Py_ssize_t i) except -1
    cdef Node read_dep(self, Span *span, Node reader, bint *is_fresh, uint32_t *group)
    cdef Part part_of(self, uint64_t number)
