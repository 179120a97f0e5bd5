"""How fast picante is, beside its peers, in the same run.

Each workload is described once, as a *scenario*: a docstring that says what a user would recognise, its
contestants, and the figures that it has to reach, each a ratio of two contestants. Two programs read the same list:

* `python -m benchmarks` gives each scenario a process, in which its contestants take turns, and prints ratios;
* `pytest benchmarks` (pytest-benchmark) measures each contestant as a test, to save and compare over time.

==============  ====================================================
`harness`       scenarios, contestants, measuring
`peers`         what picante is compared with
`database`      the database by hand that all scenarios use
`hits`          asking for what is there
`misses`        computing what is not
`changes`       setting inputs, and verifying what they may affect
`footprint`     memory, and the time of an import
`catalogue`     all scenarios
`report`        the table and the JSON file
`bench_paths`   all scenarios, for pytest-benchmark
==============  ====================================================

A new scenario is one decorated function in one of the middle modules; nothing else has to know of it.
"""
