from typing import final

DEFAULT_MAX_ENTRIES: int

@final
class SharedCache:
    def __len__(self) -> int: ...
    @property
    def max_entries(self) -> int: ...
    @max_entries.setter
    def max_entries(self, value: int) -> None: ...
    def clear(self) -> None: ...

shared_cache: SharedCache
