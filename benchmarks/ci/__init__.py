"""Costs as counts, which do not depend on the machine's mood, compared with those that were committed.

`python -m benchmarks.ci` (`make bench-ci`) counts what single operations cost, and fails where one has become dearer.

==============  ==========================================================================
`workloads`     what is counted: operations, each prepared outside of the count
`callgrind`     instructions, under `valgrind --tool=callgrind`
`holdings`      memory blocks, bytes and tracked objects that an operation leaves behind
`executions`    how many queries run in fixed scenarios
`baselines`     the files with what was counted before, and comparing
==============  ==========================================================================
"""
