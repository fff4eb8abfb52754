"""What the scan.json beside a record says of how to read it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stemd.acquisition import Optics, Scan
from stemd.adapters.base import AdapterSettings
from stemd.config.resolved import EngineConfig
from stemd.errors import FormatError, StemdError
from stemd.storage.archive import records
from stemd.storage.camera import camera_of
from stemd.storage.folder import SCAN_FILE
from stemd.storage.scan_document import read_scan_document


@dataclass(frozen=True, slots=True)
class RecordedScan:
    """The scan, optics, camera and engines of a record, as its scan.json has them.

    `optics.mask` lists the pixels that were masked. `left_out` says in words which of all this
    this version of stemd does not understand.
    """

    id: str
    scan: Scan
    optics: Optics
    camera: AdapterSettings | None
    engines: tuple[EngineConfig, ...]
    left_out: tuple[str, ...]


def recorded_scan(record: Path) -> RecordedScan | None:
    """What scan.json says of the record beside it; None where there is none.

    Raises FormatError where there is one that cannot be understood.
    """
    folder = record.parent
    if not (folder / SCAN_FILE).is_file():
        return None
    try:
        document = read_scan_document(folder)
    except OSError as error:
        text = f"{folder / SCAN_FILE} cannot be read: {error.strerror or error}"
        raise FormatError(text, "check its permissions") from error
    names = {file["name"] for file in document.get("files", ())}
    if not records([record.name]) and record.name not in names:
        return None  # images of another file, made into this folder
    return _of(document, folder / SCAN_FILE)


def record_in(folder: Path) -> Path | None:
    """The record in the folder of a scan; None where it holds none."""
    names = records(path.name for path in folder.iterdir())
    return folder / names[0] if names and (folder / SCAN_FILE).is_file() else None


def _of(document: Mapping[str, Any], path: Path) -> RecordedScan:
    left_out: list[str] = []
    try:
        scan = Scan.model_validate(document["scan"])
        optics = _optics(document, left_out)
    except (KeyError, ValidationError) as error:
        text = f"{path}: its scan or optics cannot be understood: {error}"
        raise FormatError(text, "give --scan and --optics, and move the file away") from error
    camera = camera_of(document.get("camera"))
    if camera is None and isinstance(document.get("camera"), Mapping):
        left_out.append("camera")
    return RecordedScan(
        str(document.get("id", "")),
        scan,
        optics,
        camera,
        tuple(_engines(document, left_out)),
        tuple(left_out),
    )


def _optics(document: Mapping[str, Any], left_out: list[str]) -> Optics:
    known = dict(document.get("optics") or {})
    unknown = sorted(set(known) - set(Optics.model_fields))
    left_out += [f"optics.{key}" for key in unknown]
    mask = document.get("mask")
    if isinstance(mask, Mapping) and isinstance(mask.get("pixels"), list):
        known["mask"] = mask["pixels"]
    return Optics.model_validate({key: known[key] for key in known if key not in unknown})


def _engines(document: Mapping[str, Any], left_out: list[str]) -> list[EngineConfig]:
    found = []
    settings = document.get("settings") or {}
    for name, kind in (document.get("engines") or {}).items():
        own = settings.get(name)
        table = dict(own) if isinstance(own, Mapping) else {}
        if name != kind:
            table["name"] = name
        try:
            found.append(EngineConfig.of(str(kind), table))
        except StemdError:
            left_out.append(f"engine {name}")
    return found
