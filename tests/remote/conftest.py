"""A web server, and short waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stemd.adapters.recordings import remote_errors, remote_stream

from .server import RangeServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    """Serves the test's folder."""
    made = RangeServer(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> int:
    """Many ranges even of a small file, no frame or hit aligned with them; bytes of each."""
    monkeypatch.setattr(remote_stream, "CHUNK_BYTES", 99_991)
    return 99_991


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> int:
    """Attempts at a read, one quickly after the other."""
    monkeypatch.setattr(remote_errors, "PAUSES_S", (0.01, 0.02, 0.03))
    return 4
