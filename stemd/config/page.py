"""The config table `[page]`: where the page listens and who may change settings on it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from pydantic import ConfigDict, field_validator

from stemd.errors import ConfigError
from stemd.typed import Table

MIN_TOKEN = 8
"""Characters of the shortest operator's token that is accepted."""

_LISTEN = re.compile(
    r"^(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d{1,5})$"
)


class PageSettings(Table):
    """`listen` is "host:port" or "[ipv6]:port"; port 0 takes any free one.

    `token_file` holds the operator's token. Where it is given, or where `listen` is not a
    loopback address, a viewer must show the token before it can change anything; without a
    token a page beyond loopback is for looking only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8440"
    token_file: Path | None = None

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        match = _LISTEN.match(value)
        if match is None:
            raise ValueError('must be "host:port" or "[ipv6]:port", e.g. "127.0.0.1:8440"')
        if int(match["port"]) > 65535:
            raise ValueError("the port must be 0 (any free) to 65535")
        return value

    @property
    def host(self) -> str:
        """Host name or address, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """TCP port, 0 for any free one."""
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only programs on this computer can reach the page."""
        return is_loopback(self.host)

    def read_token(self) -> str | None:
        """The operator's token, None where none is configured. Raises ConfigError."""
        if self.token_file is None:
            return None
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"page.token_file = {str(self.token_file)!r} cannot be read: {error}",
                "make it a text file that holds the operator's token and that stemd may read",
            ) from error
        if len(token) < MIN_TOKEN:
            raise ConfigError(
                f"page.token_file = {str(self.token_file)!r} holds {len(token)} characters",
                f"write a token of {MIN_TOKEN} or more, e.g. the output of: openssl rand -hex 16",
            )
        return token


def is_loopback(host: str) -> bool:
    """Whether a host name or address (no port, no brackets) is this computer's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
