from typing import Self, final

from picante._core.codecs import Codecs

__all__ = ["Packer", "pack"]

@final
class Packer:
    def __new__(cls, codecs: Codecs | None = None, *, inline_names: bool = False) -> Self: ...
    @property
    def names(self) -> list[tuple[str, int]]: ...
    def pack(self, value: object) -> bytes: ...

def pack(value: object, codecs: Codecs | None = None) -> bytes: ...
