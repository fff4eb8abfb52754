"""What scan.json says of images that are completed from the record: `completion`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stemd import __version__
from stemd.acquisition import Acquisition, Detector, Scan, iso_utc
from stemd.documents import to_json
from stemd.errors import FormatError, SinkError
from stemd.results import Result, Snapshot
from stemd.storage.files import FileRecord, write_atomic
from stemd.storage.folder import SCAN_FILE
from stemd.storage.scan_document import read_scan_document

Json = dict[str, Any]

OUTSTANDING, DONE, FAILED, LEFT = "outstanding", "done", "failed", "left"
"""`completion.status`: to be done or under way; done; cannot be done; left to the user."""
NETWORK_KEYS = ("model", "model_sha256", "backend")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A scan with images that lack positions; `lacking`: how many, by engine.

    `optics`: what they are made with in the place of the scan's own.
    """

    scan_id: str
    pipeline: str
    started_ns: int
    lacking: Mapping[str, int]
    optics: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, of_scan: Mapping[str, Any]) -> Json:
        """The settings by which the images are made, from those of the scan."""
        return {**of_scan, "optics": {**of_scan.get("optics", {}), **self.optics}}


def outstanding(
    lacking: Mapping[str, int], sequence: int, optics: Mapping[str, Any] | None = None
) -> Json:
    """Of a scan that has ended with images that lack so many positions, by engine.

    `sequence` of its last snapshot; `optics`, see `Unfinished`.
    """
    what: Json = {"status": OUTSTANDING, "lacking": dict(lacking), "sequence": sequence}
    return _stamped({**what, "optics": dict(optics)} if optics else what)


def of_whole_record(document: Mapping[str, Any]) -> Json | None:
    """Of a scan that was cut off with a whole record: every image is to be made from it.

    But for those of engines with `complete = false`. None where no engine is left.
    """
    engines, settings = document.get("engines"), document.get("settings", {})
    total = int(document.get("positions_total", 0))
    lacking = {
        str(name): total
        for name in (engines if isinstance(engines, Mapping) else ())
        if isinstance(values := settings.get(name), Mapping)
        if values.get("complete") is not False
    }
    return outstanding(lacking, 0) if lacking else None


def done(
    before: Mapping[str, Any],
    results: Sequence[Result],
    seconds: float,
    optics: Mapping[str, Any] | None = None,
) -> Json:
    """The images were made anew: which, when, by which version, with which network.

    `optics`: what they were made with in the place of the scan's own, see `Unfinished`.
    """
    extras = [result.extra for result in results]
    networks = {
        str(extra["model"]): {key: extra.get(key) for key in NETWORK_KEYS[1:]}
        for extra in extras
        if "model" in extra
    }
    return _stamped(
        {
            "status": DONE,
            "lacking": before.get("lacking", {}),
            **({"optics": dict(optics)} if optics else {}),
            "images": [result.name for result in results],
            "version": __version__,
            "networks": networks,
            "seconds": round(seconds, 3),
        }
    )


def not_done(status: str, before: Mapping[str, Any], message: str, remedy: str) -> Json:
    """It cannot be done, or is left to the user."""
    lacking = before.get("lacking", {})
    return _stamped({"status": status, "lacking": lacking, "message": message, "remedy": remedy})


def _stamped(what: Json) -> Json:
    now = time.time_ns()
    return {**what, "time": iso_utc(now), "time_ns": now}


def is_outstanding(document: Mapping[str, Any]) -> bool:
    """Whether a scan document, or a row of the catalogue, says that images are to be completed."""
    completion = document.get("completion")
    return isinstance(completion, Mapping) and completion.get("status") == OUTSTANDING


def unfinished(document: Mapping[str, Any]) -> Unfinished:
    """What is to be done, by a scan document or a row of the catalogue."""
    completion = document["completion"]
    return Unfinished(
        document["id"],
        document["pipeline"],
        document["started_ns"],
        completion.get("lacking", {}),
        completion.get("optics", {}),
    )


def read(folder: Path) -> Json:
    """The scan document of a folder. Raises SinkError."""
    path = folder / SCAN_FILE
    try:
        document: Json = read_scan_document(folder)
        _ = document["completion"], document["files"], document["scan"], document["detector"]
    except (OSError, FormatError, KeyError) as error:
        raise SinkError(
            f"{path}: cannot be read: {type(error).__name__}: {error}",
            "stemd process of the scan's record makes the images",
        ) from error
    return document


def write(folder: Path, document: Json, completion: Json, files: Iterable[FileRecord] = ()) -> Json:
    """Write the scan document again with this completion and these new files. Raises SinkError."""
    records = {file["name"]: file for file in document["files"]}
    records |= {record.name: record.as_json() for record in files}
    document = {**document, "completion": completion, "files": list(records.values())}
    write_atomic(folder / SCAN_FILE, [(to_json(document, indent=1) + "\n").encode()])
    return document


def acquisition_of(document: Mapping[str, Any]) -> Acquisition:
    """The acquisition that a scan document is of."""
    scan = Scan.model_validate(document["scan"])
    about = document["detector"]
    detector = Detector(
        about["name"], (about["shape"][0], about["shape"][1]), about["dtype"], about["bit_depth"],
        about["header"],
    )  # fmt: skip
    return Acquisition(scan, detector, document["id"], document["started_ns"], document["source"])


def final_of(document: Mapping[str, Any], results: Sequence[Result]) -> Snapshot:
    """These images as finished ones of the scan that the document is of."""
    marked = [replace(result, extra={**result.extra, "completion": DONE}) for result in results]
    return Snapshot(
        acquisition=acquisition_of(document),
        results=marked,
        positions_done=document["positions_done"],
        positions_total=document["positions_total"],
        final=True,
        sequence=document["completion"].get("sequence", 0) + 1,
        time_ns=document["finished_ns"],
        settings_revision=document["settings"].get("revision", 1),
    )
