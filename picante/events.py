"""The events of a runtime, and the receivers that take them."""

from picante._core.events import (
    CAPACITY,
    EventReceiver,
    InputRemoved,
    InputSet,
    QueryChanged,
    QueryInvalidated,
    ReceiverClosedError,
    RevisionBumped,
    RevisionReceiver,
    RevisionSet,
    RuntimeEvent,
)

__all__ = [
    "CAPACITY",
    "EventReceiver",
    "InputRemoved",
    "InputSet",
    "QueryChanged",
    "QueryInvalidated",
    "ReceiverClosedError",
    "RevisionBumped",
    "RevisionReceiver",
    "RevisionSet",
    "RuntimeEvent",
]
