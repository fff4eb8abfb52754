"""`stemd virtual`: a virtual detector that speaks a camera's protocol."""

from __future__ import annotations

import argparse
import importlib
import os
import threading
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
        sub.add_argument(
            "--end-with-input",
            action="store_true",
            help="end when standard input ends: with the program that started this and holds it",
        )


def run(args: argparse.Namespace) -> int:
    """Serve until stopped or done; 0 unless something failed."""
    from stemd.logs import set_up_logs

    set_up_logs("warning")
    if args.end_with_input:
        threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    return int(_speakers()[args.protocol].run(args))


def _end_with_input() -> None:
    """End the process once nobody holds its input any more, also while it still renders.

    A program that is killed cannot end its camera, but the system closes its pipes.
    """
    # the bare descriptor: at the end of the interpreter nobody may hold the lock of `sys.stdin`
    while os.read(0, 4096):
        pass
    os._exit(0)
