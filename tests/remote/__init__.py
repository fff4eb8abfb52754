"""Recordings that are no local files."""
