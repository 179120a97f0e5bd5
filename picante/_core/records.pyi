from typing import Literal, final

from picante._core.ingredient import Ingredient
from picante._core.key import QueryKindId

@final
class Section:
    @property
    def ingredient(self) -> Ingredient: ...
    @property
    def kind(self) -> QueryKindId: ...
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> Literal["interned", "input", "derived"]: ...
    @property
    def n_records(self) -> int: ...

@final
class Index: ...
