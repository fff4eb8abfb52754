"""The arguments of a virtual camera's server; its reports and its end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stemd.virtual.argument_types import broker, count, host, not_negative, rate


def add_server(parser: argparse.ArgumentParser) -> None:
    """Arguments of the server: where, how fast, how often."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host",
        type=host,
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1)",
    )
    group.add_argument(
        "--rate", type=rate, default=1000.0, metavar="HZ", help="frames/s; 0: no limit"
    )
    group.add_argument("--scans", type=count, default=0, metavar="N", help="0: until stopped")
    group.add_argument(
        "--gap", type=not_negative, default=1.0, metavar="S", help="pause between scans"
    )
    group.add_argument(
        "--stay", action="store_true", help="keep the connection after the last scan"
    )
    group.add_argument(
        "--disconnect-after",
        type=count,
        metavar="N",
        help="close once, after N frames or positions",
    )
    group.add_argument(
        "--drives", type=broker, metavar="URL", help="move the lens by MQTT: mqtt://127.0.0.1:1883"
    )
    group.add_argument("--json", action="store_true", help="report as JSON lines")


def running(args: argparse.Namespace) -> dict[str, Any]:
    """What the arguments say of `serving.Running`."""
    return {
        "host": args.host,
        "port": args.port,
        "rate": args.rate,
        "scans": args.scans,
        "gap_s": args.gap,
        "stay": args.stay,
        "disconnect_after": args.disconnect_after,
    }


def report(args: argparse.Namespace, event: str, **values: object) -> None:
    """One line on standard output, as JSON if asked for."""
    if args.json:
        line = json.dumps({"event": event, **values})
    else:
        line = f"{event}: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in values.items())
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextmanager
def closing_on_signals(close: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `close` instead of ending the process."""
    before = {
        number: signal.signal(number, lambda *_: close())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
