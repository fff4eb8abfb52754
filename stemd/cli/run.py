"""`stemd run`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from types import FrameType

EXAMPLE = "stemd run merlin.toml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the config file (TOML)")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="instead of daemon.log_level of the config",
    )


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; SIGHUP reads the config again."""
    signal.signal(signal.SIGTERM, _end_at_once)
    from stemd.daemon.arenas import few_arenas

    few_arenas()
    from stemd.config.file import load
    from stemd.errors import StemdError
    from stemd.logs import set_up_logs

    path: Path = args.config
    config = load(path)
    set_up_logs(args.log_level or config.daemon.log_level)

    async def serve() -> StemdError | None:
        from stemd.daemon.supervisor import Daemon

        try:
            await Daemon(config, lambda: load(path), config_file=path).run()
        except StemdError as error:
            return error
        return None

    # not asyncio.run: it would wait for threads that wait for a disk that hangs
    error = asyncio.Runner().run(serve())
    if error is not None:
        sys.stderr.write(f"stemd run: {error}\n")
    # All is written and closed. Taking the interpreter and the compiled kernels apart would
    # keep whoever waits for the end waiting for up to a second more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.exit_code if error is not None else 0)


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM before there is a daemon: nothing is owed to anybody."""
    os._exit(0)
