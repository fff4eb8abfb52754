"""Direct ptychography: the phase from the bright field alone, with a lens measured in the data."""

from stemd.engines.direct.engine import PLUGIN

__all__ = ["PLUGIN"]
