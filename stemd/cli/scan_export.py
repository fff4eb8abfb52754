"""`stemd scans export`: the images of a past scan in other forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stemd.errors import StemdError, UsageError


def export(folder: Path, out: Path, kinds: Sequence[str]) -> tuple[list[Path], list[StemdError]]:
    """Write the images of a scan's folder into another one, by these writers.

    Returns the files, and why others could not be written. Raises StemdError.
    """
    from stemd.acquisition import Acquisition, Detector
    from stemd.api.past_scan import open_scan
    from stemd.results import Result, Snapshot
    from stemd.storage.files import disk_error
    from stemd.storage.writers import write_results

    scan = open_scan(folder)
    if not scan.images:
        raise UsageError(f"{folder} holds no images", "make them: stemd process its record")
    detector = scan.document["detector"]
    acquisition = Acquisition(
        scan.scan,
        Detector(
            str(detector.get("name", "")),
            (int(detector["shape"][0]), int(detector["shape"][1])),
            str(detector.get("dtype", "u2")),
            int(detector.get("bit_depth", 0)),
        ),
        scan.id,
        int(scan.document["started_ns"]),
        str(scan.document.get("source", "")),
    )
    settings = scan.document.get("settings") or {}
    results = [
        Result(image.name, image.image, image.units, image.axes, image.pixel_size, image.details)
        for image in scan.images.values()
    ]
    done, total = int(scan.document["positions_done"]), int(scan.document["positions_total"])
    finished_ns = int(scan.document.get("finished_ns") or acquisition.started_ns)
    revision = settings.get("revision")
    snapshot = Snapshot(
        acquisition, results, done, total, True, 0, finished_ns,
        revision if isinstance(revision, int) else 0,
    )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, "make the folder", out).of_option("--out") from error
    written = write_results(kinds, out, snapshot, settings)
    return [out / record.name for record in written.files], list(written.errors)
