"""How fast picante is, beside its peers, in the same run.

Each workload is described once, as a *scenario*: a docstring that says what a user would recognise, its
contestants, and the figures that it has to reach, each a ratio of two contestants. Two programs read the same list:

* `python -m benchmarks` gives each scenario a process, in which its contestants take turns, prints ratios, and writes
  the report;
* `pytest benchmarks` (pytest-benchmark) measures each contestant as a test, to save and compare over time.

==============  ====================================================
`harness`       scenarios, contestants, measuring
`peers`         what picante is compared with
`database`      the database by hand that most scenarios use
`sheets`        the graphs that all engines compute
`hits`          asking for what is there
`decorated`     the same as in the guide; making records
`misses`        computing what is not
`together`      many at once
`changes`       setting inputs, and verifying what they may affect
`classics`      incremental computation, beside the engines
`scale`         small and big databases
`survival`      snapshots, caches, the log
`footprint`     memory, and the time of an import
`catalogue`     all scenarios
`report`        the table that is printed
`results`       what was measured, kept for each version of Python
`promises`      what has to be reached, and what is said of peers
`markdown`      the report, `RESULTS.md`
`plots`         its plots
`bench_paths`   all scenarios, for pytest-benchmark
==============  ====================================================

A new scenario is one decorated function in one of the middle modules; nothing else has to know of it, unless it has
something to reach (`promises`).
"""
