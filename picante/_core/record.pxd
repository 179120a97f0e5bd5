"""Getters of records: what `file.content` is, in the class of `file`."""

cimport cython

from picante._core.binding cimport Binding


cdef enum Source:
    FIELD       # an item of the record, in an input ingredient
    SINGLETON   # the same of the only record there is, or None where it was not set
    KEY         # the interned value itself
    KEY_ITEM    # an item of the interned value
    ATTRIBUTE   # an attribute of the interned value


@cython.final
cdef class Getter:
    """Reads one field: `file.content(db)`. Found in the class and called in C: nothing is made on the way."""

    cdef void *vectorcall
    cdef readonly str name
    cdef Binding binding        # of the ingredient that holds the field
    cdef Source source
    cdef Py_ssize_t position    # in the record, or in the interned value
    cdef readonly object owner  # the record class
    cdef dict __dict__          # name and documentation, for help()

    cdef object read(self, object handle, object db)
    cdef object read_field(self, object key, object db)
    cdef object read_interned(self, object handle, object db)
    cdef int check_handle(self, object handle) except -1
