"""The commands of a pipeline as methods, once for both clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R", covariant=True)
"""What a method gives: a Reply, or with asyncio what is awaited for one."""


class Commands(ABC, Generic[R]):
    """What stemd can be told.

    Each returns a Reply when stemd has answered. All raise RefusedError, NotConnectedError and
    TimedOutError.
    """

    @abstractmethod
    def command(self, command: str, *, timeout_s: float | None = None, **args: Any) -> R:
        """Any command by its name, with its arguments."""

    @abstractmethod
    def change(self, **sections: Mapping[str, Any]) -> R:
        """Change live settings, all of them or none: `change(ricom={"kernel_size": 21})`."""

    def stop(self) -> R:
        """End the acquisition at the camera."""
        return self.command("stop")

    def abort(self) -> R:
        """End the acquisition at the camera at once."""
        return self.command("abort")

    def reconnect(self) -> R:
        """Connect to the camera anew."""
        return self.command("reconnect")

    def record(self, raw: bool = True) -> R:
        """Whether the camera's own bytes are kept, from the next scan on."""
        return self.command("record", raw=raw)

    def save(self) -> R:
        """Write the images as they are now; `reply["files"]` are their names."""
        return self.command("save")

    def save_settings(self) -> R:
        """Write what was changed live into the config file; `reply["saved"]` lists it."""
        return self.command("save_settings")

    def recompute(self, settings: Mapping[str, Any] | None = None, *, write: bool = False) -> R:
        """The images of the last scan anew; `settings` are put in force before."""
        return self.command("recompute", settings=settings or {}, write=write)

    def estimate_rotation(self) -> R:
        """`rotation_deg`, `flip` and `confidence` from the running or last scan."""
        return self.command("estimate_rotation")

    def describe(
        self,
        scan: str | None = None,
        *,
        sample: str | None = None,
        operator: str | None = None,
        comment: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> R:
        """Say of a finished scan, the last one or that of an id, what it is of.

        What is None stays as it is. Of the scans to come: `change(about={...})`.
        """
        words: dict[str, Any] = {"sample": sample, "operator": operator, "comment": comment}
        words |= {"scan": scan, "tags": None if tags is None else [*tags]}
        return self.command("describe", **{k: v for k, v in words.items() if v is not None})

    def reset(self) -> R:
        """The config's settings again, no error, another try for what is out of order."""
        return self.command("reset")

    def begin_session(self, name: str, **plan: Any) -> R:
        """Begin an unattended session; keys as in `[[session]]` of the config."""
        return self.command("session", name=name, **plan)

    def stop_session(self) -> R:
        """End the running session after its scan."""
        return self.command("session", stop=True)
