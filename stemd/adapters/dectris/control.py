"""Commands to a DECTRIS detector: set up the stream, arm, trigger, disarm, abort."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stemd.acquisition import Scan
from stemd.adapters.base import CameraReading
from stemd.adapters.dectris.simplon import UNKNOWN, RefusedError, Simplon, described
from stemd.adapters.dectris.status import StatusWatch
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
    """Implements adapters.frames.control.Control by SIMPLON.

    "start" arms a series of as many images as the scan has: in the trigger modes exts and ints one
    trigger for all of them, in exte and inte one for each, unless `camera` says otherwise; with
    ints it also triggers. "stop" disarms, "abort" drops what is under way.
    """

    commands = frozenset(("start", "stop", "abort"))

    def __init__(self, settings: ControlSettings, simplon: Simplon) -> None:
        self._settings, self._simplon = settings, simplon
        self._watch = StatusWatch(simplon)
        self._job = threading.Lock()
        self._stops = 0
        self._failed = ""

    @property
    def status(self) -> Sequence[CameraReading]:
        """See `Control`: what the detector said last, asked for every ten seconds."""
        return self._watch.readings

    def prepare(self, scan: Scan | None) -> str:
        """Set the stream and the detector up; what the detector's state is."""
        self._watch.begin()
        with self._job:
            status = self._simplon.status()
            _initialised(status)
            lacks = self._set_up() if status.get("state") in ("idle", UNKNOWN) else []
            if self._settings.start == "connect":
                self._start(1, scan)
            return "; ".join([f"the detector: {described(status)}", *lacks])

    def _set_up(self) -> list[str]:
        """Switch the stream on, and set what the config asks for; what is lacking."""
        lacks, wanted = [], self._settings.stream_format
        # Units older than stream2 have no formats; a header without the mask is better than none.
        if not self._sets("stream", "format", wanted) and wanted == "cbor":
            lacks.append("its control unit has no stream2, its legacy stream is on port 9999")
        if not self._sets("stream", "header_detail", "all"):
            self._simplon.set("stream", "header_detail", "basic")
            lacks.append("its pixel mask does not come with the stream")
        self._simplon.set("stream", "mode", "enabled")
        for name, value in self._settings.camera.items():
            self._simplon.set("detector", name, value)
        return lacks

    def _sets(self, module: str, name: str, value: str) -> bool:
        """Set a parameter; False where the control unit refuses."""
        try:
            self._simplon.set(module, name, value)
        except RefusedError:
            return False
        return True

    def command(self, name: str, args: Mapping[str, Any], scan: Scan | None) -> Mapping[str, Any]:
        """See `Control`."""
        if name == "start":
            with self._job:
                return self._start(int(args.get("scans", 1)), scan)
        if name in ("stop", "abort"):
            self._stops += 1
            self._simplon.command("disarm" if name == "stop" else "abort")
            self._watch.begin()
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
        self._watch.begin()
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
        except BaseException as error:
            # told with the next start: the stream's own end tells of the series
            self._failed = str(error) if isinstance(error, CameraError) else repr(error)

    def close(self) -> None:
        """See `Control`."""
        self._stops += 1
        self._watch.close()
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
