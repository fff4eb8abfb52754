"""Recorded .mib files: one, several of one series, or what one tells before its scan is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stemd.acquisition import Scan
from stemd.adapters.frames.format import Announcement
from stemd.adapters.frames.joined import JoinedFiles
from stemd.adapters.frames.recording import FrameRecording
from stemd.adapters.frames.scans import fitting_shapes
from stemd.adapters.frames.storage import MappedFile
from stemd.adapters.merlin.counters import BothCounters, alternates
from stemd.adapters.merlin.hdr import parse_hdr
from stemd.adapters.merlin.header import MAX_HEADER_BYTES
from stemd.adapters.merlin.stream import MerlinFormat, announcement
from stemd.adapters.recordings.address import RecordingPath
from stemd.adapters.recordings.remote import read_beside


def _read_hdr(path: RecordingPath) -> Announcement | None:
    for suffix in (".hdr", ".HDR"):
        try:
            raw = read_beside(path, suffix, MAX_HEADER_BYTES)
        except OSError:
            return None
        if raw is not None:
            return announcement(parse_hdr(raw))
    return None


def open_joined(paths: Sequence[Path], scan: Scan | None = None) -> FrameRecording:
    """Open several .mib files as one series of frames. Raises FormatError, OSError."""
    camera = MerlinFormat()
    storage = JoinedFiles(paths, camera)
    return FrameRecording(paths[0], camera, scan, _read_hdr(paths[0]), storage=storage)


def open_recording(path: RecordingPath, scan: Scan | None = None) -> FrameRecording:
    """Open a .mib file, with or without its .hdr. Raises FormatError, OSError, CameraError."""
    announced = _read_hdr(path)
    if announced is not None and announced.both_counters and isinstance(path, Path):
        two, halves = alternates(path)
        if two:
            return BothCounters(path, scan, announced, halves=halves)
    return FrameRecording(path, MerlinFormat(), scan, announced)


def survey(path: Path) -> list[str]:
    """What a .mib file and its .hdr tell to whoever has to choose the size of the scan.

    Raises FormatError where there is no frame.
    """
    said = _read_hdr(path) or Announcement()
    storage = MappedFile(path)
    try:
        layout = MerlinFormat().file_frame(storage.head(MAX_HEADER_BYTES)).layout
        frames = storage.size // layout.frame_bytes
    finally:
        storage.close()
    height, width = layout.shape
    found = [f"{frames:,} frames of {height} x {width} pixels, {layout.depth} bit"]
    if said.frames is not None:
        endless = "an endless acquisition" if said.frames == 0 else f"{said.frames:,} frames"
        found.append(f"header file: {endless}" + (
            f", {said.frames_per_trigger:,} for each trigger" if said.frames_per_trigger else ""
        ))  # fmt: skip
    return [*found, fitting_shapes(frames)] if frames else found
