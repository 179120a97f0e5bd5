"""Checking the records of a cache file, one after the other: the first half of a load.

Nothing is made here but what finds classes, and nothing is changed: what passes can be put in place, but for keys and
values that a user's code refuses. `docs/cache-format.md` describes how records look.
"""

from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t

from picante._core.check cimport check_structure
from picante._core.errors import DecodeError
from picante._core.extension cimport SHARED
from picante._core.input cimport InputIngredient
from picante._core.records cimport MEMBERS_PART, WHOLE
from picante._core.wire cimport (
    IS_BYTES, IS_EXTENSION, IS_LARGE, IS_LIST, IS_SMALL, IS_TUPLE, Head, Span, damaged, is_simple, next_head,
)


cdef int scan_record(
    Checker checker, list parts, Part part, Place *place, Py_ssize_t n_records, uint64_t revision
) except -1:
    cdef Span span = span_of(checker, part.start, part.end)
    cdef Head head
    next_head(&span, &head)
    if head.form != IS_BYTES:
        raise damaged(part.start, "a record is not where it should be")
    place.start = place.key = span.at
    place.end = span.end = part.start = span.at + head.size
    place.key_end = place.deps = place.value = place.key
    place.is_left_out = part.ingredient is None
    if not part.is_interned:
        next_head(&span, &head)
        if head.form != IS_SMALL or not 0 < head.number <= span.end - span.at:
            raise damaged(span.at, "the key of a record has no size")
        place.key = span.at
        span.at += <Py_ssize_t> head.number
        place.key_end = span.at
        place.changed_at = read_revision(&span, revision)
        if part.is_derived:
            place.verified_at = read_revision(&span, revision)
            place.deps = span.at
            check_deps(&span, parts, n_records)
        place.value = span.at
        check_stored(checker, place.key, place.key_end)
    if part.is_interned or place.value < place.end:
        if part.ingredient is not None and part.is_input:
            check_fields(checker, part, place)
        check_stored(checker, place.value, place.end)
    return 0


cdef inline Span span_of(Checker checker, Py_ssize_t start, Py_ssize_t end) noexcept:
    """Of a part of the bytes that is known to be one."""
    cdef Span span
    span.data = checker.source.data
    span.at = start
    span.end = end
    return span


cdef uint64_t read_revision(Span *span, uint64_t latest) except? 0xDEAD:
    cdef Head head
    cdef uint64_t small
    if span.at < span.end and span.data[span.at] < 0x80:
        small = span.data[span.at]
        if small <= latest:
            span.at += 1
            return small
    next_head(span, &head)
    if head.form != IS_SMALL and head.form != IS_LARGE or <uint64_t> head.number > latest or (
        head.form == IS_SMALL and head.number < 0
    ):
        raise damaged(span.at, "a revision stands there that had not come yet")
    return <uint64_t> head.number


cdef int check_stored(Checker checker, Py_ssize_t start, Py_ssize_t end) except -1:
    """LookupError for what is well-formed and names what nobody knows here."""
    if is_simple(checker.source.data + start, end - start):
        return 0
    try:
        return checker.check(span_of(checker, start, end))
    except DecodeError as error:
        check_structure(span_of(checker, start, end))
        raise LookupError from error


cdef int check_fields(Checker checker, Part part, Place *place) except -1:
    cdef Span span = span_of(checker, place.value, place.end)
    cdef Head head
    cdef Py_ssize_t n = len((<InputIngredient> part.ingredient).fields)
    if n:
        next_head(&span, &head)
        if head.form == IS_EXTENSION and head.code == SHARED:
            next_head(&span, &head)
        if head.form != IS_TUPLE or head.size != n:
            raise damaged(span.at, f"a record of {part.ingredient.name} has {n} fields")
    return 0


cdef int check_deps(Span *span, list parts, Py_ssize_t n_records) except -1:
    cdef Head head
    cdef Py_ssize_t n_deps, n_of
    cdef int64_t number
    cdef bint is_part, is_list, has_group
    next_head(span, &head)
    if head.form != IS_TUPLE and head.form != IS_LIST:
        raise damaged(span.at, "the dependencies of a record are not there")
    n_deps = head.size
    for _ in range(n_deps):
        next_head(span, &head)
        has_group = head.form == IS_TUPLE and head.size == 3
        is_part = has_group or head.form == IS_TUPLE and head.size == 2
        if is_part:
            next_head(span, &head)
        if head.form != IS_SMALL or head.number < 0:
            raise damaged(span.at, "a dependency names no record")
        number = head.number >> 1
        n_of = n_records
        is_list = False
        if is_part:
            next_head(span, &head)
            if head.form != IS_SMALL or not MEMBERS_PART <= head.number <= 0x7FFF_FFFF or (
                head.number == WHOLE and not has_group
            ):
                raise damaged(span.at, "a dependency names no part of a record")
            is_list = head.number == MEMBERS_PART
            if is_list:
                n_of = PyList_GET_SIZE(parts)
            if has_group:
                next_head(span, &head)
                if head.form != IS_SMALL or not 0 < head.number <= 0x7FFF_FFFF:
                    raise damaged(span.at, "a dependency has a group that is no number")
        if number >= n_of:
            raise damaged(span.at, "a dependency names a record that is not there")
        if is_list and not (<Part> parts[number]).is_input:
            raise damaged(span.at, "a dependency is on the keys of what has none")
    return 0
