"""Where in a value its parts stand, and the errors that say so."""

from picante._core.wire cimport MAX_NESTING


cdef enum Step:
    # From a value to one in it.
    AT_INDEX
    AT_FIELD
    AT_KEY
    AMONG  # a key of a dict, or an element of a set
    AS_STORED  # what a codec has made

cdef struct Place:
    # A list in the callers' frames, from the inside out, which costs nothing until an error message needs it.
    const Place* outer
    Step step
    int depth
    int owners  # so many references to the value are known; more say that it may occur elsewhere
    Py_ssize_t index
    void* name  # of a field or codec, or the key of a dict; borrowed

cdef int too_deep() except -1  # raises it
cdef int too_many() except -1  # raises it: elements
cdef str path_of(const Place* place)  # as a person would write it

# Errors to raise: for a value of a type that cannot be stored; for a container that is not what it was; for what user
# code has raised; the same for the error that is set.
cdef object refusal(object cls, const Place* place, str hint=*)
cdef object changed(const Place* place)
cdef object blame(object error, const Place* place)
cdef object user_error(const Place* place)


cdef inline void place_outermost(Place* root) noexcept:
    """The value itself."""
    root.outer = NULL
    root.step = AT_INDEX
    root.depth = 0
    root.owners = 0  # who knows who refers to it
    root.index = 0
    root.name = NULL


cdef inline int enter(Place* inner, const Place* outer, Step step) except -1:
    """Start a level of nesting."""
    if outer.depth == MAX_NESTING:
        too_deep()
    inner.outer = outer
    inner.step = step
    inner.depth = outer.depth + 1
    inner.owners = 2  # what it is in, and the variable of who goes through it
    inner.index = 0
    inner.name = NULL
    return 0
