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
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
            sound = scheme in PORTS and "@" not in parts.netloc
        except ValueError:
            sound, host = False, None
        if not sound or not host:
            raise UsageError(
                f"{url!r} is no address of a broker",
                "mqtt://host:port, or mqtts://host:port (TLS); username and password are arguments",
            )
        if scheme == "mqtts" and tls is None:
            tls = ssl.create_default_context()
        return cls(host, port or PORTS[scheme], username, password, tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
