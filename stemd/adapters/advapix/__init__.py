"""AdvaCam's event cameras: .t3p and .t3pa files, recorded or growing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.acquisition import Scan
from stemd.adapters.advapix.settings import AdvapixSettings
from stemd.adapters.recordings.address import RecordingPath
from stemd.blocks import Message
from stemd.plugins import Plugin

if TYPE_CHECKING:
    from stemd.adapters.advapix.adapter import AdvapixAdapter
    from stemd.adapters.events.recording import EventRecording

__all__ = ["PLUGIN"]


def _build(settings: AdvapixSettings) -> AdvapixAdapter:
    # imported late: the kernels take a while and `stemd plugins` does not need them
    from stemd.adapters.advapix.adapter import AdvapixAdapter

    return AdvapixAdapter(settings)


def _warm(settings: AdvapixSettings) -> Iterable[Message]:
    from stemd.adapters.advapix.warm import warm

    return warm(settings)


def _open(path: RecordingPath, scan: Scan | None = None, **options: Any) -> EventRecording:
    from stemd.adapters.advapix.recording import open_recording

    return open_recording(path, scan, **options)


def _survey(path: Path) -> list[str]:
    from stemd.adapters.advapix.recording import survey

    return survey(path)


PLUGIN = Plugin(
    name="advapix",
    summary="AdvaCam event camera through the .t3p file Pixet writes; .t3p and .t3pa files",
    settings=AdvapixSettings,
    build=_build,
    warm=_warm,
    suffixes=(".t3p", ".t3pa"),
    reads_remote=True,
    open_recording=_open,
    survey=_survey,
)
