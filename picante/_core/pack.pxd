"""From a value to the bytes that cache files store."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from picante._core.buffer cimport Buffer
from picante._core.classes cimport Plan
from picante._core.codecs cimport Codec, Codecs
from picante._core.place cimport Place
from picante._core.references cimport References


@cython.final
cdef class Known:
    # A class that a Packer has met.
    cdef object cls
    cdef Plan plan
    cdef Codec codec  # or None
    cdef Py_ssize_t number  # by which the bytes name it, if `named_in` is the Packer's present epoch
    cdef uint64_t named_in


@cython.final
cdef class Packer:
    cdef Codecs codecs
    cdef Buffer out  # of the present value; None between two
    cdef dict n_ids  # kind of handles -> how many of their ids are stored, where not all are; or None
    cdef readonly list names  # of the classes and codecs: (name, shape)
    cdef bint inline_names  # values define the names that they use; `names` starts afresh with each of them
    cdef uint64_t epoch  # of `names`
    cdef dict known  # address of a class -> Known
    cdef PyObject* recent[32]  # some of these, borrowed
    cdef Py_ssize_t n_numbered  # how many parts of the present value have a number
    cdef bint shared  # a reference has been written
    cdef References met  # what may occur again in the present value

    # Append the packed value to `out`, which is left as it was if that fails. EncodeError.
    cdef int pack_into(self, Buffer out, object value) except -1

    cdef int write(self, object value, const Place* place) except -1
    cdef int write_str(self, str text, const Place* place) except -1
    cdef int write_bytes(self, bytes data, const Place* place) except -1
    cdef int write_tuple(self, object elements, const Place* place) except -1
    cdef int write_elements(self, object elements, tuple names, const Place* place) except -1
    cdef int write_list(self, list elements, const Place* place) except -1
    cdef int write_dict(self, dict items, const Place* place) except -1
    cdef int write_set(self, object elements, int code, const Place* place) except -1
    cdef int write_other(self, object value, const Place* place) except -1
    cdef int write_planned(self, object value, Known known, const Place* place) except -1
    cdef int write_record(self, object value, Known known, const Place* place) except -1
    cdef int write_named_tuple(self, object value, Known known, const Place* place) except -1
    cdef int write_standard(self, object value, int code, const Place* place) except -1
    cdef int write_encoded(self, object value, Known known, const Place* place) except -1
    cdef int write_name(self, Known known) except -1
    cdef Known know(self, object cls)

    cdef Py_ssize_t begin(self, object value, const Place* place) except -3
    cdef int end(self, Py_ssize_t entry) except -1
    cdef Py_ssize_t refer(self, Py_ssize_t number, object value, const Place* place) except -3
