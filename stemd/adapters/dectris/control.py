"""Commands to a DECTRIS detector: set up the stream, arm, trigger, disarm, abort."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from stemd.acquisition import Scan
from stemd.adapters.dectris.simplon import Simplon, described
from stemd.errors import CameraError

_TRIGGER_S = 86_400.0
"""The reply to a trigger of an internally timed series comes when its images are made."""
_ARM_S = 30.0
_EACH_TRIGGER = ("exte", "inte")
_TRIGGERED_BY_US = ("ints", "inte")


class ControlSettings(Protocol):
    """The part of a camera's settings that says how it is controlled."""

    @property
    def camera(self) -> Mapping[str, int | float | str | bool]:
        """Parameters of the detector."""
        ...

    @property
    def start(self) -> str:
        """ "connect": a series is armed whenever the camera has been connected."""
        ...

    @property
    def stream_format(self) -> str:
        """ "cbor" or "legacy"."""
        ...


class DectrisControl:
    """Implements adapters.frames.adapter.Control by SIMPLON.

    "start" arms a series of as many images as the scan has: in the trigger modes exts and ints one
    trigger for all of them, in exte and inte one for each, unless `camera` says otherwise; with
    ints it also triggers. "stop" disarms, "abort" drops what is under way.
    """

    commands = frozenset(("start", "stop", "abort"))

    def __init__(self, settings: ControlSettings, simplon: Simplon) -> None:
        self._settings, self._simplon = settings, simplon
        self._job = threading.Lock()
        self._stops = 0
        self._failed = ""

    def prepare(self, scan: Scan | None) -> str:
        """Set the stream and the detector up; what the detector's state is."""
        with self._job:
            status = self._simplon.status()
            _initialised(status)
            if status.get("state") == "idle":
                self._set_up()
            if self._settings.start == "connect":
                self._start(1, scan)
            return f"the detector: {described(status)}"

    def _set_up(self) -> None:
        self._simplon.set("stream", "format", self._settings.stream_format)
        self._simplon.set("stream", "header_detail", "all")
        self._simplon.set("stream", "mode", "enabled")
        for name, value in self._settings.camera.items():
            self._simplon.set("detector", name, value)

    def command(self, name: str, args: Mapping[str, Any], scan: Scan | None) -> Mapping[str, Any]:
        """See `Control`."""
        if name == "start":
            with self._job:
                return self._start(int(args.get("scans", 1)), scan)
        if name in ("stop", "abort"):
            self._stops += 1
            self._simplon.command("disarm" if name == "stop" else "abort")
            return self._simplon.status()
        raise CameraError(f"a DECTRIS detector cannot {name!r}", "known: start, stop, abort")

    def _start(self, scans: int, scan: Scan | None) -> Mapping[str, Any]:
        if scans < 1:
            raise CameraError(
                f"cannot start {scans} scans", "a series has an end: scans is 1 or more"
            )
        simplon, before = self._simplon, self._stops
        failed, self._failed = self._failed, ""
        status = simplon.status()
        _initialised(status)
        if status.get("state") == "acquire":
            raise CameraError("the detector is acquiring already", "stop or abort it first")
        if status.get("state") == "ready":
            simplon.command("disarm")
        self._set_up()
        told: dict[str, Any] = {"status": status}
        if failed:
            told["last_trigger"] = failed
        mode = str(simplon.get("detector", "config", "trigger_mode"))
        if scan is not None:
            told["frames"] = scan.frames * scans
            self._set_counts(mode, scan.frames * scans)
        if self._stops != before:
            raise CameraError("the detector was not armed, a stop came first", "start again")
        armed = simplon.command("arm", _ARM_S)
        told["series"] = armed.get("sequence id")
        if mode in _TRIGGERED_BY_US:
            triggers = int(simplon.get("detector", "config", "ntrigger") or 1)
            threading.Thread(
                target=self._trigger, args=(triggers, self._stops), name="trigger", daemon=True
            ).start()
        return told

    def _set_counts(self, mode: str, frames: int) -> None:
        counts = {"nimages": frames, "ntrigger": 1}
        if mode in _EACH_TRIGGER:
            counts = {"nimages": 1, "ntrigger": frames}
        for name, value in counts.items():
            if name not in self._settings.camera:
                self._simplon.set("detector", name, value)

    def _trigger(self, triggers: int, stops: int) -> None:
        """Trigger an internally timed series, which takes as long as it does, and disarm."""
        try:
            for _ in range(triggers):
                if self._stops != stops:
                    return
                self._simplon.command("trigger", _TRIGGER_S)
            if self._stops == stops:
                self._simplon.command("disarm")
        except CameraError as error:
            # told with the next start: the stream's own end tells of the series
            self._failed = str(error)

    def close(self) -> None:
        """See `Control`."""
        self._stops += 1
        self._simplon.close()


def _initialised(status: Mapping[str, Any]) -> None:
    """Raise CameraError for a detector that cannot be used."""
    state = status.get("state")
    if state in ("na", "error"):
        raise CameraError(
            f"the detector is not initialised (its state is {state!r})",
            "initialise it on the control unit's web page, which takes some minutes, then "
            "reconnect",
        )
