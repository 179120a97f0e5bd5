"""Frames that are used again, and the contexts in which they travel.

A frame that has ended and to which nobody refers any more is not freed, but waits for the next computation. It then
refers to nothing but an empty list and the room for a few reads of its own. One to which somebody still refers, a task
that has outlived its query for instance, never gets here.

The garbage collector knows neither the frame nor its list while it waits. The last reference may be dropped in the
middle of a collection that is about to clear both, as garbage; and other code may run before it gets there, and take
the frame. They become known again when the computation is suspended for the first time.
"""

from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyTypeObject, destructor
from cpython.ref cimport Py_DECREF, PyObject

from picante._core.awaitable cimport picante_revive
from picante._core.frame cimport frame_var, picante_references, picante_shorten
from picante._core.node cimport (
    PyObject_GC_IsTracked, PyObject_GC_Track, PyObject_GC_UnTrack, begin_transition, end_transition, track,
)

cdef extern from *:
    """
    /* Enter a copy of the present context in which `variable` is `value`. */
    static PyObject *picante_enter_copy(PyObject *variable, PyObject *value) {
        PyObject *context = PyContext_CopyCurrent(), *token;
        if (context == NULL)
            return NULL;
        if (PyContext_Enter(context) < 0) {
            Py_DECREF(context);
            return NULL;
        }
        token = PyContextVar_Set(variable, value);
        if (token == NULL) {
            PyContext_Exit(context);
            Py_DECREF(context);
            return NULL;
        }
        Py_DECREF(token);
        return context;
    }
    """
    object picante_enter_copy(object variable, object value)

cdef enum:
    MAX_FREE = 64
    FEW = 8  # reads, for which a frame may keep the room
cdef PyObject *_free[MAX_FREE]
cdef Py_ssize_t _n_free = 0


cdef Frame new_frame():
    """A frame that has nothing yet."""
    global _n_free
    cdef Frame frame
    if not _n_free:
        return Frame.__new__(Frame)
    _n_free -= 1
    frame = <Frame> _free[_n_free]
    Py_DECREF(frame)  # `frame` has a reference of its own
    frame.ended = frame.fleeting = frame.abandoned = frame.paused = False
    frame.why = frame.place = 0
    frame.group = frame.n_groups = 0
    frame.number = 0
    return frame


cdef void free_frame(PyObject *self) noexcept:
    """In place of the general way: nobody refers to the frame any more, so let it wait for the next computation."""
    global _n_free
    if (
        _n_free == MAX_FREE or not (<Frame> self).ended or not _is_bare(<Frame> self)
        or (<Frame> self).capacity > FEW or PyList_GET_SIZE((<Frame> self).nodes)
    ):
        _free_generally(self)
        return
    picante_revive(self)
    if PyObject_GC_IsTracked(<Frame> self):
        PyObject_GC_UnTrack(self)
    if PyObject_GC_IsTracked((<Frame> self).nodes):
        PyObject_GC_UnTrack(<PyObject *> (<Frame> self).nodes)
    _free[_n_free] = self
    _n_free += 1


cdef inline bint _is_bare(Frame frame) noexcept:
    """Whether `frame` refers to nothing but its list of reads."""
    return (
        frame.nodes is not None and frame.node is None and frame.ingredient is None and frame.view is None
        and frame.runtime is None and frame.parent is None and frame.path is None and frame.context is None
        and frame.cause is None and frame.loop is None and frame.entry is None and frame.sibling is None
        and frame.raised is None and frame.waiters is None
    )


cdef void track_frame(Frame frame) noexcept:
    """Let the collector know the `frame` of a computation that is suspended, and the node, from which it leads back."""
    track(frame.node)
    if not PyObject_GC_IsTracked(frame):
        PyObject_GC_Track(<PyObject *> frame)
    if frame.nodes is not None and not PyObject_GC_IsTracked(frame.nodes):
        PyObject_GC_Track(<PyObject *> frame.nodes)


cdef void release_nodes(Frame frame) noexcept:
    """Let go of what an ended frame has read, but keep the list if it is short and nobody else has it."""
    if PyList_GET_SIZE(frame.nodes) <= FEW and picante_references(<PyObject *> frame.nodes) == 1:
        picante_shorten(frame.nodes, 0)
    else:
        frame.nodes = None


cdef int enter_context(Frame frame) except -1:
    """Enter the context in which `frame` runs: a copy of the present one, with the frame put in.

    While a context is copied, or a variable set, CPython refers to the map of its variables without owning it. On 3.11
    making an object may run finalizers, and one that set a variable of this context would free that map.
    """
    cdef bint collecting = begin_transition()
    try:
        frame.context = picante_enter_copy(frame_var, frame)
    finally:
        end_transition(collecting)
    return 0


cdef destructor _free_generally = (<PyTypeObject *> Frame).tp_dealloc
(<PyTypeObject *> Frame).tp_dealloc = <destructor> free_frame
