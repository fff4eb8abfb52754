"""The config file for the page: its text read, checked, saved, and put in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from stemd.config import text as config_text
from stemd.config.resolved import Config
from stemd.config.written import BEFORE, why_not_writable
from stemd.daemon.beside import beside
from stemd.daemon.decisions import of_pipelines
from stemd.documents import error_document
from stemd.errors import StemdError
from stemd.events import Json
from stemd.logs import get_logger

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "read": (),
    "check": ("text",),
    "save": ("text", "digest"),
    "reload": (),
}
"""Every command and the arguments it takes, all of them texts."""

log = get_logger(__name__)


class ConfigRequests:
    """Carries out what the page asks of the config file. On the event loop.

    `running` is the config in force; `reload` reads the file again and returns why it is refused,
    None where it is in force.
    """

    def __init__(
        self,
        path: Path | None,
        running: Callable[[], Config],
        reload: Callable[[], Awaitable[StemdError | None]],
    ) -> None:
        self._path, self._running, self._reload_all = path, running, reload

    async def __call__(self, request: Mapping[str, Any]) -> Json:
        """What the reply says beyond the id. Raises StemdError; nothing is done then."""
        name, args = request.get("command"), request.get("args", {})
        known = ARGUMENTS.get(name) if isinstance(name, str) else None
        if known is None:
            raise StemdError(
                f"the config knows no command {name!r}", f"known: {', '.join(ARGUMENTS)}"
            )
        if (
            not isinstance(args, Mapping)
            or set(args) != set(known)
            or not all(isinstance(value, str) for value in args.values())
        ):
            wanted = ", ".join(known) or "no arguments"
            raise StemdError(
                f"the arguments of {name} are not right", f"it takes {wanted}, as text"
            )
        if self._path is None:
            raise StemdError(
                "this daemon has no config file", "start it with stemd run and a config file"
            )
        result: Json = await getattr(self, f"_{name}")(self._path, **args)
        return result

    async def _read(self, path: Path) -> Json:
        found = await beside(config_text.read, path)
        place = await beside(path.resolve)
        why = await beside(why_not_writable, place)
        return {
            "path": str(place),
            "text": found.text,
            "digest": found.digest,
            "most_bytes": config_text.MAX_BYTES,
            "kept_as": path.name + BEFORE,
            "not_writable": None if why is None else error_document(why),
        }

    async def _check(self, path: Path, text: str) -> Json:
        checked = await beside(config_text.check, text, path.name)
        return {
            "problems": list(checked.problems),
            "problems_total": checked.count,
            "doubts": list(checked.doubts),
            **({} if checked.config is None else self._effects(checked.config)),
        }

    def _effects(self, config: Config) -> Json:
        """What a reload with this config would do."""
        old = self._running()
        steps = of_pipelines(config.pipelines, {each.name: each for each in old.pipelines})
        starts = [each.name for each in steps.start]
        tables = ("daemon", "mqtt", "page", "sinks")
        fixed = [name for name in tables if getattr(config, name) != getattr(old, name)]
        return {
            "restarts": [name for name in starts if name in steps.stop],
            "starts": [name for name in starts if name not in steps.stop],
            "stops": [name for name in steps.stop if name not in starts],
            "needs_restart": fixed,
        }

    async def _save(self, path: Path, text: str, digest: str) -> Json:
        saved = await beside(config_text.save, path, text, digest)
        log.warning("the config file was changed on the page", path=str(path))
        return {"digest": saved.digest, "kept_as": path.name + BEFORE}

    async def _reload(self, path: Path) -> Json:
        error = await self._reload_all()
        if error is not None:
            raise error
        return {}
