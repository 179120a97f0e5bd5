"""The running query: what it has read so far, and who waits for it."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node, Read
from picante._core.observe cimport Observation
from picante._core.store cimport View


@cython.final
cdef class Frame:
    """One computation of one node, as of one view, from its start to its end."""

    cdef Node node
    cdef object ingredient     # whose record the node is
    cdef View view
    cdef object runtime        # the Runtime through which it reads: its database's or its snapshot's
    cdef Frame parent          # the query that asked for it, or None
    cdef list path             # the nodes that were being verified when it was started, itself last
    cdef object context        # the contextvars.Context in which it runs
    cdef uint32_t why          # why it runs: a reason of `node`, and with some ...
    cdef uint32_t place        # ... where among its edges ...
    cdef Node cause            # ... the dependency stands that led to it
    cdef bint ended
    cdef bint fleeting         # its outcome is good for its revision only
    cdef bint abandoned        # its event loop stands still: who waited for it computes for himself
    cdef object loop           # the event loop in which it was suspended first, or None
    cdef object entry          # the InFlightEntry of those who follow it from outside of the engine, or None
    cdef uint64_t number       # what observers know it by; 0: nobody was told that it runs
    cdef bint paused           # they were told that it is suspended
    cdef Frame sibling         # the next frame of the same node, at another view
    # -- what it read, in order
    cdef list nodes
    cdef Read *reads
    cdef uint32_t capacity
    cdef uint32_t *index       # an open hash of positions + 1, once a list would be slow to search
    cdef uint32_t index_mask
    cdef uint32_t group        # that of the reads that are being recorded; 0: none
    cdef uint32_t n_groups
    cdef set raised            # what others have failed with (`raised`), kept until this has ended; None: nothing
    # -- who waits for it: the future's address -> (future, its loop, the waiting Frame or None); and the frames
    # that are held in it (`hold`): their address -> (None, None, the Frame)
    cdef dict waiters
    # -- scratch of the search for cycles
    cdef uint64_t visited
    cdef PyObject *next_visited
    cdef PyObject *came_from


cdef object frame_var  # the ContextVar that holds the Frame

cdef Py_ssize_t n_running  # how many frames have begun and not ended, in all threads

cdef Frame current_frame()

cdef inline uint64_t number_of(Frame frame) noexcept:
    return 0 if frame is None else frame.number


cdef extern from *:
    """
    #ifndef PICANTE_LIST
    #define PICANTE_LIST

    /* Lists that are filled and emptied again and again, and that nobody else has: they keep their room. The list's own
       ways give it back and ask for it anew, which costs more than all that is done with a short one. */
    static inline int picante_append(PyObject *list, PyObject *item) {
        Py_ssize_t n = PyList_GET_SIZE(list);
        if (n == ((PyListObject *)list)->allocated)
            return PyList_Append(list, item);
        Py_INCREF(item);
        PyList_SET_ITEM(list, n, item);
        Py_SET_SIZE((PyVarObject *)list, n + 1);
        return 0;
    }

    static inline void picante_shorten(PyObject *list, Py_ssize_t n) {
        while (PyList_GET_SIZE(list) > n) {
            PyObject *last = PyList_GET_ITEM(list, PyList_GET_SIZE(list) - 1);
            Py_SET_SIZE((PyVarObject *)list, PyList_GET_SIZE(list) - 1);
            Py_DECREF(last);
        }
    }

    #endif
    """
    int picante_append(PyObject *items, PyObject *item) except -1
    void picante_shorten(list items, Py_ssize_t n)
    Py_ssize_t picante_references "Py_REFCNT"(PyObject *object) noexcept  # without one of its own


cdef str OUTSIDE  # the part of a cell that stands for what its query reads outside of the database
cdef int read_outside(Frame frame) except -1

cdef Frame frame_at(Node node, View view)
cdef object running_since(Node node)
cdef bint begin_frame(Frame frame) except -1
cdef dict end_frame(Frame frame)
cdef dict abandon_frame(Frame frame)
cdef bint stands_still(Frame frame) except -1
cdef int wake(dict waiters, object result) except -1

cdef int record(Frame frame, Node node, uint64_t changed_at, uint64_t valid_since) except -1

cdef void tell_begin(Observation hub, Frame frame, uint32_t reason) noexcept
cdef void tell_pause(Observation hub, Frame frame) noexcept
cdef void tell_resume(Observation hub, Frame frame) noexcept
cdef void tell_return(Observation hub, Frame frame) noexcept
cdef void tell_end(Observation hub, Frame frame, uint32_t outcome, bint is_new, object value) noexcept
cdef void tell_abort(Observation hub, Frame frame, object error) noexcept

cdef object running_loop()
cdef int add_waiter(Frame frame, object future, object loop, Frame waiting) except -1
cdef int watch(Frame frame, object future, object loop) except -1
cdef int hold(Frame holder, Frame frame) except -1
cdef int let_go(Frame holder, Frame frame) except -1
cdef int remove_waiter(Frame frame, object future) except -1
cdef list find_cycle(Frame waiting, Frame wanted, list path)
