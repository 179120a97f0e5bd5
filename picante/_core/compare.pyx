"""What a write would change: is it what the slot holds already, and which parts of a record differ (r[input.set])?

Comparing runs user code, so it comes before the transition that applies the write (`change`).
"""

from picante._core.batch cimport merged
from picante._core.change cimport PRESENCE
from picante._core.equality cimport outcomes_equal, same
from picante._core.errors import InputNotFoundError
from picante._core.ingredient cimport describe_key
from picante._core.key cimport Key
from picante._core.node cimport ABSENT, OUTCOME, VALUE, Node
from picante._core.packed cimport UNREADABLE, opened, readable


cdef bint compare_write(Write write) except -1:
    """Compare with what the slot holds now (r[input.set]); False if it holds that already."""
    cdef Ingredient ingredient = write.ingredient
    cdef Node slot = write.slot
    cdef bint is_same
    while True:
        write.replaces = slot.changed_at
        if write.fields is not None:
            if not slot.flags & VALUE:
                raise not_found(ingredient, slot.key)
            write.value = merged(opened(slot.value), write.fields)
        is_same = slot.flags & OUTCOME == write.flags and (
            write.flags == ABSENT or same_values(ingredient.eq, slot.value, write.value)
        )
        if not is_same:
            write.parts = changed_parts(slot, write)
            return True
        if slot.changed_at == write.replaces:
            return False
        # The user's __eq__ has set this very input: once more.


cdef bint same_values(object eq, object old, object new) except -1:
    old = readable(old)
    return old is not UNREADABLE and outcomes_equal(eq, old, new)


cdef bint same_fields(object first, object second, name) except -1:
    first, second = readable(first), readable(second)
    return first is not UNREADABLE and second is not UNREADABLE and same(first[name], second[name])


cdef list changed_parts(Node slot, Write write):
    """The parts of the slot that `write` changes."""
    cdef list changed = []
    cdef dict parts = slot.parts
    old = slot.value
    write.compared = parts
    write.n_parts = 0
    if parts is None:
        return changed
    write.n_parts = len(parts)
    for name, part in list(parts.items()):
        if (slot.flags ^ write.flags) & VALUE or name != PRESENCE and not same_fields(old, write.value, name):
            changed.append(part)
    return changed


cdef object not_found(Ingredient ingredient, object key):
    return InputNotFoundError(
        f"{describe_key(ingredient, key)} was never set, or was removed. Set it, or use get(), which has a default.",
        kind=ingredient.kind, key=Key.encode(key),
    )
