from typing import final

@final
class Limits:
    max_memos: int | None
    max_bytes: int | None
    @property
    def n_memos(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...
    @property
    def n_evicted(self) -> int: ...
