"""What this machine can do, and how near stemd comes to it. Method: benchmarks/README.md."""

from stemd.cli.bench.command import EXAMPLE, configure, run

__all__ = ["EXAMPLE", "configure", "run"]
