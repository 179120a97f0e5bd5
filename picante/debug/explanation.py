"""Why a query ran last, and whether it would run now: `explain`.

It needs nothing to be switched on beforehand: a query keeps a note of a few bytes about its last run
(`picante._core.facts`), and all else follows from the dependency graph. `Explanation` holds what is known as
attributes; `str` makes a text of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

from picante._core.facts import query_facts
from picante._core.input import InputIngredient
from picante._core.key import DynKey, Key, Revision
from picante._core.states import (
    ChangeFacts,
    QueryFacts,
    ReasonFacts,
    RecordFacts,
    StepFacts,
    Verdict,
)
from picante.debug.asked import find_query
from picante.debug.names import Names, Sort, field_label, one_line, presence_label
from picante.reasons import reason_text

__all__ = ["Change", "Cutoff", "Explanation", "Item", "Read", "Step", "explain"]

SHOWN: Final = 20  # reads, changes and cutoffs that `str` lists

State: TypeAlias = Literal["never computed", "valid", "may be out of date", "failed", "dropped"]
Next: TypeAlias = Literal["hit", "verify", "run"]


@dataclass(frozen=True, slots=True, repr=False)
class Item:
    """A query, a record, or a part of a record."""

    record: DynKey
    part: str | None
    """None: all of it. "presence": whether there is such a record; "keys": the list of all of them; "outside": what the
    query itself reads outside of the database. Else the name of a field."""
    is_field: bool
    names: Names = field(compare=False)
    """Of the database, which it keeps alive: labels are made when they are asked for."""

    @property
    def label(self) -> str:
        """What a person would call it: `line_count(SourceFile("a.md"))`, `SourceFile("a.md").content`."""
        if self.part == "keys" and not self.is_field:
            return f"{self.names.name(self.record.kind)}(*)"
        label = self.names.label(self.record)
        if self.part is None:
            return label
        if self.is_field:
            return field_label(label, self.part)
        if self.part == "presence":
            return presence_label(label)
        return f"what {label} reads outside of the database"

    @property
    def sort(self) -> Sort:
        """Whether it is a query, an input, or an interned value."""
        return self.names.sort(self.record.kind)

    def __repr__(self) -> str:
        return f"<Item {self.label}>"


@dataclass(frozen=True, slots=True)
class Read:
    """One dependency of a query, as it was when the query ran, and as it is now."""

    item: Item | None
    """None: it is gone."""
    verdict: Verdict
    """Whether it has the outcome that the query saw. "unknown": that will be found out when somebody asks."""
    seen: Revision | None
    """The revision that names the outcome that was seen; None: the read was cut short, or what it saw is not the one
    that has been loaded with it."""
    now: Revision | None
    """That of the outcome which it has, where it is known."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way from a run to the change that led to it."""

    item: Item
    """What had another outcome than before."""
    revision: Revision | None
    """Since when it has that outcome; None: that is not known any more, for it has changed again."""
    reason: ReasonFacts | None
    """Why it ran, if it is a query: the next step says more. "unknown": it has run again since."""


@dataclass(frozen=True, slots=True)
class Cutoff:
    """A query that ran again with an equal value, so that what reads it did not have to."""

    item: Item
    revision: Revision
    trail: tuple[Step, ...]
    """What led to that run."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something beneath a query has changed since the outcome of that is known."""

    what: ChangeFacts
    """"changed": an outcome; "failed": a failure has ended; "unseen": a read was cut short, or what was loaded with the
    memo is not what it had read; "invalidated"; "forgotten": edges were cleared; "dropped": a memo."""
    revision: Revision | None
    path: tuple[Item, ...]
    """The way there: what the query reads first, and what has changed last. Empty: it is the query itself."""


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """Why a query ran last, and how things stand. `str` is a text for people."""

    query: Item
    revision: Revision
    """The present one, or that of the snapshot: all this speaks of it."""
    state: State
    running: tuple[Revision, ...] = ()
    """The revisions as of which it is being computed at this moment."""
    error: Exception | None = None
    """What it failed with."""
    next: Next = "run"
    """What the next read of it does: a "hit"; "run" it for certain, unless an earlier result had read the same; or
    "verify" it, and run it only if a dependency turns out different."""

    reason: ReasonFacts | None = None
    """Why it ran last. "loaded", "adopted" and "handed_in": it did not run, but got its outcome otherwise."""
    cause: Item | None = None
    """The dependency that led to that run, for the reasons "differs", "unseen" and "gone"."""
    ran_at: Revision | None = None
    """The revision of that run."""
    is_new: bool = False
    """Whether its outcome was another one than before; else it was an early cutoff."""
    trail: tuple[Step, ...] = ()
    """From `cause` down to the input that had changed, as far as it is known."""

    changed_at: Revision | None = None
    """The revision that names the outcome: since then, or since an earlier one that was equal, readers see it."""
    valid_since: Revision | None = None
    valid_until: Revision | None = None
    """From when to when the outcome is known to hold."""
    cutoffs: tuple[Cutoff, ...] = ()
    """Where changes since the last run have come to nothing, so that it was verified and did not run."""
    changes: tuple[Change, ...] = ()
    """What has changed since the outcome is known to hold, the nearest first."""
    reads: tuple[Read, ...] = ()
    """All dependencies, in the order in which they were read."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as lists, dicts, numbers and texts: for JSON."""
        found: dict[str, Any] = plain(self)
        return found

    def __repr__(self) -> str:
        return f"<Explanation of {self.query.label}: {self.state}>"

    def __str__(self) -> str:
        lines = [f"{self.query.label} at revision {self.revision}"]
        lines += [f"  state: {text}" for text in self._about_state()]
        if self.reason is not None:
            lines += [f"  last run: {self._about_run()}"]
            lines += [f"    {line}" for line in trail_lines(self.trail)]
        if self.cutoffs:
            lines += ["  since then, changes came to nothing:"]
            for cutoff in self.cutoffs[:SHOWN]:
                why = because(cutoff.trail[0]) if cutoff.trail else ""
                lines += [
                    f"    {cutoff.item.label} ran at revision {cutoff.revision}{why}, with an equal result"
                ]
                lines += [f"      {line}" for line in trail_lines(cutoff.trail)]
            lines += more(len(self.cutoffs), "    ")
        if self.changes:
            lines += ["  changed since:"]
            lines += [f"    {change_line(each)}" for each in self.changes[:SHOWN]]
            lines += more(len(self.changes), "    ")
        if self.reads:
            lines += [f"  reads ({len(self.reads)}):"]
            lines += [f"    {read_line(each)}" for each in self.reads[:SHOWN]]
            lines += more(len(self.reads), "    ")
        return "\n".join(lines)

    def _about_state(self) -> Iterable[str]:
        for revision in self.running:
            yield f"is being computed, as of revision {revision}"
        match self.state:
            case "never computed":
                yield "never computed"
            case "valid":
                since = "" if self.valid_since is None else f", since revision {self.valid_since}"
                yield f"valid{since}: the next read is a hit"
            case "failed":
                error = one_line(f"{type(self.error).__qualname__}: {safe_text(self.error)}")
                ended = "" if self.next == "hit" else ", which has ended: the next read runs it"
                yield f"failed at revision {self.changed_at} with {error}{ended}"
            case "dropped":
                yield "its memo has been dropped: the next read runs it, or verifies it"
            case "may be out of date":
                then = (
                    "runs it"
                    if self.next == "run"
                    else "verifies it, and runs it only if something it reads turns out different"
                )
                yield f"may be out of date, known up to revision {self.valid_until}: the next read {then}"

    def _about_run(self) -> str:
        if self.reason == "loaded":
            return f"none here: it was loaded from a cache, at revision {self.ran_at}"
        if self.reason == "adopted":
            return f"none for revision {self.ran_at}: an earlier result was taken, which had read the same"
        if self.reason == "handed_in":
            return (
                f"none here: somebody outside of the engine computed it, for revision {self.ran_at}"
            )
        cause = None if self.cause is None else self.cause.label
        result = ""
        if self.reason != "first":
            result = ", with a new result" if self.is_new else ", with an equal result"
        if self.state == "failed":
            result = ", and failed"
        return f"at revision {self.ran_at}, {because_of(self.reason, cause)}{result}"


def explain(db: object, query: Any, /, *args: Any, **kwargs: Any) -> Explanation:
    """Why `query` ran last with these arguments, and how things stand. Nothing is computed or recorded.

    Args:
        db: a database, or a snapshot; any object that has a `picante.Runtime` as its `runtime`.
        query: a tracked query, and then its arguments as in a call, without the database; or a `DerivedIngredient`
            and the key.

    Raises:
        TypeError: `query` is no query, or the arguments do not fit.
        IngredientNotFoundError: the database declares what belongs to it, and this does not.
    """
    found = find_query(db, query, args, kwargs)
    words = Words(db, found.names)
    item = words.item((found.kind, Key.encode(found.key), None))
    facts = query_facts(found.runtime, found.kind, found.key)
    if facts is None:
        return Explanation(item, found.runtime.current_revision, "never computed")
    if not facts["ran_at"] and facts["outcome"] is None:
        return Explanation(
            item,
            Revision(facts["revision"]),
            "never computed",
            tuple(map(Revision, facts["running"])),
        )
    return words.explanation(item, facts)


class Words:
    """Makes what `query_facts` says readable."""

    def __init__(self, db: object, names: Names) -> None:
        self.lookup: Any = getattr(db, "ingredient", None)
        self.names = names
        self.fields: dict[int, tuple[str, ...]] = {}

    def explanation(self, item: Item, facts: QueryFacts) -> Explanation:
        place, reads = facts["place"], facts["reads"]
        cause = reads[place][0] if place is not None and place < len(reads) else None
        return Explanation(
            query=item,
            revision=Revision(facts["revision"]),
            state=state_of(facts),
            running=tuple(map(Revision, facts["running"])),
            error=facts["error"],
            next=next_of(facts),
            reason=facts["reason"],
            cause=None if cause is None else self.item(cause),
            ran_at=Revision(facts["ran_at"]),
            is_new=facts["is_new"],
            trail=self.trail(facts["trail"]),
            changed_at=Revision(facts["changed_at"]),
            valid_since=Revision(facts["valid_since"]),
            valid_until=Revision(facts["valid_until"]),
            cutoffs=tuple(
                [
                    Cutoff(self.item(record), Revision(ran_at), self.trail(trail))
                    for record, ran_at, trail in facts["cutoffs"]
                ]
            ),
            changes=tuple(
                [
                    Change(what, revision(name), tuple(map(self.item, path)))
                    for what, name, path in facts["changes"]
                ]
            ),
            reads=tuple(
                [
                    Read(
                        None if record is None else self.item(record),
                        verdict,
                        revision(seen),
                        revision(now),
                    )
                    for record, seen, verdict, now in reads
                ]
            ),
        )

    def trail(self, steps: list[StepFacts]) -> tuple[Step, ...]:
        return tuple([Step(self.item(record), revision(name), why) for record, name, why in steps])

    def item(self, record: RecordFacts) -> Item:
        kind, key, part = record
        is_field = isinstance(part, int)
        if isinstance(part, int):
            names = self.fields.get(kind)
            if names is None:
                ingredient = self.lookup(kind) if callable(self.lookup) else None
                names = ingredient.fields if isinstance(ingredient, InputIngredient) else ()
                self.fields[kind] = names
            part = names[part] if part < len(names) else f"field_{part}"
        return Item(DynKey(kind, key), part, is_field, self.names)


def revision(name: int | None) -> Revision | None:
    return None if name is None else Revision(name)


def state_of(facts: QueryFacts) -> State:
    if facts["outcome"] is None:
        return "dropped"
    if facts["outcome"] == "failed":
        return "failed"
    return "valid" if facts["is_known"] else "may be out of date"


def next_of(facts: QueryFacts) -> Next:
    """What a read would do, as far as it is plain without doing it."""
    if facts["is_known"]:
        return "hit"
    if facts["outcome"] != "value" or not facts["is_linked"]:
        return "run"
    # Whatever those turn out to be that are not known: one that differs is enough.
    return "run" if any(verdict == "different" for _, _, verdict, _ in facts["reads"]) else "verify"


# -- texts


def because_of(reason: ReasonFacts | None, cause: str | None) -> str:
    match reason:
        case "loaded":
            return "when it was loaded from a cache"
        case "adopted":
            return "by an earlier result, which had read the same"
        case "handed_in":
            return "by somebody outside of the engine"
        case "unknown" | None:
            return "for a reason that is not known any more"
    return f"because {reason_text(reason, cause)}"


def because(step: Step) -> str:
    return f", because {step.item.label} had changed"


def trail_lines(trail: tuple[Step, ...]) -> Iterable[str]:
    for i, step in enumerate(trail):
        at = "" if step.revision is None else f" at revision {step.revision}"
        if step.reason is None:
            again = "" if at else "; it has changed again since, so when is not known any more"
            yield f"{step.item.label} changed{at}{again}"
        elif step.reason == "unknown":
            yield f"{step.item.label} changed{at}; it has run again since, so why is not known any more"
        else:
            cause = trail[i + 1].item.label if i + 1 < len(trail) else None
            yield f"{step.item.label} changed{at}, {because_of(step.reason, cause)}"


def change_line(change: Change) -> str:
    at = "" if change.revision is None else f" at revision {change.revision}"
    way = "".join([f", read by {each.label}" for each in reversed(change.path[:-1])])
    what = change.path[-1].label if change.path else "itself"
    match change.what:
        case "changed":
            return f"{what} changed{at}{way}"
        case "unseen":
            return f"the outcome of {what} was not seen{way}"
        case "failed":
            return f"{what} had failed, and runs again{way}"
        case "invalidated":
            return f"{what} was invalidated{at}{way}"
        case "forgotten":
            return f"the dependencies of {what} were forgotten{way}"
        case "dropped":
            return f"the memo of {what} was dropped{way}"


def read_line(read: Read) -> str:
    what = "a record that is gone" if read.item is None else read.item.label
    match read.verdict:
        case "same":
            return f"same       {what}"
        case "unknown":
            return f"unknown    {what}"
    if read.seen is None:
        return f"different  {what}, of which no outcome was seen"
    return f"different  {what}" + ("" if read.now is None else f", since revision {read.now}")


def more(n: int, indent: str) -> list[str]:
    return [f"{indent}and {n - SHOWN:,} more"] if n > SHOWN else []


def safe_text(error: object) -> str:
    try:
        return str(error)
    except Exception:  # a user's __str__; the explanation matters more
        return "..."


def plain(value: Any) -> Any:
    """Dataclasses as dicts, all the way down; errors as text."""
    if isinstance(value, Item):
        return {
            "label": value.label,
            "sort": value.sort,
            "kind": int(value.record.kind),
            "key": value.record.key.bytes.hex(),
            "part": value.part,
        }
    if isinstance(value, BaseException):
        return f"{type(value).__qualname__}: {safe_text(value)}"
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if hasattr(type(value), "__dataclass_fields__"):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
