"""Tasks in which the work of a driver goes on."""

from picante._core.store cimport Store


cdef extern from *:
    """
    /* How many computations are nested on this thread's stack. */
    static _Thread_local int picante_depth = 0;
    #define PICANTE_MAX_DEPTH 64    /* where computations can hop */
    #define PICANTE_MAX_STEPS 3000  /* where they cannot */

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

    /* Nest one more; 0 with an exception set where there is no room. From 3.12 on, the interpreter counts calls of C
       functions apart, and allows for more than our steps, nearly a kilobyte each, leave of a stack. */
    static inline int picante_enter_step(void) {
        if (Py_EnterRecursiveCall(" while computing a query"))
            return 0;
        if (picante_depth >= PICANTE_MAX_STEPS || picante_depth >= Py_GetRecursionLimit()) {
            Py_LeaveRecursiveCall();
            PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded while computing a query");
            return 0;
        }
        picante_depth += 1;
        return 1;
    }

    static inline void picante_leave_step(void) {
        picante_depth -= 1;
        Py_LeaveRecursiveCall();
    }
    """
    bint picante_stack_is_low() noexcept
    bint picante_enter_step() noexcept
    void picante_leave_step() noexcept


cdef int keep_task(Store store, object task) except -1
cdef int cancel_soon(future) except -1
cdef bint was_cancelled(task, list group) except -1
cdef object error_of(task)
