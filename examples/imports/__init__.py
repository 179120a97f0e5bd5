"""An incremental import analyser: which file of a Python tree imports which, where the cycles are.

    python -m examples.imports [PATH]

`analysis` knows Python's imports and nothing of picante: plain functions on plain values.
`queries` makes queries of them, `scratch` calls them once through, as the answer to compare with.
`tree` reads the files, `demo` runs and prints, `__main__` is the command line.
"""
