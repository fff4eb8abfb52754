"""What sessions need of their pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from stemd.config.live import LiveSettings
from stemd.errors import StemdError


class SessionHost(Protocol):
    """What sessions need of their pipeline."""

    @property
    def linked(self) -> bool:
        """Whether the camera is connected: started before, it sends its frames to nobody."""
        ...

    @property
    def live(self) -> LiveSettings:
        """The settings in force."""
        ...

    async def prepare(self, request: Mapping[str, Any]) -> None:
        """Read what a change of settings names on the disk. Raises RefusedError."""
        ...

    def change(self, request: Mapping[str, Any]) -> LiveSettings:
        """Change live settings as a whole. Raises RefusedError."""
        ...

    def camera(self, name: str, args: Mapping[str, Any]) -> Awaitable[Mapping[str, Any]]:
        """A camera command. Raises StemdError."""
        ...

    def state_changed(self) -> None:
        """Publish the state anew."""
        ...

    def session_refused(self, name: str, error: StemdError | None) -> None:
        """Why a plan of the config cannot begin; None: it has begun, or is wanted no more."""
        ...
