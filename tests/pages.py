"""A small program for tests that look at dependency graphs: pages, their words, how many of these are long."""

import picante


class Page(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]


class Strict(picante.Singleton):
    on: picante.Field[bool]


class Words(picante.Interned):
    words: picante.Field[tuple[str, ...]]


@picante.tracked
async def words(db: picante.Database, page: Page) -> Words:
    return Words(db, words=tuple(page.text(db).split()))


@picante.tracked
async def count(db: picante.Database, page: Page, least: int) -> int:
    found = await words(db, page)
    return sum(len(word) >= least for word in found.words(db))


@picante.tracked
async def total(db: picante.Database) -> int:
    least = 3 if Strict.on(db) else 1
    return sum([await count(db, page, least) for page in Page.all(db)])
