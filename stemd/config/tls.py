"""TLS to a broker. A module of its own, since what speaks no TLS need not read its library."""

from __future__ import annotations

import ssl
from pathlib import Path


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def context_of(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS that checks the broker's certificate. Raises OSError for files that cannot be used."""
    context = ssl.create_default_context(cafile=ca)
    context.sslsocket_class = _TidySocket
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
