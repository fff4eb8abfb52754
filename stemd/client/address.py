"""Where the broker is, and how to log in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from stemd.errors import UsageError

PORTS = {"mqtt": 1883, "mqtts": 8883}


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
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in PORTS or not parts.hostname or port == -1 or "@" in parts.netloc:
            raise UsageError(
                f"{url!r} is no address of a broker",
                "mqtt://host:port, or mqtts://host:port (TLS); username and password are arguments",
            )
        if parts.scheme == "mqtts" and tls is None:
            tls = ssl.create_default_context()
        return cls(parts.hostname, port or PORTS[parts.scheme], username, password, tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
