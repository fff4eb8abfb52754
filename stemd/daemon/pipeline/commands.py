"""The commands of a pipeline: camera, recording, saving, recomputing, estimates, sessions."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from stemd.acquisition import iso_utc, new_scan_id
from stemd.config.live import LiveSettings, RefusedError
from stemd.config.problems import Problem, problems_of
from stemd.config.resolved import PipelineConfig
from stemd.config.session_plan import SessionPlan
from stemd.config.tables import AboutTable
from stemd.daemon.pipeline.finished import FinishedScan
from stemd.daemon.pipeline.finishing import Finishing
from stemd.daemon.pipeline.images import PublishedImages
from stemd.daemon.pipeline.saving import Saving
from stemd.daemon.pipeline.scans import Scans
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.daemon.sessions.sessions import Sessions
from stemd.documents import Json
from stemd.errors import StemdError
from stemd.scan.rotation import rotation_of
from stemd.storage.tiff import encode_tiff

RESTORE_S = 300.0
"""How long an image sent by command may take until its reply."""

Args = Mapping[str, Any]

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "start": ("scans", "scan", "settings"),
    "stop": (),
    "abort": (),
    "reconnect": (),
    "record": ("raw",),
    "save": (),
    "save_settings": (),
    "recompute": ("settings", "write"),
    "estimate_rotation": (),
    "describe": ("scan", *AboutTable.model_fields),
    "reset": (),
    "restore": ("tiff",),
    "session": ("stop", *SessionPlan.model_fields),
}
"""Every command and the arguments it knows."""


class Commands:
    """Carries commands out, one at a time, on the event loop.

    `camera` sends the camera a command, `reconnect` connects to it anew; `reset` and
    `save_settings` are what they are called; `complete` has images of a scan document made again;
    `describe` says of a scan on the disk what it is of.
    """

    def __init__(
        self,
        config: PipelineConfig,
        settings: SettingsInForce,
        scans: Scans,
        finishing: Finishing,
        images: PublishedImages,
        sessions: Sessions,
        *,
        camera: Callable[[str, Args], Awaitable[Args]],
        reconnect: Callable[[], Awaitable[None]],
        reset: Callable[[], None],
        save_settings: Callable[[], Awaitable[list[str]]],
        complete: Callable[[Args], None],
        describe: Callable[[str, Json], Json],
    ) -> None:
        self._config, self._settings, self._sessions = config, settings, sessions
        self._scans, self._finishing, self._images = scans, finishing, images
        self._camera, self._reset_all = camera, reset
        self._save_to_config = save_settings
        self._reconnect_camera, self._complete = reconnect, complete
        self._describe_past = describe
        self._saving = Saving(settings, scans, images, self._last)

    async def carry_out(self, name: str, args: Args) -> Mapping[str, Any]:
        """What the reply says beyond the id. Raises StemdError; nothing is done then."""
        known = ARGUMENTS.get(name)
        if known is None:
            raise _refused("command", "unknown command", repr(name), ", ".join(ARGUMENTS))
        for key in args:
            if key not in known:
                allowed = ", ".join(known) or f"{name} takes no arguments"
                raise _refused(f"args.{key}", "unknown argument", "", allowed)
        method = getattr(self, f"_{name}")
        result: Mapping[str, Any] = await method(args)
        return result

    async def _start(self, args: Args) -> Args:
        scans = args.get("scans", 1)
        if isinstance(scans, bool) or not isinstance(scans, int) or scans < 0:
            raise _refused("args.scans", "must be a number of scans", repr(scans), "0 is endless")
        change = dict(_table(args, "settings"))
        if "scan" in args:
            change["scan"] = _table(args, "scan")
        if change:
            await self._settings.prepare(change)
            self._settings.change(change)
        return await self._camera("start", {"scans": scans})

    async def _stop(self, args: Args) -> Args:
        return await self._camera("stop", args)

    async def _abort(self, args: Args) -> Args:
        return await self._camera("abort", args)

    async def _reconnect(self, args: Args) -> Args:
        """The connection to the camera anew, at once."""
        await self._reconnect_camera()
        return {}

    async def _record(self, args: Args) -> Args:
        raw = _flag(args, "raw", default=True)
        self._settings.change({"record": {"raw": raw}})
        return {}

    async def _save(self, args: Args) -> Args:
        """Images as they are now; of a running scan under names that say how far it was."""
        return await self._saving.save()

    async def _save_settings(self, args: Args) -> Args:
        """The settings in force into the config file."""
        return {"saved": await self._save_to_config()}

    def _last(self) -> FinishedScan:
        last = self._finishing.last
        if last is None:
            raise StemdError(
                "no scan has been finished since the pipeline was started",
                "for an older scan: stemd process its raw record",
            )
        return last

    async def _recompute(self, args: Args, because: str = "command") -> Args:
        """The images of the last finished scan anew from its maps."""
        write = _flag(args, "write", default=False)
        last = self._last()
        change = _table(args, "settings")
        await self._settings.prepare(change)
        live: LiveSettings = self._settings.live.changed(change) if change else self._settings.live
        live.for_maps_of(last.run.settings)  # refused before anything is changed
        if change:
            live = self._settings.change(change)
        kept = live.engines.kept_of(last.run.settings)
        if write:
            last.make_from_record(live.engines)
        final = last.recomputed(await asyncio.to_thread(last.run.recompute, live.engines))
        now = time.time_ns()
        entry = {
            "time": iso_utc(now),
            "time_ns": now,
            "because": because,
            "revision": live.revision,
            "settings": live.as_json(),
            "images": [result.name for result in final.results],
            "kept": kept,
            "written": write,
        }

        def write_down() -> Args:
            if write:
                last.files.write_images(final, live.as_json())
            return last.files.amend(entry)

        document = await asyncio.to_thread(write_down)
        last.take(final)
        self._images.publish_final(final)
        self._complete(document)
        return {
            "scan": final.acquisition.id,
            "images": entry["images"],
            "kept": kept,
            "written": write,
        }

    async def use_measured(self, scan: str, optics: Args) -> None:
        """Optics as measured in a scan into the settings, and its images anew with them."""
        last = self._finishing.last
        if last is None or last.id != scan:
            self._settings.change({"optics": dict(optics)})
            return
        args = {"settings": {"optics": dict(optics)}, "write": True}
        await self._recompute(args, because="measured optics")

    async def _estimate_rotation(self, args: Args) -> Args:
        """The rotation and hand that leave the running or last scan's COM field without curl."""
        run = self._scans.newest
        if run is None:
            raise StemdError("there has been no scan to estimate the rotation from", "scan first")
        found = await asyncio.to_thread(rotation_of, run)
        return {
            "scan": run.acquisition.id,
            "rotation_deg": round(found.rotation_deg, 1),
            "flip": found.flip,
            "confidence": round(found.confidence, 2),
            "determined": found.determined,
        }

    async def _describe(self, args: Args) -> Args:
        """What a finished scan is of, for people; the last one, or any that is on the disk."""
        told = {key: value for key, value in args.items() if key != "scan"}
        try:
            about = AboutTable.model_validate(told).model_dump(mode="json", include=set(told))
        except ValidationError as error:
            raise RefusedError(problems_of(error, AboutTable, ("args",))[0]) from error
        if not about:
            raise _refused("args", "nothing is said", "", ", ".join(AboutTable.model_fields))
        running, last = self._scans.files, self._finishing.last
        scan = args["scan"] if "scan" in args else self._last().id
        if not isinstance(scan, str):
            raise _refused("args.scan", "must be the id of a scan", repr(scan))
        if running is not None and running.id == scan:
            raise StemdError(
                f"the scan {scan} is still running",
                "change the settings about: they hold for the running scan, too",
            )
        if last is not None and last.id == scan:
            document = await asyncio.to_thread(last.files.describe, about)
        else:
            document = await asyncio.to_thread(self._describe_past, scan, about)
        return {"scan": scan, "about": document["about"]}

    async def _reset(self, args: Args) -> Args:
        """The config's settings, no error, and another try for what is out of order."""
        with contextlib.suppress(RefusedError):  # that is told as long as it is so
            await self._settings.prepare_reset()
        self._reset_all()
        return {}

    async def _restore(self, args: Args) -> Args:
        """An image through the engines, as a scan of its own; the reply has what they made."""
        if self._config.adapter_plugin.works_on != "images":
            raise StemdError(
                f"pipeline {self._config.name} takes patterns, not images",
                "send restore to a pipeline whose adapter is images",
            )
        scan = new_scan_id()
        images = self._finishing.images_of(scan)
        try:
            await self._camera("restore", {**args, "scan": scan})
            async with asyncio.timeout(RESTORE_S):
                final = await images
        except TimeoutError as error:
            raise StemdError(
                f"the image was not restored within {RESTORE_S:.0f} s",
                "it may still come on the image topics; a faster model or backend helps",
            ) from error
        finally:
            images.cancel()
        made = [result for result in final.results if result.name.endswith("_restored")]
        if not made:
            raise StemdError(
                "no engine has restored the image", "see the pipeline's last error and its engines"
            )

        def encoded() -> dict[str, str]:
            return {r.name: base64.b64encode(encode_tiff(r, final)).decode() for r in made}

        tiffs = await asyncio.to_thread(encoded)
        return {"scan": scan, "images": list(tiffs), "tiffs": tiffs}

    async def _session(self, args: Args) -> Args:
        if "stop" in args:
            if args["stop"] is not True or len(args) > 1:
                raise _refused("args.stop", "must stand alone", repr(args["stop"]), "true")
            return {"session": self._sessions.stop("stopped by command")}
        try:
            plan = SessionPlan.model_validate(dict(args))
        except ValidationError as error:
            raise RefusedError(problems_of(error, SessionPlan, ("args",))[0]) from error
        if plan.pipeline not in (None, self._config.name):
            raise _refused("args.pipeline", "names another pipeline", "", self._config.name)
        if plan.until is not None and plan.until.timestamp() <= time.time():
            allowed = "a time to come, UTC where it has no zone"
            raise _refused("args.until", "is over already", str(args["until"]), allowed)
        return {"session": self._sessions.begin(plan)}


def _refused(key: str, message: str, value: str = "", allowed: str = "") -> RefusedError:
    return RefusedError(Problem((key,), message, value, allowed))


def _flag(args: Args, key: str, *, default: bool) -> bool:
    value = args.get(key, default)
    if not isinstance(value, bool):
        raise _refused(f"args.{key}", "must be true or false", repr(value), "true, false")
    return value


def _table(args: Args, key: str) -> Mapping[str, Any]:
    value = args.get(key, {})
    if not isinstance(value, Mapping):
        raise _refused(f"args.{key}", "must be an object", repr(value), "a JSON object")
    return value
