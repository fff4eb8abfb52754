"""Talking to the process manager: the sd_notify protocol, a datagram to a socket."""

from __future__ import annotations

import os
import socket

_REPEATED = ("WATCHDOG=", "STATUS=")
_PATIENCE_S = 0.3


def notify(message: str) -> bool:
    """Send e.g. "READY=1" to the manager named in NOTIFY_SOCKET; False where there is none.

    A manager that does not read must not hold the daemon up: nothing waits for it, but turns of
    the service (READY, STOPPING, RELOADING) for a moment.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(0.0 if message.startswith(_REPEATED) else _PATIENCE_S)
            channel.sendto(message.encode("utf-8", "backslashreplace"), address)
    except OSError:
        return False
    return True


def watchdog_period_s() -> float | None:
    """How often the manager wants to hear from us: half of WATCHDOG_USEC, None if never."""
    text = os.environ.get("WATCHDOG_USEC", "")
    owner = os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or int(text) == 0 or (owner and owner != str(os.getpid())):
        return None
    return int(text) / 2e6
