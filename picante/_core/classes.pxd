"""Known classes: how their values are written, and which class a name in a key or a cache file means."""

cimport cython
from libc.stdint cimport uint32_t


@cython.final
cdef class Plan:
    cdef int code  # an Extension
    cdef bint in_keys  # keys may hold them, not only stored values
    cdef str name  # module.qualname
    cdef uint32_t shape  # the hash of `fields`; of handles: their kind
    cdef tuple fields  # the names of the fields, of a dataclass or named tuple

cdef Plan plan_of(object cls)  # None if values of the class cannot be keys

cdef Plan stored_plan_of(object cls)  # None if values of the class cannot be stored without a codec

# The class that is known as `label`, a name or a handle's kind: to `db`, which is asked by its method `finder_name`,
# or else to this process. DecodeError if there is none, or more than one.
cdef object find_class(object label, object db, str finder_name, bint in_key)

# An `Enum` member's name, or the number of an unnamed combination of flags, and back. None if there is none.
cdef object member_name(object member)
cdef object member_of(object cls, object name)

cdef object namespace_of(object cls)  # its `__dict__`, without asking a metaclass
cdef str type_name(object cls)  # for messages
cdef str hint_for(object cls)  # what to use instead, of a class that cannot be a key; may be None
