from collections.abc import Iterable
from typing import Any, final

__all__ = ["ChangePacker", "frame_entries"]

@final
class ChangePacker:
    def __init__(self, heads: dict[int, bytes]) -> None: ...
    def pack(self, revision: int, changes: list[tuple[int, int, Any, Any]]) -> bytes | None: ...

def frame_entries(payloads: Iterable[bytes], checksum: int) -> tuple[bytes, int]: ...
