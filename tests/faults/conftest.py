"""The fault matrix: a row a fault, what was sent and what arrived, as a table at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from tests.daemon.conftest import make_rig, module_rig, rig, rig_frames
from tests.daemon.rig import POSITIONS, Rig

__all__ = ["make_rig", "module_rig", "rig", "rig_frames"]

MEMORY_MB = 700
"""Resident memory of a daemon with a 256 x 256 camera, whatever is done to it."""
_ROW = "row of the fault matrix"


@dataclass
class Row:
    """One line of the matrix, filled in while its test goes on."""

    fault: str
    sent: str = ""
    arrived: str = ""
    said: str = ""
    healed: str = ""
    memory_mb: float = 0.0
    notes: list[str] = field(default_factory=list)

    def count(self, rig: Rig, *documents: dict[str, Any]) -> None:
        """What the camera sent up to now, and what these scans (all of them: []) hold."""
        frames = sum(len(scan) for scan in rig.camera.sent)
        self.sent = f"{len(rig.camera.sent)} scans, {frames} frames"
        told = documents or rig.events("finished", "aborted")
        done = sum(d["positions_done"] for d in told)
        status = ", ".join(d["status"] for d in told)
        self.arrived = f"{len(told)} scans ({status}), {done} positions"

    def wrong(self, rig: Rig, kind: str, text: str) -> None:
        """Wait until the state topic names what is wrong, with a remedy."""

        def found() -> list[dict[str, Any]]:
            errors = [e for errors in rig.states("errors") for e in errors]
            return [e for e in errors if e["kind"] == kind and text in e["message"]]

        rig.until_state(lambda _: found(), f"the state says {text!r}")
        assert found()[0]["remedy"]
        self.said = found()[0]["message"]

    def heal(self, rig: Rig) -> dict[str, Any]:
        """A whole scan: it must come whole, bit for bit, and nothing be wrong any more."""
        count = len(rig.events("finished", "aborted"))
        rig.camera.scan()
        document = max(rig.finished(count + 1), key=lambda d: d["started_ns"])
        assert (document["status"], document["positions_done"]) == ("complete", POSITIONS)
        same(rig, document, rig.camera.sent[-1])
        rig.until_state(
            lambda s: s["state"] == "waiting" and s["last_error"] is None, "nothing is wrong"
        )
        self.healed = "yes"
        return document

    def remember_memory(self, rig: Rig) -> None:
        """Resident memory must be what it always is."""
        self.memory_mb = psutil.Process(rig.daemon.process.pid).memory_info().rss / 2**20
        assert self.memory_mb < MEMORY_MB


def same(rig: Rig, document: dict[str, Any], frames: list[bytes]) -> None:
    """The record on disk is these frames, byte for byte, and the catalogue's checksum is its."""
    record = rig.record(document)
    assert len(record) == sum(map(len, frames))
    assert record == b"".join(frames)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Row]]:
    """Makes this test's row; it is printed when the test is over."""
    made: list[Row] = []

    def make(fault: str) -> Row:
        made.append(Row(fault))
        return made[-1]

    yield make
    for one in made:
        memory = f"{one.memory_mb:.0f}" if one.memory_mb else ""
        cells = (one.fault, one.sent, one.arrived, one.said, one.healed, memory)
        sys.stdout.write(" | ".join(cells) + "\n")
        request.node.user_properties.append((_ROW, cells))  # reports carry it between processes


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The whole matrix."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    rows = [
        tuple(cells)
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, cells in report.user_properties
        if name == _ROW
    ]
    if not rows:
        return
    head = ("fault", "sent", "arrived", "the daemon said", "healed", "MB")
    limits = (44, 24, 60, 76, 6, 4)
    table = [tuple(c[:n] for c, n in zip(r, limits, strict=True)) for r in [head, *rows]]
    widths = [max(len(r[i]) for r in table) for i in range(len(head))]
    terminalreporter.section("fault matrix")
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line("  ".join(cells).rstrip())
