"""The end of a scan whose daemon died is told by the next one, whatever its folder still says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemd.daemon.earlier import tell_ended
from stemd.documents import to_json
from stemd.events import Hub
from tests.sinks.asyncapi import validator

ROW: dict[str, Any] = {
    "id": "20260101T000000000Z-1f2e", "pipeline": "cam", "instrument": "scope",
    "status": "aborted", "started": "2026-01-01T00:00:00.000000Z", "started_ns": 1,
    "finished": "2026-01-01T00:00:01.000000Z", "finished_ns": 2, "shape": [4, 5],
    "positions_done": 7, "positions_total": 20, "folder": "2026-01-01/x", "results": [], "bytes": 0,
}  # fmt: skip


@pytest.mark.parametrize("told", ["nothing", "damaged", "acquiring", "complete"])
async def test_the_end_is_told_with_what_is_known(tmp_path: Path, told: str) -> None:
    hub, said = Hub(), list[tuple[str, dict[str, Any]]]()
    hub.add(SimpleNamespace(on_document=lambda *told: said.append(told)))  # type: ignore[arg-type]
    hub.expect(["cam"])
    folder = tmp_path / ROW["folder"]
    folder.mkdir(parents=True)
    text = {"damaged": "{", "acquiring": to_json({**ROW, "status": "acquiring"})}.get(told)
    if told == "complete":
        text = to_json({**ROW, "status": "complete", "detector": {"name": "x"}, "files": []})
    if text is not None:
        (folder / "scan.json").write_text(text)
    rows = {
        ROW["id"]: ROW,
        "b": {**ROW, "instrument": "other"},
        "c": {**ROW, "pipeline": "gone", "folder": "c"},
    }
    store: Any = SimpleNamespace(
        instrument="scope", data_dir=tmp_path, catalogue=SimpleNamespace(get=rows.get)
    )
    await tell_ended(hub, store, [*rows, "unknown"])
    ((pipeline, document),) = said
    assert pipeline == "cam"
    assert document["event"] == ("finished" if told == "complete" else "aborted")
    assert document["positions_done"] == 7
    assert "detector" not in document
    times = {"time": "2026-01-01T00:00:01.000000Z", "time_ns": 2}
    validator("scan").validate(json.loads(to_json(document | times)))
