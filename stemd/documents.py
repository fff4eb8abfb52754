"""JSON in and out: strict, finite, bounded, in text that every reader can decode.

The boundary to everything outside. What goes out never raises, whatever stands in it; what comes
in raises FormatError and nothing else.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, NoReturn

import numpy as np
from pydantic import BaseModel

from stemd.acquisition import iso_utc
from stemd.errors import FormatError, StemdError

Json = dict[str, Any]


MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""No document of stemd comes near it; a larger one is not read into memory."""
MAX_DEPTH = 64
"""Objects in objects; what is deeper than that is nobody's document."""
_MAX_DIGITS = 308
_MAX_BITS = 1024  # a double, the number of most readers, ends there


_JSON_WORDS = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
}


def plain_text(text: str) -> str:
    """The text with lone surrogates written out, as in `\\udcfc`: any encoder takes it.

    File names that are no UTF-8 and JSON such as `"\\ud800"` bring them in.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def jsonable(value: Any) -> Any:
    """The value as plain JSON types. Never raises.

    Tuples, arrays and sets become lists, models and mappings objects, datetimes ISO 8601 UTC.
    A number that is not finite, or too large for a double, becomes null, since JSON has no word
    for it and a reader that chokes on one `NaN` loses the whole document. Text is that of
    `plain_text`. Anything unknown, or nested deeper than MAX_DEPTH, becomes its text: a document
    that says a little less is better than none.
    """
    return _plain(value, MAX_DEPTH)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_BITS else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth == 0:
        return "..."
    try:
        return _converted(value, depth - 1)
    except Exception:  # a datetime of year 1, a model with a serializer that fails, ...
        return _text_of(value)


def _converted(value: Any, depth: int) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        inner = value.tolist()
        return _text_of(value) if isinstance(inner, np.generic) else _plain(inner, depth)
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="python"), depth)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth) for item in value]
    if isinstance(value, (set, frozenset)):
        items = [_plain(item, depth) for item in value]
        try:
            return sorted(items)
        except TypeError:  # of several kinds
            return sorted(items, key=str)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, PurePath):
        return plain_text(str(value))
    return _text_of(value)


def _key(key: Any) -> str:
    return plain_text(key) if isinstance(key, str) else _text_of(key)


def _text_of(value: Any) -> str:
    try:
        return plain_text(str(value))
    except Exception:  # somebody else's __str__
        return f"<{type(value).__name__}>"


def to_json(
    value: Any, *, ascii_only: bool = False, indent: int | None = None, colon: str = ": "
) -> str:
    """The value as JSON text; `ascii_only` where the reader may not know UTF-8 (TIFF tags).

    `colon` stands between a key and its value. Never raises, and what it returns can be encoded.
    """
    return json.dumps(
        jsonable(value),
        allow_nan=False,
        ensure_ascii=ascii_only,
        indent=indent,
        separators=("," if indent is not None else ", ", colon),
    )


def compact_json(value: Any) -> str:
    """The same without spaces, for what a browser gets many times a second."""
    plain = jsonable(value)
    return json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def from_json(
    data: bytes | str, most: int = MAX_DOCUMENT_BYTES, *, whole_text: bool = False
) -> Any:
    """A JSON value from outside, as text that can be encoded and numbers that fit a double.

    Raises FormatError, and nothing else, for more than `most` bytes, for what is no UTF-8 or no
    JSON, and for objects nested deeper than MAX_DEPTH; with `whole_text` also for half of a
    surrogate pair, which is no text and is written out otherwise. Its message is the end of a
    sentence that begins with the name of what was read.
    """
    if len(data) > most:
        raise FormatError(f"has {len(data)} bytes", f"at most {most} bytes")
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")
        parsed = json.loads(
            text, parse_constant=_not_json, parse_int=_whole, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is not valid JSON: {plain_text(str(error))}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(parsed, MAX_DEPTH):
        raise FormatError(f"is nested deeper than {MAX_DEPTH}")
    if "\\u" not in text and text.isascii():
        return parsed
    made = _encodable(parsed)
    if whole_text and made != parsed:
        raise FormatError("holds half of a surrogate pair, which is no text")
    return made


def object_from_json(
    data: bytes | str, most: int = MAX_DOCUMENT_BYTES, *, whole_text: bool = False
) -> Json:
    """A JSON object from outside. Raises FormatError, and nothing else."""
    parsed = from_json(data, most, whole_text=whole_text)
    if not isinstance(parsed, dict):
        raise FormatError(f"is {_JSON_WORDS[type(parsed)]} in JSON, not an object")
    return parsed


def read_object(path: Path, most: int = MAX_DOCUMENT_BYTES) -> Json:
    """The JSON object in a file of at most `most` bytes.

    Raises FormatError, which names the file, when it holds anything else, OSError when it cannot
    be read.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    try:
        return object_from_json(data, most)
    except FormatError as error:
        raise FormatError(
            f"{plain_text(str(path))} {error.message}", error.remedy or "restore the file"
        ) from error


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """An object; of a key that stands twice readers take either, and what is meant nobody knows."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(
            f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice"
        )
    return found


def _whole(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in inside)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, dict):
        return {plain_text(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


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
    moment = document.get("time_ns")
    if not isinstance(moment, int) or not moment:
        moment = time_ns or time.time_ns()
    return {**document, "time": iso_utc(moment), "time_ns": moment}
