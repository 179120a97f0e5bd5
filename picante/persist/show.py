"""Stored values as text for a person, without making them: no class is looked for, and nothing of the file is run."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships no types

from picante.decorators.fields import shown

__all__ = ["readable", "record_label"]

MAX_SHOWN = 4096  # bytes; what is larger is shown by its size
MAX_TEXT = 120  # characters

_NAMED = {4: "enum", 5: "dataclass", 6: "named tuple", 13: "path", 22: "codec"}


class _Text(str):
    """A part that is a text already."""

    def __repr__(self) -> str:
        return str(self)


def readable(
    data: bytes, names: Sequence[str], handle: Callable[[int, int], str] | None = None
) -> str:
    """The stored value `data` as text, about as Python would write it.

    Args:
        data: the bytes, which may be anything.
        names: those that values name by number.
        handle: gives the text of a handle, from its kind and its id.
    """
    return _text_of(data, _Show(names, handle).text)


def record_label(
    name: str,
    data: bytes,
    names: Sequence[str],
    handle: Callable[[int, int], str] | None = None,
    *,
    spread: bool = True,
) -> str:
    """What a record is called, as the labels of a live database call it: `Page("a.md")`.

    Args:
        name: that of its class.
        data: its stored key. A tuple is taken for several key fields, which nothing in the file tells from one.
        names, handle: as `readable` takes them.
        spread: whether a tuple is several fields.
    """

    def text(data: bytes) -> str:
        value = _Show(names, handle).value(data)
        return f"{name}({_fields(value if spread and type(value) is tuple else (value,))})"

    return _text_of(data, text)


def _text_of(data: bytes, make: Callable[[bytes], str]) -> str:
    """One printable line of bearable length, whatever the bytes are."""
    if len(data) > MAX_SHOWN:
        return f"<{len(data):,} bytes>"
    try:
        text = make(data)
    except (ValueError, TypeError, LookupError, RecursionError, msgpack.UnpackException):
        return f"<{len(data):,} bytes that cannot be shown>"
    text = text.encode("utf-8", "backslashreplace").decode()
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 4]} ..."


def _fields(values: Sequence[Any]) -> str:
    return ", ".join(map(shown, values))


class _Show:
    def __init__(self, names: Sequence[str], handle: Callable[[int, int], str] | None) -> None:
        self.names = list(names)
        self.handle = handle

    def text(self, data: bytes) -> str:
        return repr(self.value(data))

    def value(self, data: bytes) -> Any:
        values = self.row(data)
        if len(values) != 1:
            raise ValueError("this is not one value")
        return values[0]

    def row(self, data: bytes, *, named: bool = False) -> list[Any]:
        """All values that stand in `data`. A text that begins a `named` one is a name, which may be met again in it."""
        unpacker = msgpack.Unpacker(
            strict_map_key=False,
            use_list=False,
            unicode_errors="surrogatepass",
            ext_hook=self.extension,
            object_pairs_hook=self.pairs,
            max_buffer_size=0,
        )
        unpacker.feed(data)
        values: list[Any] = []
        for value in unpacker:
            if named and not values and isinstance(value, str):
                self.names.append(value)
            values.append(value)
        if unpacker.tell() != len(data):
            raise ValueError("it is cut off")
        return values

    def pairs(self, pairs: Sequence[tuple[Any, Any]]) -> _Text:
        return _Text("{" + ", ".join(f"{key!r}: {value!r}" for key, value in pairs) + "}")

    def extension(self, code: int, content: bytes) -> Any:
        if code == 1:
            return int.from_bytes(content, "big", signed=True)
        if code == 2:
            return content.decode("utf-8", "surrogatepass")
        if code == 7:
            kind, number = struct.unpack(">II", content)
            shown = self.handle(kind, number) if self.handle else f"kind_{kind:08x}#{number}"
            return _Text(shown)
        if code == 17:
            return bytearray(content)
        if code == 18:
            return complex(*struct.unpack(">dd", content))
        if code == 24:
            return _Text("<seen above>")
        return _Text(self.parts(code, self.row(content, named=code in _NAMED)))

    def parts(self, code: int, parts: list[Any]) -> str:
        if code in _NAMED:
            return self.named(code, parts)
        row = ", ".join(map(repr, parts))
        if code in (3, 16):
            return f"frozenset({{{row}}})" if code == 3 else f"{{{row}}}" if parts else "set()"
        if code == 8:
            return "{:04}-{:02}-{:02}".format(*parts)
        if code in (9, 10):
            date = "{:04}-{:02}-{:02} ".format(*parts) if code == 10 else ""
            *_, hour, minute, second, microsecond, fold, zone = parts
            clock = f"{hour:02}:{minute:02}:{second:02}.{microsecond:06}"
            at_zone = (
                ""
                if zone is None
                else f" zone({zone!r})"
                if isinstance(zone, int)
                else f" {zone!r}"
            )
            return f"{date}{clock}{f' fold {fold}' if fold else ''}{at_zone}"
        if code == 12:
            return f"UUID({parts[0].hex()})"
        if code == 14:
            return f"Decimal({row})"
        if code == 15:
            return f"({row})"
        if code == 23:
            return repr(parts[0])
        titles = {11: "timedelta", 19: "range", 20: "Fraction", 21: "zone"}
        return f"{titles.get(code, f'<extension {code}>')}({row})"

    def named(self, code: int, parts: list[Any]) -> str:
        name, *rest = parts
        if isinstance(name, int):
            name = self.names[name]
        elif code in (5, 6):
            rest = rest[1:]  # the hash of its fields
        path, _, short = str(name).rpartition(".")
        if code == 5 and short == "Value" and path:  # the value of an Interned class
            return f"{path.rpartition('.')[2]}({_fields(rest)})"
        if code == 4:
            return f"{short}.{rest[0]}" if isinstance(rest[0], str) else f"{short}({rest[0]!r})"
        return f"{short}({', '.join(map(repr, rest))})"
