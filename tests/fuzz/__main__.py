"""Coverage-guided fuzzing of all that reads files and logs.

The modules that are fuzzed are compiled to tell which ways an input takes through them, and with AddressSanitizer;
`coverage.c` takes note. In a copy of the tree, since everything is compiled anew:

    CFLAGS=-fsanitize-coverage=trace-pc PICANTE_SANITIZE=address python setup.py build_ext --inplace
    gcc -shared -fPIC -O2 tests/fuzz/coverage.c -o coverage.so
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $PWD/coverage.so" ASAN_OPTIONS=detect_leaks=0 \\
        PYTHONMALLOC=malloc python -m tests.fuzz --seconds 900

Without them it runs as well, but blindly. What a target must not raise ends the run, and the input is written to
`fuzz-failure.bin`, which `--replay` gives to its target again. An input that takes longer than `SLOW` seconds fails,
too.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.targets import TARGETS, all_seeds

SLOW = 5.0
SIZE = 1 << 16
HEADS = bytes.fromhex(
    "808190919fa0a1bfc0c2c3c4c5c6c7c8c9cbcccdcecfd0d1d2d3d4d7d8d9dcdddedfffe0007f"
)
CODES = bytes(range(26))


class Coverage:
    """Which pairs of branches have been seen, and about how often in one input."""

    def __init__(self) -> None:
        try:
            self.counts = (ctypes.c_uint8 * SIZE).in_dll(ctypes.CDLL(None), "picante_coverage")
        except ValueError:
            self.counts = None
        self.seen = bytearray(SIZE)
        self.classes = bytes(0 if n == 0 else 1 << min(7, n.bit_length() - 1) for n in range(256))

    def begin(self) -> None:
        if self.counts is not None:
            ctypes.memset(self.counts, 0, SIZE)

    def is_new(self) -> bool:
        """Whether the input since `begin` went where none did before."""
        if self.counts is None:
            return False
        found = int.from_bytes(bytes(self.counts).translate(self.classes), "little")
        seen = int.from_bytes(self.seen, "little")
        if not found & ~seen:
            return False
        self.seen = bytearray((found | seen).to_bytes(SIZE, "little"))
        return True

    def __len__(self) -> int:
        return SIZE - self.seen.count(0)


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 3, 6])):
        at = chance.randrange(len(result) + 1)
        what = chance.randrange(8)
        if what == 0 and result:
            result[at % len(result)] ^= 1 << chance.randrange(8)
        elif what == 1:
            del result[at : at + chance.choice([1, 1, 2, 4, 8])]
        elif what == 2:
            result[at:at] = chance.randbytes(chance.choice([1, 1, 2, 4]))
        elif what == 3 and result:
            result[at % len(result)] = chance.choice(HEADS)
        elif what == 4 and result:
            result[at % len(result)] = chance.choice(CODES)
        elif what == 5:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            result[at : at + chance.choice([0, 4, 16])] = other[
                start : start + chance.choice([2, 8, 40])
            ]
        elif what == 6:
            start = chance.randrange(len(result) + 1)
            result[at:at] = result[start : start + chance.choice([2, 8, 40])]
        elif result:
            at %= len(result)
            result[at] = (result[at] + chance.choice([-1, 1, 16, -16])) % 256
    return bytes(result[:20_000])


def run(number: int, data: bytes) -> None:
    began = time.process_time()
    try:
        TARGETS[number](data)
        assert time.process_time() - began < SLOW, "it takes too long"
    except Exception:
        Path("fuzz-failure.bin").write_bytes(bytes([number]) + data)
        print(f"{TARGETS[number].__name__} has failed; the input is in fuzz-failure.bin")
        traceback.print_exc()
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="only this input, which a run has written"
    )
    given = parser.parse_args()
    if given.replay is not None:
        data = given.replay.read_bytes()
        run(data[0], data[1:])
        return
    chance = random.Random(given.seed)
    coverage = Coverage()
    corpus: list[list[bytes]] = [[] for _ in TARGETS]
    for number, seed in all_seeds():
        coverage.begin()
        run(number, seed)
        coverage.is_new()
        corpus[number].append(seed)
    print(f"{len(coverage):,} pairs of branches from the seeds", flush=True)
    end = time.monotonic() + given.seconds
    told = time.monotonic()
    n = 0
    while time.monotonic() < end:
        number = chance.randrange(len(TARGETS))
        inputs = corpus[number]
        data = mutated(
            chance.choice(inputs[-50:] if chance.random() < 0.5 else inputs), inputs, chance
        )
        coverage.begin()
        run(number, data)
        n += 1
        if coverage.is_new():
            inputs.append(data)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(
                f"{n:,} inputs, {len(coverage):,} pairs, corpus {[len(each) for each in corpus]}",
                flush=True,
            )
    print(
        f"{n:,} inputs, {len(coverage):,} pairs of branches, corpus {[len(each) for each in corpus]}: no failure"
    )


if __name__ == "__main__":
    main()
