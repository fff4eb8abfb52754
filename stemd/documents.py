"""JSON as stemd publishes and writes it: strict, finite, with times that everybody can parse."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import BaseModel

from stemd.acquisition import iso_utc
from stemd.errors import StemdError

Json = dict[str, Any]


def jsonable(value: Any) -> Any:
    """The value as plain JSON types.

    Tuples, arrays and sets become lists, models and mappings objects, datetimes ISO 8601 UTC.
    A number that is not finite becomes null, since JSON has no word for it and a reader that
    chokes on one `NaN` loses the whole document. Anything unknown becomes its text: a document
    that says a little less is better than none.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, BaseModel):
        return jsonable(value.model_dump(mode="python"))
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(jsonable(item) for item in value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, PurePath):
        return str(value)
    return str(value)


def to_json(value: Any, *, ascii_only: bool = False, indent: int | None = None) -> str:
    """The value as JSON text; `ascii_only` where the reader may not know UTF-8 (TIFF tags)."""
    return json.dumps(jsonable(value), allow_nan=False, ensure_ascii=ascii_only, indent=indent)


def compact_json(value: Any) -> str:
    """The same without spaces, for what a browser gets many times a second."""
    plain = jsonable(value)
    return json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def error_document(error: StemdError) -> Json:
    """An error as it stands in states, health and log entries."""
    return {"message": error.message, "remedy": error.remedy}


def reply_error(key: str | None, message: str, allowed: Any = None) -> Json:
    """The `error` of a reply: the key at fault if there is one, and what would be allowed."""
    return {"key": key, "message": message, "allowed": allowed}


def refused(request_id: Any, key: str | None, message: str, allowed: Any = None) -> Json:
    """A reply that says no."""
    return {"id": request_id, "ok": False, "error": reply_error(key, message, allowed)}


def stamped(document: Mapping[str, Any], time_ns: int | None = None) -> Json:
    """A copy with `time` and `time_ns`, kept where the document already has its own."""
    moment = document.get("time_ns") or time_ns or time.time_ns()
    return {**document, "time": iso_utc(int(moment)), "time_ns": int(moment)}
