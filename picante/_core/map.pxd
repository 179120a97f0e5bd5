"""Many keys of one query at once."""

cimport cython

from picante._core.frame cimport Frame
from picante._core.ingredient cimport Ingredient
from picante._core.runtime cimport Runtime
from picante._core.store cimport View


@cython.final
cdef class Members:
    """The keys of one `map`: what is known of them, and the tasks that find out the rest."""

    cdef Ingredient ingredient
    cdef Runtime runtime
    cdef View view             # in use from the start to the end: one revision for all
    cdef Frame frame           # the query that asks, or None
    cdef object db
    cdef list nodes            # one for each key, in order
    cdef list ready            # the values, where none is missing
    cdef list waiting          # nodes that no task works on yet, the first one last
    cdef dict running          # task -> its Driver
    cdef dict found            # where memos may be evicted: the address of a node -> its outcome; else None
    cdef list raised           # failures that were there, so that they stay
    cdef Py_ssize_t limit
    cdef object finished       # a future: nothing runs any more
    cdef object error          # the first one that was raised

    cdef int look_up(self, keys) except -1
    cdef int launch(self) except -1
    cdef int close(self, closed) except -1
    cdef int cancel(self) except -1
    cdef int give_up(self) except -1
    cdef bint look_again(self) except -1
    cdef list values(self)


cdef object map_keys(Ingredient ingredient, object db, object keys, object limit)
