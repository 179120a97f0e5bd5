from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar, final, overload

from picante._core.ingredient import Ingredient
from picante._core.key import Revision
from picante._core.protocols import HasRuntime
from picante._core.states import CellState, Touch

_K = TypeVar("_K")
_V = TypeVar("_V")
_D = TypeVar("_D")

@final
class DerivedIngredient(Ingredient, Generic[_K, _V]):
    @overload
    def __init__(
        self,
        kind: int,
        name: str,
        compute: Callable[[Any, _K], Awaitable[_V]],
        *,
        eq: Callable[[_V, _V], bool] | None = None,
        version: str | int | None = None,
        keep: bool = False,
        key_type: Any = None,
        value_type: Any = None,
        max_memos: int | None = None,
        size: Callable[[_V], int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        kind: int,
        name: str,
        compute: Callable[[Any, _K], _V],
        *,
        eq: Callable[[_V, _V], bool] | None = None,
        version: str | int | None = None,
        keep: bool = False,
        key_type: Any = None,
        value_type: Any = None,
        max_memos: int | None = None,
        size: Callable[[_V], int] | None = None,
    ) -> None: ...
    def __class_getitem__(cls, item: Any) -> Any: ...
    max_memos: int | None
    @property
    def version(self) -> str | int | None: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    def get(self, db: HasRuntime, key: _K) -> Coroutine[Any, Any, _V]: ...
    def touch(self, db: HasRuntime, key: _K) -> Coroutine[Any, Any, Touch]: ...
    def map(
        self, db: HasRuntime, keys: Iterable[_K], *, limit: int | None = None
    ) -> Coroutine[Any, Any, list[_V]]: ...
    def invalidate(self, db: HasRuntime, key: _K) -> Revision: ...
    @overload
    def peek(self, db: HasRuntime, key: _K, default: None = None) -> _V | None: ...
    @overload
    def peek(self, db: HasRuntime, key: _K, default: _D) -> _V | _D: ...
    def cell_state(self, key: _K) -> CellState: ...
