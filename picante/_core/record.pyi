from typing import Any, Literal, TypeVar, final

from picante._core.binding import Binding
from picante._core.ids import Handle

_D = TypeVar("_D")

@final
class Getter:
    __qualname__: str
    def __init__(
        self,
        name: str,
        binding: Binding,
        source: Literal["field", "singleton", "key", "key_item", "attribute"],
        position: int,
    ) -> None: ...
    def __set_name__(self, owner: type, name: str) -> None: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def owner(self) -> type: ...
    def wrong_call(self, n: int) -> TypeError: ...

def interned_value(keys: Binding, handle: Handle, default: _D) -> Any | _D: ...
