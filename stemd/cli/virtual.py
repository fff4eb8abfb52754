"""`stemd virtual`: a virtual detector that speaks a camera's protocol."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from typing import Any

HELP = "a virtual detector that speaks a camera's protocol"
EXAMPLE = "stemd virtual merlin --specimen nanoparticle --scan 128x128 --rate 4000"

PROTOCOLS = {
    "merlin": "stemd.virtual.merlin.command",
    "timepix3": "stemd.virtual.timepix3.command",
}
"""Module of each protocol, with `configure(parser)` and `run(args)`."""


def _available() -> list[str]:
    return [name for name, module in PROTOCOLS.items() if importlib.util.find_spec(module)]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each protocol."""
    protocols = parser.add_subparsers(dest="protocol", metavar="PROTOCOL", required=True)
    for name in _available():
        module: Any = importlib.import_module(PROTOCOLS[name])
        sub = protocols.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"Example: {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(sub)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped or done; 0 unless something failed."""
    from stemd.logs import set_up_logs

    set_up_logs("warning")
    module: Any = importlib.import_module(PROTOCOLS[args.protocol])
    return int(module.run(args))
