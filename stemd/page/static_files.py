"""The page's own files, read once: those of a later version would not understand this daemon."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    tag: str


class StaticFiles:
    """All files of the page's folder, in memory (some 0.2 MB)."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._files = {path.name: _read(path) for path in folder.iterdir() if path.is_file()}

    def answer(self, name: str, request: web.Request) -> web.Response:
        """The file of this name; nothing but that it is the same where the browser has it.

        Raises HTTPNotFound.
        """
        file = self._files.get(name)
        if file is None:
            raise web.HTTPNotFound
        known = {tag.value for tag in request.if_none_match or ()}
        headers = {"Cache-Control": "no-cache", "ETag": f'"{file.tag}"'}
        if file.tag in known:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers=headers, content_type=file.content_type)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _File(body, kind, hashlib.sha256(body).hexdigest()[:20])
