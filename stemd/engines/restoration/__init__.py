"""Restored images: noise, displaced lines and tails taken out."""

from stemd.engines.restoration.engine import PLUGIN

__all__ = ["PLUGIN"]
