"""A profile as one HTML page that needs nothing else: `python -m picante report TRACE -o report.html`.

The page has what the profiler saw in five sections: advice, a timeline, tables of queries and of runs, and the
dependency graph of what ran with the reason for each run. Styles, scripts and data stand in it; it loads nothing.
"""

from picante.report.data import TraceError, checked, read_trace
from picante.report.page import render, write_report

__all__ = ["TraceError", "checked", "read_trace", "render", "write_report"]
