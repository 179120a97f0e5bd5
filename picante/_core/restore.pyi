from collections.abc import Iterable
from typing import Any, final

from picante._core.ingredient import Ingredient
from picante._core.key import Revision
from picante._core.runtime import Runtime

@final
class Restore:
    def __init__(
        self,
        runtime: Runtime,
        data: bytes,
        names: Iterable[tuple[str, int]],
        revision: int,
        *,
        db: Any = None,
    ) -> None: ...
    @property
    def left_out(self) -> list[tuple[str, str]]: ...
    @property
    def n_left_out(self) -> int: ...
    def add(
        self,
        ingredient: Ingredient | None,
        type: str,
        start: int,
        end: int,
        n_records: int,
        *,
        rerun: bool = False,
        handle_kind: int | None = None,
    ) -> None: ...
    def step(self, n: int) -> bool: ...
    def commit(self) -> Revision: ...
