"""Caches that survive the process: saving to files, loading from them."""
