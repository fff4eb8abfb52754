"""AIRPI: the phase of the specimen, live, by a network that is held to the data."""

from stemd.engines.airpi.engine import PLUGIN

__all__ = ["PLUGIN"]
