from collections.abc import Callable
from typing import Any, TypeVar, final

__all__ = ["Codec", "Codecs", "codecs"]

_T = TypeVar("_T")

@final
class Codec:
    @property
    def cls(self) -> type: ...
    @property
    def name(self) -> str: ...
    @property
    def encode(self) -> Callable[[Any], object]: ...
    @property
    def decode(self) -> Callable[[Any], Any]: ...

@final
class Codecs:
    def __init__(self) -> None: ...
    def register(
        self,
        cls: type[_T],
        name: str,
        encode: Callable[[_T], object],
        decode: Callable[[Any], _T],
    ) -> Codec: ...
    def add_loader(self, package: str, load: Callable[[], object]) -> None: ...

codecs: Codecs
