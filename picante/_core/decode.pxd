"""From canonical bytes to the value."""

# The value; classes are asked of `db`, which may be None. Raises DecodeError.
cdef object decode_key(bytes encoding, object db)
