"""A small database for tests of the log, and of processes that are killed while they write one."""

from dataclasses import dataclass

import picante

WORLD = {"factor": 1}


@dataclass(frozen=True)
class Style:
    bold: bool


class Page(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]
    style: picante.Field[Style | None]


class Config(picante.Singleton):
    limit: picante.Field[int]


class Tag(picante.Interned):
    words: picante.Field[tuple[str, ...]]


class Link(picante.Input):
    """Its key has handles in it, and so has its value."""

    source: picante.KeyField[Page]
    tag: picante.KeyField[Tag]
    target: picante.Field[Page | None]


@picante.tracked
async def size(db: "Database", page: Page) -> int:
    db.ran.append("size")
    return len(page.text(db)) * WORLD["factor"]


@picante.tracked
async def total(db: "Database") -> int:
    db.ran.append("total")
    return sum([await size(db, page) for page in Page.all(db)])


@picante.db(inputs=[Page, Config, Link], interned=[Tag], tracked=[size, total])
class Database(picante.Database):
    def __init__(self) -> None:
        self.ran: list[str] = []
