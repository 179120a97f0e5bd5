"""The steps of a query: each is taken within the context of its own (r[frame.task-local])."""

from cpython.contextvars cimport PyContext_Exit
from cpython.ref cimport Py_DECREF

from picante._core.awaitable cimport PYGEN_ERROR, awaitable_iterator, is_awaitable, picante_check, picante_throw

cdef extern from *:
    PySendResult PyIter_Send(object iterator, object sent, PyObject **result) noexcept
    PyObject *PyObject_Vectorcall(object function, PyObject **args, size_t n, PyObject *names) noexcept
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET

cdef extern from *:
    """
    /* How many computations are nested on this thread's stack. Here and nowhere else: a header would make one for
       each module that includes it. */
    static _Thread_local int picante_depth = 0;
    #define PICANTE_MAX_DEPTH 64    /* where computations can hop */
    #define PICANTE_MAX_STEPS 3000  /* where they cannot */

    static inline int picante_stack_is_low(void) {
        int depth = picante_depth, left;
        if (depth == 0 || depth >= PICANTE_MAX_DEPTH)
            return depth > 0;
    #if PY_VERSION_HEX >= 0x030C0000
        left = PyThreadState_Get()->py_recursion_remaining;
    #else
        left = PyThreadState_Get()->recursion_remaining;
    #endif
        return left < Py_GetRecursionLimit() / 2;
    }

    /* Nest one more: where this thread's depth stands, for `picante_leave_step`; NULL with an exception set where there
       is no room. From 3.12 on, the interpreter counts calls of C functions apart, and allows for more than our steps,
       nearly a kilobyte each, leave of a stack. (Asking where a variable of the thread is takes a call, and so does
       asking for the limit, which is less than this small number for nobody.) */
    static inline int *picante_enter_step(void) {
        int *depth = &picante_depth;
        if (Py_EnterRecursiveCall(" while computing a query"))
            return NULL;
        if (*depth >= 16 && (*depth >= PICANTE_MAX_STEPS || *depth >= Py_GetRecursionLimit())) {
            Py_LeaveRecursiveCall();
            PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded while computing a query");
            return NULL;
        }
        *depth += 1;
        return depth;
    }

    static inline void picante_leave_step(int *depth) {
        *depth -= 1;
        Py_LeaveRecursiveCall();
    }
    """
    bint picante_stack_is_low() noexcept
    int *picante_enter_step() noexcept
    void picante_leave_step(int *depth) noexcept


cdef bint stack_is_low() noexcept:
    """Whether the next computation should run on another stack, if there is one."""
    return picante_stack_is_low()


cdef PySendResult take_step(object awaited, object context, object sent, object thrown, PyObject **result) noexcept:
    """One step of what is awaited, within `context`, which was entered, and is left; None: within the present one."""
    cdef PySendResult status = PYGEN_ERROR
    cdef int *depth = picante_enter_step()
    if depth != NULL:  # else a hop would help, but there is no event loop to hop in
        if thrown is None:
            status = PyIter_Send(awaited, sent, result)
        else:
            status = picante_throw(awaited, thrown, result)
        picante_leave_step(depth)
    if context is not None:
        PyContext_Exit(context)
    return status


cdef PyObject *call_query(object compute, object db, object key) noexcept:
    """What the function of a query returns, a new reference; NULL with an exception set if it raises."""
    cdef PyObject *args[3]
    args[0] = NULL
    args[1] = <PyObject *> db
    args[2] = <PyObject *> key
    return PyObject_Vectorcall(compute, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef object take_made(PyObject *made, object context, bint *is_value):
    """Leave `context`; what `call_query` has returned in it: the value, or else what it takes to await it."""
    if made == NULL:
        PyContext_Exit(context)
        picante_check(-1)
    value = <object> made
    Py_DECREF(value)  # `value` has a reference of its own
    PyContext_Exit(context)
    is_value[0] = not is_awaitable(value)
    return value if is_value[0] else awaitable_iterator(value)
