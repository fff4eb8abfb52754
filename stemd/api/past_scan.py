"""`open_scan`: a scan that stemd wrote, its images and its patterns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from stemd.acquisition import Optics, Scan
from stemd.api import plan
from stemd.api.images import About, Image, Images
from stemd.api.patterns import Patterns
from stemd.api.plan import EnginesLike, OpticsLike, ScanLike
from stemd.api.processing import process
from stemd.api.progress import ProgressLike
from stemd.errors import FormatError, UsageError

__all__ = ["PastScan", "Patterns", "open_scan"]


class PastScan:
    """A scan in its folder. Nothing but scan.json is read until it is asked for.

    `path`: the folder; `document`: all that scan.json says, with the settings it was made with.
    """

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.document = document
        self.scan = plan.validated(Scan, document["scan"], f"{path}/scan.json: scan")
        self.optics = plan.validated(Optics, document["optics"], f"{path}/scan.json: optics")

    @property
    def id(self) -> str:
        """The scan's id."""
        return str(self.document["id"])

    @property
    def status(self) -> str:
        """`complete`, `incomplete`, `aborted`, or `acquiring` while it is being written."""
        return str(self.document["status"])

    @property
    def missing(self) -> int:
        """Probe positions without data."""
        return int(self.document["missing"])

    @cached_property
    def images(self) -> Images:
        """The images in the folder. Raises FormatError for one that cannot be read."""
        from stemd.storage.archive import read_tiff

        about = self._about()
        found = []
        for path in sorted(self.path.glob("*.tif")):
            try:
                pixels, said = read_tiff(path)
            except Exception as error:  # whatever a broken file makes the reader raise
                raise FormatError(f"{path} cannot be read: {error}", "copy it again") from error
            axes = said.get("axes", "scan")
            size = said.get("pixel_size_angstrom" if axes == "scan" else "pixel_size_mrad")
            pixels.flags.writeable = False
            units = str(said.get("units", ""))
            details = {key: value for key, value in said.items() if key not in _CALIBRATION}
            found.append(Image(path.stem, pixels, units, axes, size, details, about))
        return Images(found, about)

    @property
    def record(self) -> Path | None:
        """The camera's own bytes: in the folder, or where the folder was processed from.

        None where they are not on this machine.
        """
        from stemd.storage.archive import records

        names = records(path.name for path in self.path.iterdir())
        if names:
            return self.path / names[0]
        source = Path(str(self.document.get("source", "")))
        return source if source.is_file() else None

    def patterns(self) -> Patterns:
        """The patterns (y, x, ky, kx), read when they are indexed; close them after use.

        Raises UsageError where there is no record, or one of events, which have no patterns.
        """
        from stemd.storage.camera import camera_of

        return Patterns(self._needed(), self.scan, camera_of(self.document.get("camera")))

    def process(
        self,
        engines: EnginesLike = None,
        *,
        scan: ScanLike = None,
        optics: OpticsLike = None,
        camera: Mapping[str, Any] | None = None,
        correct: bool | str = False,
        jobs: int | None = None,
        progress: ProgressLike = None,
    ) -> Images:
        """The record again, with other engines or settings; arguments as in `process`.

        `scan` and `optics` change single keys of those that the scan was taken with:
        `optics={"rotation_deg": 12}` leaves the rest as it is. Raises UsageError where there is
        no record.
        """
        known = self.scan.model_dump()
        return process(
            self._needed(),
            engines,
            scan=plan.scan_of(scan, known),
            optics=plan.optics_of(optics, self.optics),
            camera=camera,
            correct=correct,
            jobs=jobs,
            progress=progress,
        )

    def _needed(self) -> Path:
        record = self.record
        if record is None:
            raise UsageError(
                f"{self.path} holds no record, and {self.document.get('source') or 'its source'} "
                "is not a file here",
                "api.process(path of the recording) with the scan's settings makes the images",
            )
        return record

    def _about(self) -> About:
        document = self.document
        return About(
            id=self.id,
            source=str(self.path),
            scan=self.scan,
            optics=self.optics,
            detector_shape=tuple(document["detector"]["shape"]),
            status=document["status"],
            positions_done=int(document["positions_done"]),
            positions_total=int(document["positions_total"]),
            notices=tuple(str(note) for note in document.get("notes", ())),
        )

    def __repr__(self) -> str:
        ny, nx = self.scan.shape
        missing = f", {self.missing} missing" if self.missing else ""
        return f"<PastScan {self.id}: {ny}x{nx} positions, {self.status}{missing}>"


_CALIBRATION = (
    *("name", "units", "shape", "axes", "pixel_size_angstrom", "pixel_size_mrad", "settings"),
    *("scan", "positions_done", "positions_total", "final", "sequence", "time", "time_ns"),
    "settings_revision",
)


def open_scan(folder: str | Path) -> PastScan:
    """A scan that stemd wrote, live or with `stemd process`: its folder, or its scan.json.

    Raises FormatError where there is no scan.json, or none that can be understood.
    """
    path = Path(folder).expanduser()
    from stemd.storage.scan_document import read_scan_document

    file = path if path.name == "scan.json" else path / "scan.json"
    try:
        document = read_scan_document(file.parent)
        missing = [key for key in _NEEDED if key not in document]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
    except FileNotFoundError as error:
        raise FormatError(
            f"{path} is not the folder of a scan: it has no scan.json",
            "name <data_dir>/<day>/<scan id>; `stemd scans` lists them",
        ) from error
    except (OSError, ValueError, FormatError) as error:
        why = error.message if isinstance(error, FormatError) else error
        raise FormatError(f"{file} cannot be read: {why}", "copy the folder again") from error
    return PastScan(file.parent, document)


_NEEDED = (
    *("id", "status", "scan", "optics", "detector"),
    *("positions_done", "positions_total", "missing"),
)
