"""What type checkers reject of the public API: each line with `# E` has an error, and no other. Never run."""

import picante
from picante.persist import Log


class SourceFile(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str]


class Config(picante.Singleton):
    debug: picante.Field[bool]


class CharSet(picante.Interned):
    chars: picante.Field[tuple[str, ...]]


@picante.tracked
async def line_count(db: picante.Database, file: SourceFile) -> int:
    return len(file.content(db).splitlines())


@picante.tracked
def words(db: picante.Database, file: SourceFile, least: int = 1) -> tuple[str, ...]:
    return tuple(file.content(db).split())


async def use(db: picante.Database) -> None:
    SourceFile(db, path=3, content="")  # E
    SourceFile(db, path="a.md")  # E
    SourceFile(db, path="a.md", content="", titel="")  # E
    SourceFile("a.md", "")  # E
    SourceFile(path="a.md", content="")  # E
    SourceFile.new(db, path="a.md", content=b"")  # E
    file = SourceFile(db, "a.md", "")
    file.content()  # E
    file.content("a.md")  # E
    file.content = "other"  # E
    number: int = file.content(db)  # E
    found: SourceFile = SourceFile.get(db, "a.md")  # E
    Config(db, debug=True)  # E
    debug: bool = Config.debug(db)  # E
    CharSet(db, chars="abc", more=1)  # E
    await line_count(db, "a.md")  # E
    await line_count(db)  # E
    await line_count(file)  # E
    await line_count(db, file, 3)  # E
    await words(db, file, least="3")  # E
    text: str = await line_count(db, file)  # E
    line_count.peek(db, 3)  # E
    line_count.invalidate(db)  # E
    await line_count.map(db, 3)  # E
    await Log.open(db, "app.cache", intervall=1.0)  # E
    await Log.open(db, "app.cache", interval="1 s")  # E
    await Log.open(db, "app.cache", None, True)  # E
    print(number, found, debug, text)
