"""Tasks in which the work of a driver goes on: because the stack is used up, side by side, or kept.

A driver awaits such a task by a future beside it (`end_hop`). When it is cancelled, so is the task, and what becomes
of that decides what the driver raises; a task that is kept goes on for the cache alone.
"""

from cpython.ref cimport PyObject

from weakref import WeakValueDictionary

# The tasks of groups that run now, by the addresses of their loops, views and nodes, all of which they keep.
cdef object _under_way = WeakValueDictionary()


cdef int keep_task(Store store, object task) except -1:
    """Refer to `task` until it has ended: the event loop does so only weakly, and its driver may be gone."""
    cdef set fresh = set()  # first: making it may run finalizers, and those may keep a task
    if store.kept is None:
        store.kept = fresh
    store.kept.add(task)
    task.add_done_callback(store.kept.discard)
    return 0


cdef bint is_under_way(object loop, View view, Node node) except -1:
    """Whether a task of some group in `loop` brings `node` up to date already.

    Many ways may lead from group to group to one query: it has one task at a time, not one for each way. Nobody waits
    for the task of another group. Who meets its query goes down there himself, and waits only for what is computed.
    """
    task = _under_way.get((<size_t> <PyObject *> loop, <size_t> <PyObject *> view, <size_t> <PyObject *> node))
    return task is not None and not task.done()


cdef tuple start_group(object loop, View view, list nodes, list drivers):
    """A task for each of `drivers`, which bring `nodes` up to date; and what ends when all of them have."""
    import asyncio
    tasks = [asyncio.Task(driver, loop=loop) for driver in drivers]
    for node, task in zip(nodes, tasks):
        _under_way[<size_t> <PyObject *> loop, <size_t> <PyObject *> view, <size_t> <PyObject *> node] = task
    return tasks, asyncio.gather(*tasks, return_exceptions=True)


cdef int cancel_soon(future) except -1:
    try:
        future.get_loop().call_soon_threadsafe(future.cancel)
    except RuntimeError:
        pass  # its loop is closed: it will never take another step
    return 0


cdef bint was_cancelled(task, list group) except -1:
    """Whether a cancellation has reached the task, or one of the group: one that was about to end has not seen it."""
    return any([each.cancelling() for each in ([task] if group is None else group)])


cdef object error_of(task):
    """The exception that ended the driver of `task`; None if it came to its end, or somebody has cancelled it."""
    if not task.cancelled():
        return task.exception()
    if task.cancelling():
        return None
    from asyncio import CancelledError
    return CancelledError("a query was cancelled by what it awaited")


def end_hop(future, task):
    """Tell who awaits `future`. A task that somebody else has cancelled is no bad news: it is started again."""
    from asyncio import CancelledError
    error = error_of(task)
    if future.done():
        if error is not None and not isinstance(error, CancelledError):
            task.get_loop().call_exception_handler({
                "message": "A query whose caller is gone has ended without a result", "exception": error, "task": task,
            })
    elif error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
