"""The command line, `python -m picante`: one module for each command, and what they share."""
