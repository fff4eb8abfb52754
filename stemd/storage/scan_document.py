"""scan.json read back: each value that stemd looks at is of its kind, or the file is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stemd.documents import Json, plain_text, read_object
from stemd.errors import FormatError
from stemd.storage.folder import SCAN_FILE

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Time = Annotated[int, Field(ge=0, lt=2**63)]
_Side = Annotated[int, Field(ge=1, le=2**31)]


class _Kinds(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _File(_Kinds):
    name: str
    bytes: _Count
    sha256: str = ""


class _Scan(_Kinds):
    shape: Annotated[list[_Side], Field(min_length=2, max_length=2)] = [1, 1]


class _About(_Kinds):
    sample: str = ""
    operator: str = ""
    comment: str = ""
    tags: list[str] = []


class _Completion(_Kinds):
    status: str = ""
    lacking: dict[str, _Count] = {}
    sequence: _Count = 0
    optics: dict[str, Any] = {}


class _Document(_Kinds):
    """Keys may be absent: a reader asks for those that it cannot do without."""

    id: str = ""
    status: str = ""
    pipeline: str = ""
    instrument: str = ""
    source: str = ""
    started_ns: _Time = 0
    finished_ns: _Time | None = None
    positions_total: _Count = 0
    positions_done: _Count = 0
    missing: _Count = 0
    scan: _Scan = _Scan()
    detector: dict[str, Any] = {}
    optics: dict[str, Any] | None = None
    counters: dict[str, Any] | None = None
    settings: dict[str, Any] = {}
    versions: dict[str, Any] | None = None
    notes: list[Any] | None = None
    not_written: list[str] | None = None
    session: str | None = None
    about: _About | None = None
    completion: _Completion | None = None
    deleted: dict[str, Any] | None = None
    files: list[_File] = []


def checked(document: Mapping[str, Any]) -> Json:
    """The same document, of which every known key has a value of its kind. Raises FormatError."""
    try:
        _Document.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = plain_text(".".join(str(part) for part in first["loc"]))
        raise FormatError(f"{where}: {first['msg']}", "restore the file") from error
    return dict(document)


def read_scan_document(folder: Path) -> Json:
    """The scan.json of a folder. Raises FormatError, which names it, and OSError."""
    path = folder / SCAN_FILE
    document = read_object(path)
    try:
        return checked(document)
    except FormatError as error:
        raise FormatError(f"{plain_text(str(path))}: {error.message}", error.remedy) from error
