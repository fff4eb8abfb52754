"""Requests from outside, by MQTT or page: settings and commands in, reply documents out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemd.config.live import RefusedError
from stemd.daemon.config_requests import ConfigRequests
from stemd.daemon.pipeline.pipeline import Pipeline
from stemd.documents import refused
from stemd.errors import StemdError
from stemd.events import Json
from stemd.logs import get_logger
from stemd.request_queue import not_ready

log = get_logger(__name__)


class Requests:
    """The hub's handler: carries requests out on their pipelines; never raises."""

    def __init__(self, pipelines: Mapping[str, Pipeline], config: ConfigRequests) -> None:
        self._pipelines, self._config = pipelines, config

    async def __call__(self, pipeline: str, kind: str, request: Mapping[str, Any]) -> Json:
        """The reply document of A3."""
        reply: Json = {"id": request.get("id"), "ok": True}
        target = self._pipelines.get(pipeline)
        if target is None and kind != "config":  # the config is just being changed
            return not_ready(request, pipeline)
        try:
            if target is None:
                reply.update(await self._config(request))
            elif kind == "settings":
                before = target.live
                live = await target.changed(request)
                reply["revision"] = live.revision
                if doubts := target.settings.new_doubts(before, live):
                    reply["doubts"] = doubts
            else:
                reply.update(await self._command(target, request))
        except RefusedError as error:
            return reply | {"ok": False, "error": error.as_json()}
        except StemdError as error:
            return refused(request.get("id"), None, error.message, error.remedy)
        except Exception as error:
            log.exception("a request failed", pipeline=pipeline, kind=kind)
            message = f"internal error: {type(error).__name__}: {error}"
            return refused(request.get("id"), None, message, "")
        return reply

    @staticmethod
    async def _command(target: Pipeline, request: Mapping[str, Any]) -> Json:
        name, args = request.get("command"), request.get("args", {})
        if not isinstance(name, str) or not isinstance(args, Mapping):
            raise StemdError(
                "a command is an object with a text `command` and an object `args`",
                'for example {"id": "1", "command": "start", "args": {}}',
            )
        result = await target.command(name, args)
        return {"revision": target.live.revision, **result}
