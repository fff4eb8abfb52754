"""`stemd virtual`: a virtual detector that speaks a camera's protocol."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from stemd import plugins

HELP = "a virtual detector that speaks a camera's protocol"
EXAMPLE = "stemd virtual merlin --specimen nanoparticle --scan 128x128 --rate 4000"


def _speakers() -> dict[str, Any]:
    """What speaks for each camera that has a virtual one: HELP, EXAMPLE, configure, run."""
    from stemd.virtual.frames.command import FrameCommand

    found: dict[str, Any] = {}
    for plugin in plugins.catalogue("adapters"):
        if plugin.virtual:
            found[plugin.name] = importlib.import_module(plugin.virtual)
        elif plugin.encode is not None:
            found[plugin.name] = FrameCommand(plugin)
    return found


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each camera that has a virtual one."""
    cameras = parser.add_subparsers(dest="protocol", metavar="PROTOCOL", required=True)
    for name, speaker in _speakers().items():
        sub = cameras.add_parser(
            name,
            help=speaker.HELP,
            description=speaker.HELP,
            epilog=f"Example: {speaker.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        speaker.configure(sub)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped or done; 0 unless something failed."""
    from stemd.logs import set_up_logs

    set_up_logs("warning")
    return int(_speakers()[args.protocol].run(args))
