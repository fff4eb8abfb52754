"""The whole of stemd on a virtual microscope."""

from stemd.cli.demo.command import EXAMPLE, configure, run

__all__ = ["EXAMPLE", "configure", "run"]
