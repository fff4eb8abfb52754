"""A client of stemd: images, states, optics and commands over MQTT, in Python.

    from stemd.client import Client

    with Client("mqtt://127.0.0.1:1883") as stemd:
        stemd.start()
        scan = stemd.wait_for_scan()
        print(scan.status, stemd.image("ricom", scan=scan.id).image.mean())

`AsyncClient` is the same for asyncio. Both are a program of their own: stemd runs where the camera
is, they run anywhere that reaches the broker. docs/reference/client.md describes everything.
"""

from __future__ import annotations

from stemd.client.asynchronous import AsyncClient
from stemd.client.errors import ClientError, NotConnectedError, RefusedError, TimedOutError
from stemd.client.images import Image
from stemd.client.messages import Measured, Optics, Problem, Reply, Scan, State
from stemd.client.synchronous import Client
from stemd.errors import StemdError

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Image",
    "Measured",
    "NotConnectedError",
    "Optics",
    "Problem",
    "RefusedError",
    "Reply",
    "Scan",
    "State",
    "StemdError",
    "TimedOutError",
]
