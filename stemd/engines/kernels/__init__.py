"""Compiled loops over patterns, hits and maps."""
