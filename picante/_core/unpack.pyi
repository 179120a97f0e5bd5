from collections.abc import Iterable, Mapping
from mmap import mmap
from typing import Any, TypeAlias

from picante._core.codecs import Codecs

__all__ = ["check", "unpack"]

_Bytes: TypeAlias = bytes | bytearray | memoryview | mmap

def unpack(
    data: _Bytes,
    start: int = 0,
    end: int | None = None,
    db: object = None,
    codecs: Codecs | None = None,
    names: Iterable[tuple[str, int]] = (),
    new_ids: Mapping[int, Mapping[int, int]] | None = None,
) -> Any: ...
def check(
    data: _Bytes,
    start: int = 0,
    end: int | None = None,
    db: object = None,
    codecs: Codecs | None = None,
    names: Iterable[tuple[str, int]] = (),
    new_ids: Mapping[int, Mapping[int, int]] | None = None,
) -> None: ...
