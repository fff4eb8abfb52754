"""Recorded bytes: opened, mapped, from disk or from afar."""
