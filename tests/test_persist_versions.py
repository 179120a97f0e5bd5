"""Files of another version of the format: told from damaged ones, and refused by every door, with a message."""

import json
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from picante import CacheCorruptError, PersistenceError
from picante.__main__ import main
from picante.debug import DependencyGraph
from picante.persist import CacheLoadOptions, Log, OnCorruptCache
from picante.persist.journal import JournalWriter, read_journal
from tests.caches import cache_file, header_of
from tests.logged import Database, Page, total

NEWER = "its format is version 2, and this picante reads version 1: a newer picante has written it"
FIRST = "its format is version 0, and this picante reads version 1: it is an old one"
IGNORE = CacheLoadOptions(on_corrupt=OnCorruptCache.IGNORE)
DELETE = CacheLoadOptions(on_corrupt=OnCorruptCache.DELETE)


def log_at(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def log_file(version: int, id: bytes, content: bytes = b"nobody knows what this is") -> bytes:
    header = struct.pack("<8sI16s", b"picantej", version, id)
    return header + struct.pack("<I", zlib.crc32(header)) + content


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    path = tmp_path / "cache.bin"
    # What comes behind the header may be anything.
    path.write_bytes(header_of(2) + b"a newer file, with a trailer that nobody knows")
    return path


@pytest.fixture
async def beside(tmp_path: Path) -> tuple[Path, bytes]:
    """A cache file of this version, and a log of the next one that extends it."""
    path = tmp_path / "cache.bin"
    db = Database()
    Page(db, "a", "xyz", None)
    async with Log(db, path, sync=False, interval=None):
        await total(db)
    found = read_journal(log_at(path))
    assert found is not None
    assert found.id is not None
    log_at(path).write_bytes(log_file(2, found.id))
    return path, found.id


@pytest.mark.parametrize(("version", "reason"), [(2, NEWER), (0, FIRST)])
@pytest.mark.parametrize("is_whole", [False, True])
async def test_a_cache_file_of_another_version_is_refused(
    tmp_path: Path, version: int, reason: str, is_whole: bool
) -> None:
    # r[persist.load-version]
    path = tmp_path / "cache.bin"
    path.write_bytes(cache_file(version=version) if is_whole else header_of(version) + b"...")
    for open_it in (Database().load, lambda it: Log.recover(Database(), it)):
        with pytest.raises(CacheCorruptError) as caught:
            await open_it(path)
        assert caught.value.reason == reason
    with pytest.raises(CacheCorruptError, match="version"):
        await Log.open(Database(), path, interval=None)
    assert path.read_bytes()[:16] == header_of(version)
    assert not log_at(path).exists()


async def test_the_policy_decides_about_a_newer_cache_file(newer: Path) -> None:
    # r[persist.load-return]
    data = content_of(newer) or b""
    assert not await Database().load(newer, IGNORE)
    assert content_of(newer) == data
    db = Database()
    async with await Log.open(db, newer, sync=False, interval=None, load_options=IGNORE):
        Page(db, "a", "x", None)  # it is ignored, so another one takes its place
    assert await Database().load(newer)
    put(newer, data)
    assert not await Database().load(newer, DELETE)
    assert content_of(newer) is None


async def test_a_changed_version_is_damage_and_no_other_version(tmp_path: Path) -> None:
    path = tmp_path / "cache.bin"
    await Database().save(path)
    whole = path.read_bytes()
    for position in range(8, 16):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 2]) + whole[position + 1 :])
        with pytest.raises(CacheCorruptError, match="the checksum of its header is wrong"):
            await Database().load(path)


@pytest.mark.parametrize("suffix", ["log", "log.new"])
async def test_a_newer_log_is_refused(beside: tuple[Path, bytes], suffix: str) -> None:
    """What it says is not known, so the inputs in the cache file may be those of long ago."""
    path, _ = beside
    log = path.with_name(f"{path.name}.{suffix}")
    log_at(path).rename(log)
    before = path.read_bytes(), log.read_bytes()
    for open_it in (Log.recover, Log.open):
        db = Database()
        with pytest.raises(CacheCorruptError) as caught:
            await open_it(db, path)
        assert (caught.value.reason, caught.value.path) == (NEWER, str(log))
        assert str(caught.value).startswith(f"The log {str(log)!r} cannot be used: its format")
        assert Page.all(db) == []
    assert (path.read_bytes(), log.read_bytes()) == before


async def test_the_policy_decides_about_a_newer_log(
    beside: tuple[Path, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = beside
    with caplog.at_level(logging.WARNING, "picante.persist"):
        assert not await Log.recover(Database(), path, IGNORE)
    assert NEWER in caplog.text
    db = Database()
    async with await Log.open(db, path, sync=False, interval=None, load_options=IGNORE):
        Page(db, "b", "x", None)
    again = Database()
    assert await Log.recover(again, path)
    assert [page.path(again) for page in Page.all(again)] == ["b"]


async def test_a_newer_log_of_another_cache_file_is_left_alone(
    beside: tuple[Path, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = beside
    data = log_file(2, bytes(range(16)))
    log_at(path).write_bytes(data)
    db = Database()
    with caplog.at_level(logging.WARNING, "picante.persist"):
        assert await Log.recover(db, path)
    assert "it belongs to another cache file" in caplog.text
    assert len(Page.all(db)) == 1
    assert log_at(path).read_bytes() == data


def test_a_log_of_another_version_is_not_continued(beside: tuple[Path, bytes]) -> None:
    path, id = beside
    before = log_at(path).read_bytes()
    with pytest.raises(CacheCorruptError, match="a newer picante has written it"):
        JournalWriter(log_at(path), id)
    assert log_at(path).read_bytes() == before


def test_the_commands_say_so(
    newer: Path, beside: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    _, id = beside
    log = log_at(newer)
    newer.write_bytes(header_of(2) + b"...")
    for path in (newer, log):
        assert main(["inspect", str(path)]) == 2, "it is not damaged, but cannot be read"
        out = capsys.readouterr().out
        assert "format version 2" in out
        assert f"UNREADABLE: {NEWER}" in out
        assert "DAMAGED" not in out
        assert main(["inspect", "--json", str(path)]) == 2
        shown: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert (shown["ok"], shown["format_version"], shown["problems"]) == (False, 2, [NEWER])
    assert shown["extends"] == id.hex()
    assert main(["graph", str(newer)]) == 2
    assert NEWER in capsys.readouterr().err
    with pytest.raises(PersistenceError, match="a newer picante has written it"):
        DependencyGraph.from_file(newer)


def test_a_damaged_header_has_no_version(
    newer: Path, beside: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (newer, log_at(newer)):
        data = path.read_bytes()
        path.write_bytes(data[:8] + b"\x03" + data[9:])
        assert main(["inspect", str(path)]) == 1
        out = capsys.readouterr().out
        assert "format version ?" in out
        assert "DAMAGED: the checksum of its header is wrong" in out


async def test_what_is_damaged_behind_the_header_has_a_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cache.bin"
    await Database().save(path)
    put(path, (content_of(path) or b"")[:-1])
    assert main(["inspect", str(path)]) == 1
    out = capsys.readouterr().out
    assert "format version 1" in out
    assert "DAMAGED: it is cut off" in out
