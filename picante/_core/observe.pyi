from enum import IntEnum
from typing import Never, final

from picante._core.recording import Subject

__all__ = ["AccessCause", "AccessEnd", "Event", "EventKind", "RunOutcome", "RunReason"]

class EventKind(IntEnum):
    HIT = 0
    READ = 1
    ACCESS_BEGIN = 2
    ACCESS_RESUME = 3
    ACCESS_END = 4
    VERIFY_SAME = 5
    VERIFY_DIFFERENT = 6
    VERIFIED = 7
    COMPUTE_BEGIN = 8
    COMPUTE_PAUSE = 9
    COMPUTE_RESUME = 10
    COMPUTE_RETURN = 11
    COMPUTE_END = 12
    ADOPTED = 13
    WAIT_BEGIN = 14
    WAIT_END = 15
    INPUT_SET = 16
    INPUT_SAME = 17
    INPUT_REMOVED = 18
    INTERNED = 19
    INVALIDATED = 20
    REVISION = 21

class RunReason(IntEnum):
    FIRST = 0
    DIFFERS = 1
    GONE = 2
    INVALIDATED = 3
    FAILED = 4
    UNLINKED = 5
    EVICTED = 6
    LOST = 7
    OTHER_REVISION = 8
    LED = 9
    UNKNOWN = 10

class RunOutcome(IntEnum):
    NEW = 0
    EQUAL = 1
    FAILED = 2
    CANCELLED = 3
    NO_RESULT = 4

class AccessCause(IntEnum):
    CALL = 0
    MAP = 1
    HOP = 2
    KEEP = 3
    GROUP = 4

class AccessEnd(IntEnum):
    VALUE = 0
    FAILURE = 1
    NOTHING = 2

@final
class Event:
    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def kind(self) -> EventKind: ...
    @property
    def time(self) -> int: ...
    @property
    def thread(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def by(self) -> int: ...
    @property
    def extra(self) -> int: ...
    @property
    def detail(self) -> int: ...
    @property
    def subject(self) -> Subject | None: ...
    @property
    def other(self) -> Subject | None: ...
    @property
    def error(self) -> BaseException | None: ...
