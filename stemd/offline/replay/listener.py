"""The thread that hears what the viewer of a replay asks for, and answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import IO, Any

from stemd.config.live import RefusedError
from stemd.documents import refused
from stemd.errors import StemdError
from stemd.offline.replay.sender import Sender
from stemd.offline.replay.state import State
from stemd.offline.replay.wishes import NOT_HERE, Wishes
from stemd.scan.rotation import rotation_of
from stemd.scan.run import ScanRun

Json = dict[str, Any]


class Listener:
    """Turns requests into wishes; `run` gives the scan as it stands, None before there is one."""

    def __init__(
        self, wishes: Wishes, state: State, sender: Sender, run: Callable[[], ScanRun | None]
    ) -> None:
        self._wishes = wishes
        self._state = state
        self._sender = sender
        self._run = run

    def listen(self, requests: IO[bytes]) -> None:
        """Hear requests, a JSON line each, until they end: then nobody wants the replay any more.

        Nor does anybody after a line that cannot be understood: it would be heard by nobody.
        """
        try:
            for line in requests:
                message = json.loads(line)
                match message["do"]:
                    case "watch":
                        self._sender.watch(message["images"])
                    case "pace":
                        paused, again = bool(message["paused"]), bool(message["again"])
                        self._wishes.go(message["seconds"], paused=paused, again=again)
                        self._state.tell_pace()
                    case "settings" | "command" as kind:
                        self._sender.text("reply", self._answer(kind, message["request"]))
        finally:
            self._wishes.leave()

    def _answer(self, kind: str, request: Json) -> Json:
        known = {"id": request.get("id")}
        try:
            if kind == "command":
                return {**known, "ok": True, **self._command(request)}
            revision = self._change(request)
        except RefusedError as error:
            return {**known, "ok": False, "error": error.as_json()}
        except StemdError as error:
            return refused(request.get("id"), None, error.message, error.remedy or None)
        return {**known, "ok": True, "revision": revision}

    def _change(self, request: Json) -> int:
        for key in request:
            if key.partition(".")[0] in NOT_HERE:
                raise StemdError(f"{key} has no meaning for a recorded scan", "go back to live")
        live = self._wishes.live.changed(request)
        self._wishes.change(live)
        self._state.tell_settings(live)
        return live.revision

    def _command(self, request: Json) -> Json:
        if request.get("command") != "estimate_rotation":
            raise StemdError(
                "in a replay only the command estimate_rotation works", "go back to live"
            )
        run = self._run()
        if run is None:
            raise StemdError("the record is still being opened", "ask again in a moment")
        found = rotation_of(run)
        return {
            "scan": self._sender.scan_id,
            "rotation_deg": round(found.rotation_deg, 1),
            "flip": found.flip,
            "confidence": round(found.confidence, 2),
            "determined": found.determined,
        }
