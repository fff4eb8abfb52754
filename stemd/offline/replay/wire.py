"""Between the daemon and a replay: the job, JSON lines to the replay, framed messages back.

A message from the replay is a little-endian header and two parts::

    0  u8  kind: 0 = JSON text, 1 = image frame of stemd.image_frames
    1  u16 bytes of the name: a text's type, or an image's name
    3  u32 bytes of the body
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemd.config.resolved import PipelineConfig

PIPELINE = "@replay"
"""Stands where a pipeline's name does; no pipeline can be called so."""
TEXT, IMAGE = 0, 1
HEADER = struct.Struct("<BHI")


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """What is to be played: the record of one scan, with the engines of its pipeline.

    `scan`, `settings` and `camera` are those of its scan.json. The whole scan takes `seconds`; the
    process may have `memory_bytes` of its own.
    """

    config: PipelineConfig
    scan_id: str
    record: Path
    scan: Mapping[str, Any]
    settings: Mapping[str, Any]
    seconds: float
    memory_bytes: int
    camera: Mapping[str, Any] | None = None


def packed(kind: int, name: str, body: bytes) -> tuple[bytes, bytes]:
    """One message as header with name, and body."""
    text = name.encode()
    return HEADER.pack(kind, len(text), len(body)) + text, body
