"""Single side-band ptychography: the phase of thin specimens."""

from stemd.engines.ssb.engine import PLUGIN

__all__ = ["PLUGIN"]
