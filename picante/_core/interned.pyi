from typing import Any, Generic, TypeVar, final

from picante._core.ingredient import Ingredient
from picante._core.key import InternId, QueryKindId
from picante._core.protocols import HasRuntime

_V = TypeVar("_V")

@final
class InternedIngredient(Ingredient, Generic[_V]):
    def __init__(
        self,
        kind: int,
        name: str,
        *,
        value_type: Any = None,
        handle_kind: int | None = None,
        record_type: type | None = None,
    ) -> None: ...
    @property
    def handle_kind(self) -> QueryKindId: ...
    def __class_getitem__(cls, item: Any) -> Any: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def intern(self, value: _V) -> InternId: ...
    def intern_fields(self, fields: tuple[Any, ...]) -> InternId: ...
    def get(self, db: HasRuntime, id: InternId) -> _V: ...
