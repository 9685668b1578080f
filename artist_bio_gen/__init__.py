"""Biographies for a catalogue of artists: bought once, kept for good. Start at runner.py."""

__version__ = "0.1.0"
