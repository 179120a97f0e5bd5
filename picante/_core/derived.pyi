from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar, final, overload

from picante._core.ingredient import Ingredient
from picante._core.key import Revision
from picante._core.protocols import HasRuntime
from picante._core.states import CellState, Touch

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

@final
class DerivedIngredient(Ingredient, Generic[K, V]):
    @overload
    def __init__(
        self,
        kind: int,
        name: str,
        compute: Callable[[Any, K], Awaitable[V]],
        *,
        eq: Callable[[V, V], bool] | None = None,
        version: str | int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        kind: int,
        name: str,
        compute: Callable[[Any, K], V],
        *,
        eq: Callable[[V, V], bool] | None = None,
        version: str | int | None = None,
    ) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> Any: ...
    @property
    def version(self) -> str | int | None: ...
    def get(self, db: HasRuntime, key: K) -> Coroutine[Any, Any, V]: ...
    def touch(self, db: HasRuntime, key: K) -> Coroutine[Any, Any, Touch]: ...
    def map(
        self, db: HasRuntime, keys: Iterable[K], *, limit: int | None = None
    ) -> Coroutine[Any, Any, list[V]]: ...
    def invalidate(self, db: HasRuntime, key: K) -> Revision: ...
    @overload
    def peek(self, db: HasRuntime, key: K, default: None = None) -> V | None: ...
    @overload
    def peek(self, db: HasRuntime, key: K, default: D) -> V | D: ...
    def cell_state(self, key: K) -> CellState: ...
