"""What picante has promised, and what is said of those with whom it is compared."""

from __future__ import annotations

# Each line: what is promised, and the scenarios whose figures say whether it is kept.
PROMISES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("A hit, at the same revision", ("hit", "hit_int_key", "hit_tuple_key")),
    (
        "A hit inside a query, recorded as a dependency",
        ("hit_inside", "hit_inside_many", "hit_inside_many_new"),
    ),
    (
        "A hit after an unrelated input changed",
        ("hit_after_change_10", "hit_after_change_100000", "hit_after_change_1000000"),
    ),
    ("A hit through the decorators", ("hit_decorated", "hit_handle_key")),
    ("Reading an input outside a query", ("field_get", "input_get")),
    (
        "Verifying what is affected and unchanged, for each edge",
        ("verify_inputs", "verify_wide", "verify_chain", "verify_layers"),
    ),
    (
        "Computing, beyond the user's own coroutine",
        ("miss", "miss_reading_input", "miss_100000", "miss_among_100000", "recompute"),
    ),
    (
        "Setting an input: by what it newly affects, whatever the size of the database",
        ("set_0", "set_10", "set_1000", "set_10_large", "set_each_dependent", "set_again"),
    ),
    ("A snapshot, whatever the size of the database", ("snapshot", "snapshot_large")),
    ("Being profiled, and having been", ("profiled_miss", "hit_after_profiling")),
    ("Bytes of a memo with one dependency, beyond key and value", ("memory",)),
    ("Many hits at once, by `map`", ("map_hits",)),
    ("Saving and loading, every value decoded", ("save", "load", "save_and_load")),
    (
        "Flat from small to big databases",
        (
            "hit_among",
            "hit_among_large",
            "hit_among_random",
            "hit_among_random_large",
            "miss_among",
            "miss_among_large",
            "recompute_among",
            "recompute_among_large",
            "verify_among",
            "verify_among_large",
            "save_large",
            "load_large",
        ),
    ),
)

# Why a figure is missed where it is, as far as it is known: shown only then.
REASONS = {
    "hit": "From 3.12 on the interpreter takes the value of whatever is awaited, coroutines excepted, out of an "
    "exception. With its loop and its look-up in a dict that makes three quarters of the instructions of a hit. To "
    "await a bare coroutine takes some 0.13 of a hit of `async_lru`.",
    "hit_int_key": "As for `hit`.",
    "hit_tuple_key": "As for `hit`; and a tuple is hashed anew for each look-up, and each of its parts is looked at.",
    "hit_handle_key": "As for `hit`; and each handle is another object, so that its hash and its kind are looked at.",
    "hit_inside_many": "As for `hit`; and each is looked for among what the query has read so far.",
    "hit_inside_many_new": "As for `hit_inside_many`; and each is a new edge.",
    "hit_decorated": "Of the 170 instructions more than the ingredient's own `get` takes on 3.11, 70 are those of the "
    "interpreter, which has short ways to call functions, methods and classes, and none to call other objects. The "
    "others find the ingredient of this database.",
    "hit_after_change_10": "The first hit after a change meets a cold cache.",
    "hit_after_change_100000": "Values at random places in a big table: memory that is far away, of which other "
    "programs on the machine take their share. Measured by itself again and again, it takes as long as without a "
    "change (0.99 to 1.02).",
    "hit_after_change_1000000": "As for `hit_after_change_100000`.",
    "map_hits": "A value is looked up, and counted as held, for each key; there is nothing else left to take away.",
    "hit_among_random": "Memory that is far away: a plain dict grows dearer by more than we do.",
    "hit_among_random_large": "Memory that is far away: a plain dict grows dearer by more than we do.",
    "verify_wide": "Each value here has one edge, so that for every edge a node is entered and left. The loop that "
    "it is compared with looks at one attribute of objects that lie side by side.",
    "verify_chain": "Each link is a node with one edge, at another place in memory, and where the next one lies is "
    "only known when the way has come there. Of some 34 cycles for each link, 16 are for the way down, 8 to hold on to "
    "the link while the query at the end runs, 10 for the way back; to take a third of the instructions out of them "
    "has made it 7 % quicker. The loop looks at objects that lie side by side, once, in 35 cycles.",
    "hit_after_profiling": "Both databases do the same, and in other runs it took 0.79 to 1.0: what else was going on.",
    "hit_among_large": "Memory that is far away: a plain dict grows dearer by as much.",
    "miss_100000": "New values in a table that grows: memory that is far away.",
    "recompute_among": "Values at random places in a big table: memory that is far away.",
    "recompute_among_large": "Values at random places in a big table: memory that is far away.",
    "miss_among_100000": "New values in a big table: memory that is far away.",
    "recompute": "Beside what a miss does, the old edges are taken away and the values are compared.",
    "save": "pickle keeps the bare records in memory; picante writes a file, with dependencies and checksums.",
    "save_and_load": "pickle makes the bare records; picante checks and decodes them, and puts them into tables with "
    "all that they depend on.",
    "load": "pickle makes the bare records; picante checks and decodes them, and puts them into tables with all that "
    "they depend on. From 3.12 on pickle is quicker by a third, for nothing collects garbage inside of it. There, of "
    "some 1.2 us for each of our records, 0.35 go into decoding, 0.28 into putting it in place, 0.2 into asking for "
    "its value, 0.13 into letting go of it.",
}

# Libraries that do a part of what picante does. All other peers are plain Python.
LIBRARIES = (
    "async_lru",
    "cachebox",
    "reaktiv",
    "observ",
    "signified",
    "revlet",
    "query_cascade",
    "cascade_async",
    "pyinc",
    "pickle",
)

# What a peer does not do, or does otherwise: said where it is ahead.
ABOUT = {
    "coroutine": "an `async def` that remembers nothing",
    "dict": "a plain dict: nothing is recorded, nothing is found out of date",
    "lru_cache": "`functools.lru_cache`: a plain call, in which nothing can be awaited; emptied by hand",
    "async_lru": "`async_lru`: knows no dependencies; emptied by hand",
    "cachebox": "`cachebox`: knows no dependencies; emptied by hand",
    "method": "a method that looks up a dict: knows no dependencies",
    "loop": "a bare `for` loop over objects that lie side by side",
    "scratch": "plain functions that remember nothing; where formulas cost nothing, remembering cannot pay",
    "observ": "`observ`: plain calls, an object for each formula; no early cutoff",
    "reaktiv": "`reaktiv`: plain calls, an object for each formula",
    "signified": "`signified`: plain calls, an object for each formula; no keys, nothing awaited, one reader",
    "revlet": "`revlet`: plain calls",
    "query_cascade": "`query-cascade`: plain calls",
    "cascade_async": "`query-cascade` with asynchronous queries",
    "pyinc": "`pyinc`: plain calls",
    "pickle": "`pickle` of the bare records: no checks, no dependencies, code may run when it is loaded",
    "gather": "`asyncio.gather` of the same",
    "tasks": "100 tasks that wait for one future",
    "python": "Python without any import",
    "asyncio": "Python that imports asyncio",
}
