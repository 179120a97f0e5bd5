"""The contexts in which computations run: a copy of the caller's each, with the frame put in.

To make and to free a frame, a context and the map of its variables costs a fifth of a miss, and nearly always the next
computation needs just such ones: programs set context variables rarely. So frames that have ended are kept with their
contexts for the next ones that are asked for in a context which is the same but for the query that runs.

That two contexts are the same is known by their maps, which are immutable: setting a variable replaces the map. All
kept contexts have one *base*, the map of the context in which the outermost of those queries was asked for; who asks
inside of one of these queries has its frame's map. A base holds nothing that anybody could miss the end of, such as a
request or a database: only values of a few plain types.

A context is used again only where nobody can tell: its variables are as they were (`variables`), no copy of it is alive
(copies share the map: child tasks, handles), and nobody else refers to the frame.
"""

import sys

from cpython.contextvars cimport (
    PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit, PyContextVar_Get, PyContextVar_Set,
)
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT, PyObject
from libc.stdint cimport uint64_t

from picante._core.frame cimport frame_var, picante_references

cdef extern from *:
    """
    /* The context that this thread is in, borrowed; NULL before there is one. Python only gives out copies. */
    static inline PyObject *picante_context(void) {
        return PyThreadState_Get()->context;
    }

    static PyTypeObject *picante_map_type = NULL;

    static int picante_see(PyObject *referent, void *seen) {
        if (Py_TYPE(referent) == picante_map_type || picante_map_type == NULL)
            *(PyObject **)seen = referent;
        return 0;
    }

    /* The map of the variables of a context, borrowed; NULL where it is not found. It is what the garbage collector is
       told that a context refers to, beside the one from which it was entered. */
    static inline PyObject *picante_variables(PyObject *context) {
        PyObject *seen = NULL;
        Py_TYPE(context)->tp_traverse(context, picante_see, &seen);
        return seen;
    }

    static inline void picante_learn_map_type(PyObject *context) {
        PyObject *map = picante_variables(context);
        picante_map_type = map == NULL ? &PyBaseObject_Type : Py_TYPE(map);
    }
    """
    PyObject *picante_context() noexcept
    PyObject *picante_variables(PyObject *context) noexcept
    void picante_learn_map_type(object context) noexcept

cdef enum:
    MAX_KEPT = 64
    PATIENCE = 8  # so often another base than that of the kept contexts is asked for until these are given up
cdef PyObject *_kept[MAX_KEPT]
cdef Py_ssize_t _n_kept = 0

cdef object _base = None  # the map
cdef uint64_t _number = 0  # that of the base
cdef int _misses = PATIENCE

# What a base may hold.
cdef frozenset _plain = frozenset([type(None), bool, int, float, str, bytes])


cdef Frame new_frame():
    """A frame in a context that is a copy of the present one, but for the query that runs."""
    global _n_kept, _misses
    cdef PyObject *present = picante_context()
    cdef PyObject *variables = NULL if present == NULL else picante_variables(present)
    cdef Frame frame
    cdef bint fits = variables != NULL and (variables == <PyObject *> _base or _is_of_base(variables))
    if fits:
        _misses = 0
        if _n_kept:
            _n_kept -= 1
            frame = <Frame> _kept[_n_kept]
            Py_DECREF(frame)  # `frame` has a reference of its own
            frame.ended = False
            return frame
    else:
        _misses += 1
        fits = _misses > PATIENCE and _change_base()
    frame = Frame.__new__(Frame)
    context = PyContext_CopyCurrent()
    PyContext_Enter(context)
    try:
        PyContextVar_Set(frame_var, frame)
    finally:
        PyContext_Exit(context)
    frame.context = context
    variables = picante_variables(<PyObject *> context)
    if fits and variables != NULL:
        frame.variables = <object> variables
        frame.based_on = _number
    return frame


cdef bint _is_of_base(PyObject *variables) noexcept:
    """Whether `variables`, those of the present context, are the base but for the query that runs."""
    cdef PyObject *found = NULL
    PyContextVar_Get(frame_var, NULL, &found)
    if found == NULL:
        return False
    Py_DECREF(<object> found)  # the context keeps it
    return <PyObject *> (<Frame> found).variables == variables and (<Frame> found).based_on == _number


cdef bint _change_base() except -1:
    """Make the variables of the present context the base, if they may be one."""
    global _base, _number, _misses, _n_kept
    cdef Frame frame
    cdef PyObject *variables
    _misses = 0
    context = PyContext_CopyCurrent()
    variables = picante_variables(<PyObject *> context)
    if variables == NULL or len(context) > 20:
        return False
    decimal = sys.modules.get("decimal")
    for value in context.values():
        if type(value) not in _plain and (decimal is None or type(value) is not decimal.Context):
            return False
    _base = <object> variables
    _number += 1
    while _n_kept:
        _n_kept -= 1
        frame = <Frame> _kept[_n_kept]
        Py_DECREF(frame)  # `frame` has a reference of its own
        frame.context = frame.variables = None
    return picante_context() != NULL and picante_variables(picante_context()) == <PyObject *> _base


cdef int retire_frame(Frame frame, object context, object variables) except -1:
    """Keep `frame`, which has ended, and the `context` in which it ran, with these `variables`, for another one.

    Not where anybody may still refer to one of them. The caller has one reference to each, the context one to its
    variables, and these one to the frame.
    """
    global _n_kept
    if (
        frame.based_on != _number or variables is None or Py_REFCNT(frame) != 2 or Py_REFCNT(context) != 1
        or Py_REFCNT(variables) != 2 or picante_variables(<PyObject *> context) != <PyObject *> variables
        or frame.nodes is None or picante_references(<PyObject *> frame.nodes) != 1 or frame.capacity > 8
    ):
        return 0
    frame.why = frame.place = frame.group = frame.n_groups = 0
    frame.fleeting = frame.abandoned = frame.paused = False
    frame.number = 0
    frame.cause = None
    frame.entry = None
    if _n_kept < MAX_KEPT and frame.based_on == _number:  # dropping these may have run anything
        frame.context = context
        frame.variables = variables
        _kept[_n_kept] = <PyObject *> frame
        Py_INCREF(frame)
        _n_kept += 1
    return 0


picante_learn_map_type(PyContext_CopyCurrent())
