"""Where the broker is, and how to log in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from stemd.addresses import BROKER_PORTS, broker_fault
from stemd.errors import UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """A broker and a login. `tls` None: not encrypted."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(
        cls,
        url: str,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Address:
        """The address in `mqtt://host:port`, or `mqtts://host:port`. Raises UsageError."""
        if fault := broker_fault(url):
            raise UsageError(
                f"{url!r} is no address of a broker: {fault}",
                "mqtt://host:port, or mqtts://host:port (TLS); username and password are arguments",
            )
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
        if scheme == "mqtts" and tls is None:
            tls = ssl.create_default_context()
        return cls(host, parts.port or BROKER_PORTS[scheme], username, password, tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
