"""The keys of stored records as text, without making a value: for the reports and pictures of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from picante.persist.format import Index, SectionInfo
from picante.persist.show import readable, record_label

__all__ = ["RecordKeys", "records_of"]

DEEPEST = 4
"""So far handles within records that handles stand for are looked up. A file may have them in a circle."""


def records_of(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the records of a section begin and end, as far as there are records."""
    at = start
    while at < end:
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(data[at], 0)
        first = at + 1 + width
        if not width or first > end:
            return
        at = first + int.from_bytes(data[at + 1 : first], "big")
        if at > end:
            return
        yield first, at


class RecordKeys:
    """Where the keys of records stand, and how a person would write them.

    Args:
        data: the whole file.
        index: what it says that it holds.
    """

    def __init__(self, data: bytes, index: Index) -> None:
        self.data = data
        self.index = index
        self.names = [name for name, _ in index.names]
        self.offsets = index.offsets()
        self.by_kind = {each.kind: each for each in index.sections}
        self.by_name = {each.name: position for position, each in enumerate(index.sections)}
        self.interned: dict[int, list[tuple[int, int]]] = {}
        self.labels: dict[tuple[int, int, int], str] = {}

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """Where the key of the record of an input or a query begins and ends, if there is one."""
        head = self.data[start] if start < end else 0xFF
        width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(head, 0)
        if head >= 0x80 and not width:
            return None
        first = start + 1 + width
        size = int.from_bytes(self.data[start + 1 : first], "big") if width else head
        return first, min(first + size, end)

    def show(self, position: int, start: int, end: int) -> str:
        """The key of a record, or the value of an interned one."""
        if self.index.sections[position].type == "interned":
            return self._readable(start, end)
        place = self.place(start, end)
        return "?" if place is None else self._readable(*place)

    def label(self, position: int, start: int, end: int) -> str:
        """What the key of an input, which is interned, is called by itself: `Page.keys("a.md")`."""
        owner, _, last = self.index.sections[position].name.rpartition(".")
        name = f"{owner.rpartition('.')[2]}.{last}"
        return record_label(
            name, self.data[start:end], self.names, self._handle(DEEPEST), spread=False
        )

    def _readable(self, start: int, end: int) -> str:
        return readable(self.data[start:end], self.names, self._handle(DEEPEST))

    def _handle(self, depth: int) -> Callable[[int, int], str]:
        """Gives the text of a handle: what was interned for it, if that stands in the file, too."""

        def text(kind: int, number: int) -> str:
            section = self.by_kind.get(kind)
            name = (f"kind_{kind:08x}" if section is None else section.name).rpartition(".")[2]
            position = self._keys_of(section)
            places = [] if position is None else self._interned(position)
            if position is None or number >= len(places) or not depth:
                return f"{name}#{number}"
            identity = (position, number, depth)
            if identity not in self.labels:
                content = self.data[slice(*places[number])]
                show = self._handle(depth - 1)
                is_record = (
                    self.index.sections[position] is section
                )  # a value that has its name with it
                self.labels[identity] = (
                    readable(content, self.names, show)
                    if is_record
                    else record_label(name, content, self.names, show)
                )
            return self.labels[identity]

        return text

    def _interned(self, position: int) -> list[tuple[int, int]]:
        places = self.interned.get(position)
        if places is None:
            first, last = self.offsets[position : position + 2]
            places = self.interned[position] = list(records_of(self.data, first, last))
        return places

    def _keys_of(self, section: SectionInfo | None) -> int | None:
        if section is None:
            return None
        if section.type == "interned":
            return self.by_name[section.name]
        position = self.by_name.get(f"{section.name}.keys")
        if position is None or self.index.sections[position].type != "interned":
            return None
        return position
