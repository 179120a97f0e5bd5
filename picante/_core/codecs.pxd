"""Codecs: how values of types that picante does not know are stored."""

cimport cython


@cython.final
cdef class Codec:
    cdef readonly object cls
    cdef readonly str name
    cdef readonly object encode
    cdef readonly object decode


@cython.final
cdef class Codecs:
    cdef dict by_class  # address of the class -> Codec
    cdef dict by_name
    cdef dict loaders  # package -> what registers the codecs for its classes, until it has done so

    cdef Codec of_class(self, object cls)  # None if there is none
    cdef Codec of_name(self, str name)
    cdef int load(self, object package) except -1


cdef Codecs standard_codecs  # those of this process
