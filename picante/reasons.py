"""Why a query ran, in words: the same ones in explanations, logs, profiles and the messages of tests."""

from __future__ import annotations

from typing import Final

from picante.observe import RunReason

__all__ = ["REASONS", "SOMETHING", "reason_text"]

SOMETHING: Final = "something that it read"
"""In the place of the dependency because of which, where that is not known. (`report/base.js` has this text, too.)"""

REASONS: Final = {
    "first": "it had never been computed",
    "differs": "{} had changed",
    "gone": "{} was gone",
    "invalidated": "it was invalidated",
    "failed": "it had failed, and a failure ends with its revision",
    "unlinked": "its dependencies had been forgotten, or its code has changed since it was stored",
    "forgotten": "its dependencies had been forgotten",
    "code": "its code is another one than that of the loaded memo",
    "evicted": "its memo had been dropped to save memory",
    "dropped": "its memo had been dropped",
    "lost": "the outcome of {} could not be known",
    "unseen": "the outcome of {} could not be known",
    "other_revision": "only its result at a later revision was known",
    "led": "somebody outside of the engine computes it",
    "unknown": "the reason is not known",
}
"""By the names of `RunReason`, and of `picante._core.states.ReasonFacts`; `{}` is the dependency because of which."""


def reason_text(reason: int | str, cause: str | None = None) -> str:
    """Why a query ran, as the part of a sentence behind "because".

    >>> reason_text(RunReason.DIFFERS, 'Page("a.md").text')
    'Page("a.md").text had changed'
    >>> reason_text("gone")
    'something that it read was gone'

    Args:
        reason: a `RunReason`, as an event has it, or its name in small letters, or what `explain` gives.
        cause: what the dependency because of which it ran is called, where there is one.
    """
    name = RunReason(reason).name.lower() if isinstance(reason, int) else reason
    return REASONS[name].replace("{}", SOMETHING if cause is None else cause)
