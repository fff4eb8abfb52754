"""Requests from outside: parsed, checked, refused with a reason, before anything is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from aiomqtt import Message
from paho.mqtt.properties import Properties

from stemd.documents import object_from_json, reply_error
from stemd.errors import FormatError
from stemd.mqtt.request_ids import RequestIds
from stemd.mqtt.topics import Inbound

Json = dict[str, Any]
T = TypeVar("T")

MAX_REQUEST_BYTES = 64 * 1024
MAX_COMMAND_BYTES = 48 * 1024 * 1024
"""A command may carry an image: 4096 x 4096 pixels of 16 bits, in base64."""
MAX_ID_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Request:
    """One inbound message. `body` is None when `problem` says why it is not carried out."""

    pipeline: str
    kind: Inbound
    id: str | int | None
    body: Mapping[str, Any] | None
    problem: Json | None
    response_topic: str | None
    correlation: bytes | None
    expires: float | None
    """time.monotonic() after which it is too late, None for never."""

    @property
    def expired(self) -> bool:
        """True when whoever asked no longer wants it."""
        return self.expires is not None and time.monotonic() >= self.expires


class _RefusedError(Exception):
    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.error = error


def _refuse(key: str, message: str, allowed: Any = None) -> NoReturn:
    raise _RefusedError(reply_error(key, message, allowed))


class Gate:
    """Lets a request through once; `path` is the file where ids are kept for the next run."""

    def __init__(self, path: Path | None = None) -> None:
        self._ids = RequestIds(path)

    def read(self, message: Message, pipeline: str, kind: Inbound) -> Request:
        """The request that the message holds, with a problem if it must not be carried out."""
        properties = message.properties
        expiry = _property(properties, "MessageExpiryInterval", int)
        request_id: str | int | None = None
        body: Mapping[str, Any] | None = None
        error: Json | None = None
        try:
            most = MAX_COMMAND_BYTES if kind == "command" else MAX_REQUEST_BYTES
            parsed = parse_object(message.payload, most)
            request_id = _checked_id(parsed, kind)
            self._check(message, parsed, pipeline, kind, request_id)
            body = parsed
        except _RefusedError as refused:
            error = refused.error
        return Request(
            pipeline,
            kind,
            request_id,
            body,
            error,
            _property(properties, "ResponseTopic", str),
            _property(properties, "CorrelationData", bytes),
            None if expiry is None else time.monotonic() + expiry,
        )

    def _check(
        self,
        message: Message,
        body: Mapping[str, Any],
        pipeline: str,
        kind: Inbound,
        request_id: str | int | None,
    ) -> None:
        if message.retain:
            _refuse("retain", "a retained request is not carried out: publish it without retain")
        if kind == "command":
            _check_command(body)
        if request_id is not None and not self._ids.is_new((pipeline, kind, request_id)):
            _refuse("id", f"a {kind} request with the id {request_id!r} has already been received")

    async def written(self) -> None:
        """Return when the ids of the commands so far survive the end of this process."""
        await self._ids.written()


def parse_object(payload: bytes, most: int = MAX_REQUEST_BYTES) -> Json:
    """A JSON object from outside, of bounded size. Raises with the reply's error inside."""
    try:
        return object_from_json(payload, most, whole_text=True)
    except FormatError as error:
        allowed = error.remedy or "a JSON object in UTF-8"
        _refuse("", f"the request {error.message}", allowed)


def _checked_id(body: Mapping[str, Any], kind: Inbound) -> str | int | None:
    found = body.get("id")
    if found is None and kind == "settings":
        return None
    if isinstance(found, bool) or not isinstance(found, (str, int)) or found == "":
        _refuse("id", "a request needs its own id, so that it is carried out only once", "text")
    if len(str(found)) > MAX_ID_CHARACTERS:
        _refuse("id", "the id is too long", f"at most {MAX_ID_CHARACTERS} characters")
    return found


def _check_command(body: Mapping[str, Any]) -> None:
    for key in body:
        if key not in ("id", "command", "args"):
            _refuse(key, f"a command has no {key!r}", ["id", "command", "args"])
    if not isinstance(body.get("command"), str):
        _refuse("command", "a command request needs a command", "the name of a command")
    if not isinstance(body.get("args", {}), dict):
        _refuse("args", "args must be a JSON object", "a JSON object")


def _property(properties: Properties | None, name: str, kind: type[T]) -> T | None:
    found = getattr(properties, name, None)
    return found if isinstance(found, kind) else None
