"""What stemd has told of itself, as properties, once for both clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from stemd.client.errors import NotConnectedError
from stemd.client.messages import Optics, State
from stemd.client.news import News


class Told(ABC):
    """The newest of each document."""

    @property
    @abstractmethod
    def _heard(self) -> News:
        """Where it is kept."""

    @property
    @abstractmethod
    def instrument(self) -> str:
        """Name of the instrument."""

    @property
    @abstractmethod
    def pipeline(self) -> str:
        """Name of the pipeline."""

    @property
    def online(self) -> bool:
        """Whether stemd runs, as far as the broker knows."""
        return self._heard.online

    @property
    def daemon(self) -> Mapping[str, Any]:
        """The daemon's own state: version, pipelines, page, and in `red` what is wrong."""
        return self._heard.daemon

    @property
    def state(self) -> State:
        """What the pipeline does now. Raises NotConnectedError outside of `with`."""
        state = self._heard.state
        if state is None:
            raise NotConnectedError("the client is not connected", "use it inside `with`")
        return state

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every live setting as in force: `settings["ricom"]["kernel_size"]`."""
        return self._heard.settings

    @property
    def optics(self) -> Optics | None:
        """The optics measured in the last scan, None before the first."""
        return self._heard.optics

    @property
    def session(self) -> Mapping[str, Any]:
        """The running or last unattended session, {} where there never was one."""
        return self._heard.session
