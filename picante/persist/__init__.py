"""Caches that survive the process: which values they can hold, and how a program adds its own."""

from picante.persist.codec import register, register_codec

__all__ = ["register", "register_codec"]
