"""Checking the records of a cache file, one after the other: the first half of a load.

Nothing is made here but what finds classes, and nothing is changed: what passes can be put in place, but for keys and
values that a user's code refuses. `docs/cache-format.md` describes how records look.
"""

from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t, uint32_t

from picante._core.check cimport check_structure, is_common
from picante._core.errors import DecodeError
from picante._core.extension cimport SHARED
from picante._core.input cimport InputIngredient
from picante._core.records cimport MEMBERS_PART, WHOLE
from picante._core.wire cimport (
    IS_BYTES, IS_EXTENSION, IS_LARGE, IS_LIST, IS_SMALL, IS_TUPLE, Head, Span, damaged, next_head,
    next_number,
)


cdef int scan_record(
    Checker checker, list parts, Part part, Place *place, Py_ssize_t n_records, uint64_t revision
) except -1:
    cdef Span span = span_of(checker, part.start, part.end)
    cdef Head head
    cdef Py_ssize_t key, key_end, value, end
    cdef uint64_t size
    if span.end - span.at >= 2 and span.data[span.at] == 0xC4 and span.data[span.at + 1] <= span.end - span.at - 2:
        head.size = span.data[span.at + 1]  # as most of them are
        span.at += 2
    else:
        next_head(&span, &head)
        if head.form != IS_BYTES:
            raise damaged(part.start, "a record is not where it should be")
    place.start = key = key_end = value = span.at
    place.size = <uint32_t> head.size  # the longest form has four bytes for it
    end = span.end = part.start = span.at + head.size
    place.is_left_out = part.ingredient is None
    if not part.is_interned:
        if not next_number(&span, &size):
            next_head(&span, &head)
            size = <uint64_t> head.number if head.form == IS_SMALL and head.number > 0 else 0
        if not 0 < size <= <uint64_t> (span.end - span.at):
            raise damaged(span.at, "the key of a record has no size")
        key = span.at
        key_end = span.at = key + <Py_ssize_t> size
        read_revision(&span, revision)
        if part.is_derived:
            place.is_old = read_revision(&span, revision) < revision
            check_deps(&span, parts, n_records, place)
        value = span.at
        place.value = <uint32_t> (value - place.start)
        check_stored(checker, key, key_end)
    if part.is_interned or value < end:
        if part.ingredient is not None and part.is_input:
            check_fields(checker, part, value, end)
        check_stored(checker, value, end)
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
    cdef uint64_t number
    if next_number(span, &number):
        if number > latest:
            raise damaged(span.at, "a revision stands there that had not come yet")
        return number
    next_head(span, &head)
    if head.form != IS_SMALL and head.form != IS_LARGE or <uint64_t> head.number > latest or (
        head.form == IS_SMALL and head.number < 0
    ):
        raise damaged(span.at, "a revision stands there that had not come yet")
    return <uint64_t> head.number


cdef int check_stored(Checker checker, Py_ssize_t start, Py_ssize_t end) except -1:
    """LookupError for what is well-formed and names what nobody knows here."""
    if is_common(checker.source.data + start, end - start):
        return 0
    try:
        return checker.check(span_of(checker, start, end))
    except DecodeError as error:
        check_structure(span_of(checker, start, end))
        raise LookupError from error


cdef int check_fields(Checker checker, Part part, Py_ssize_t start, Py_ssize_t end) except -1:
    cdef Span span = span_of(checker, start, end)
    cdef Head head
    cdef Py_ssize_t n = len((<InputIngredient> part.ingredient).fields)
    if n:
        next_head(&span, &head)
        if head.form == IS_EXTENSION and head.code == SHARED:
            next_head(&span, &head)
        if head.form != IS_TUPLE or head.size != n:
            raise damaged(span.at, f"a record of {part.ingredient.name} has {n} fields")
    return 0


cdef int check_deps(Span *span, list parts, Py_ssize_t n_records, Place *place) except -1:
    cdef Head head
    cdef Py_ssize_t n_deps, n_of
    cdef int64_t number
    cdef uint64_t small
    cdef bint is_part, is_list, has_group
    next_head(span, &head)
    if head.form != IS_TUPLE and head.form != IS_LIST:
        raise damaged(span.at, "the dependencies of a record are not there")
    n_deps = head.size
    for _ in range(n_deps):
        if next_number(span, &small):
            if small >> 1 >= <uint64_t> n_records:
                raise damaged(span.at, "a dependency names a record that is not there")
            place.has_stale |= small & 1
            continue
        next_head(span, &head)
        has_group = head.form == IS_TUPLE and head.size == 3
        is_part = has_group or head.form == IS_TUPLE and head.size == 2
        if is_part:
            next_head(span, &head)
        if head.form != IS_SMALL or head.number < 0:
            raise damaged(span.at, "a dependency names no record")
        number = head.number >> 1
        place.has_stale |= head.number & 1
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
