"""Tasks in which the work of a driver goes on."""

from picante._core.store cimport Store


cdef extern from *:
    """
    /* How many computations are nested on this thread's stack. */
    static _Thread_local int picante_depth = 0;
    #define PICANTE_MAX_DEPTH 64

    static inline int picante_stack_is_low(void) {
        PyThreadState *state = PyThreadState_Get();
        int limit = Py_GetRecursionLimit();
    #if PY_VERSION_HEX >= 0x030C0000
        int left = state->py_recursion_remaining;
    #else
        int left = state->recursion_remaining;
    #endif
        return picante_depth > 0 && (picante_depth >= PICANTE_MAX_DEPTH || left < limit / 2);
    }
    """
    int picante_depth
    bint picante_stack_is_low() noexcept


cdef int keep_task(Store store, object task) except -1
cdef int cancel_soon(future) except -1
cdef bint was_cancelled(task, list group) except -1
cdef object error_of(task)
