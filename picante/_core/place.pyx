"""Where in a value its parts stand, and the errors that say so.

Keys are simpler, and have the same in `encode.pyx` for themselves.
"""

from picante._core.classes cimport type_name
from picante._core.errors import EncodeError
from picante._core.ids cimport Handle
from picante._core.wire cimport MAX_NESTING


cdef int too_deep() except -1:
    raise EncodeError(
        f"The value nests deeper than {MAX_NESTING} levels, which cannot be stored: flatten it.", place="value"
    )


cdef int too_many() except -1:
    raise EncodeError("A part of the value has more than 4,294,967,295 elements, which cache files cannot express.")


cdef str path_of(const Place* place):
    """Where it stands, as a person would write it."""
    steps = []
    while place.outer is not NULL:
        if place.step == AT_INDEX:
            steps.append(f"[{place.index}]")
        elif place.step == AMONG:
            steps.append("{...}")
        else:
            name = <object> place.name
            if place.step == AT_FIELD:
                steps.append(f".{name}")
            elif place.step == AS_STORED:
                steps.append(f"<{name}>")
            elif type(name) is str:
                steps.append(f"[{name[:50]!r}]")
            else:
                steps.append(f"[{name!r}]" if type(name) is int and -2**63 < name < 2**63 else "[...]")
        place = place.outer
    return "value" + "".join(reversed(steps))


cdef object refusal(object cls, const Place* place, str hint=None):
    """The error for a value of a type that cannot be stored."""
    if hint is None:
        hint = "register a codec with `picante.persist.register_codec`"
        for base in (str, int, float, dict, list, tuple, set, frozenset, bytes, bytearray, complex):
            if issubclass(cls, base):
                hint = f"it derives from `{base.__name__}`: use a `{base.__name__}`, or {hint}"
        if issubclass(cls, Handle):
            hint = "its class belongs to no ingredient: declare it with `@picante.input` or `@picante.interned`"
    name, path = type_name(cls), path_of(place)
    article = "an" if name[0].lower() in "aeiou" else "a"
    return EncodeError(
        f"{path} is {article} {name}, which cannot be stored: {hint}.", type_name=name, place=path, hint=hint
    )


cdef object changed(const Place* place):
    path = path_of(place)
    return EncodeError(f"{path} was changed while it was being stored.", place=path)


cdef object blame(object error, const Place* place):
    """The error for what user code has raised."""
    path = path_of(place)
    wrapped = EncodeError(f"{path} cannot be stored: {type(error).__name__} in its own code.", place=path)
    wrapped.__cause__ = error
    return wrapped


cdef int raise_set() except -1:
    return -1  # an error is set


cdef object user_error(const Place* place):
    """The same for the error that is set."""
    try:
        raise_set()
    except MemoryError:
        raise
    except Exception as error:
        return blame(error, place)
