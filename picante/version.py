"""Which version of picante this is."""

from __future__ import annotations

from importlib import metadata

__all__ = ["package_version"]


def package_version() -> str:
    """The version that was installed; "unknown" where picante runs from a folder of sources."""
    try:
        return metadata.version("picante")
    except metadata.PackageNotFoundError:
        return "unknown"
