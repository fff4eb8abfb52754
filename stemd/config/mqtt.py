"""The `[mqtt]` table of the config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from stemd.addresses import BROKER_PORTS, broker_fault
from stemd.errors import SinkError
from stemd.typed import Table

if TYPE_CHECKING:
    import ssl

EMBEDDED = "embedded"


class MqttSettings(Table):
    """Where the broker is and how to log in.

    `url` is `mqtt://host:port`, `mqtts://host:port` (TLS) or "embedded". `version` "auto" tries
    MQTT 5 and falls back to 3.1.1. Files are read at every connect, so that a rotated password
    or certificate is picked up without a restart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = EMBEDDED
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    version: Literal["auto", "5", "3.1.1"] = "auto"
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] | None = None
    keepalive_s: Annotated[int, Field(ge=2, le=3600)] = 15

    @field_validator("url")
    @classmethod
    def _is_a_broker(cls, url: str) -> str:
        if url == EMBEDDED:
            return url
        if fault := broker_fault(url):
            more = ', or "embedded"' if fault.startswith("must be") else ""
            login = ": use username and password_file" if "@" in url else ""
            raise ValueError(f"{fault}{more}{login}")
        return url

    @model_validator(mode="after")
    def _files_belong_together(self) -> Self:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file, cert_file and key_file need a url that begins with mqtts://")
        return self

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def embedded(self) -> bool:
        """True when the daemon is to start a broker of its own."""
        return self.url == EMBEDDED

    @property
    def tls(self) -> bool:
        """True for mqtts."""
        return self._parts.scheme == "mqtts"

    @property
    def host(self) -> str:
        """Host name or address of the broker."""
        return self._parts.hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """TCP port of the broker."""
        return self._parts.port or BROKER_PORTS.get(self._parts.scheme, 1883)

    def at_embedded(self, url: str) -> MqttSettings:
        """These settings for the embedded broker, once its port is known; it speaks 3.1.1."""
        return self.model_copy(update={"url": url, "version": "3.1.1"})

    def password(self) -> str | None:
        """The password from its file, without the line's end. Raises SinkError."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SinkError(
                f"mqtt.password_file {self.password_file} cannot be read: {error}",
                "make the file readable for the user that runs stemd",
            ) from error

    def tls_context(self) -> ssl.SSLContext | None:
        """TLS as configured, checking the broker's certificate; None without. Raises SinkError."""
        if not self.tls:
            return None
        from stemd.config.tls import context_of

        try:
            return context_of(self.ca_file, self.cert_file, self.key_file)
        except OSError as error:
            names = [str(p) for p in (self.ca_file, self.cert_file, self.key_file) if p]
            raise SinkError(
                f"the TLS files of mqtt ({', '.join(names)}) cannot be used: {error}",
                "check that they exist, are PEM, belong together and can be read by stemd's user",
            ) from error
