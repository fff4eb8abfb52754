"""What can go wrong between a client and stemd."""

from __future__ import annotations

from typing import Any

from stemd.errors import StemdError


class ClientError(StemdError):
    """Base of the client's errors: `message` says what is wrong, `remedy` what to do."""


class NotConnectedError(ClientError):
    """The broker, the daemon or the pipeline is not there, or went away before it replied."""


class TimedOutError(ClientError, TimeoutError):
    """What was waited for has not come in time."""


class RefusedError(ClientError):
    """stemd has refused a command or a change of settings; nothing was changed.

    `key` names the setting or argument at fault, None where it is none of them; `allowed` is what
    would have been accepted, in words or as a list, None where stemd does not say.
    """

    def __init__(self, message: str, key: str | None, allowed: Any) -> None:
        super().__init__(f"{key}: {message}" if key else message, _words(allowed))
        self.key = key
        self.allowed = allowed


def _words(allowed: Any) -> str:
    if allowed is None:
        return ""
    return ", ".join(map(str, allowed)) if isinstance(allowed, list) else str(allowed)
