from collections.abc import Iterable
from typing import Any, Final, final

from picante._core.derived import DerivedIngredient
from picante._core.ingredient import Ingredient
from picante._core.runtime import Runtime

NO_VALUE: Final[object]

@final
class StoredMemos:
    def __len__(self) -> int: ...
    def __sizeof__(self) -> int: ...

@final
class KeptMemos:
    def __init__(self, runtime: Runtime) -> None: ...
    def close(self) -> None: ...

@final
class NewMemos:
    def __init__(
        self,
        runtime: Runtime,
        ingredients: Iterable[Ingredient],
        stored: StoredMemos,
        *,
        only_known: bool = False,
        only_loaded: bool = False,
    ) -> None: ...
    @property
    def revision(self) -> int: ...
    def step(self, n: int) -> bool: ...
    def take(
        self,
    ) -> list[tuple[Ingredient, Any, Any, list[tuple[Ingredient, Any, int, int, int]]]]: ...
    def close(self) -> None: ...

def place_memo(
    runtime: Runtime,
    ingredient: DerivedIngredient[Any, Any],
    key: Any,
    value: Any,
    deps: Iterable[tuple[Ingredient, Any, int, int, int]],
    revision: int,
) -> bool: ...
