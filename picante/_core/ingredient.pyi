from typing import Never

from picante._core.key import QueryKindId

class Ingredient:
    @property
    def kind(self) -> QueryKindId: ...
    @property
    def name(self) -> str: ...
    def __init__(self, *args: Never) -> None: ...
