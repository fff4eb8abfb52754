"""A reload while the disk does not answer: the new config holds, completions are taken up later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemd.config.file import parse
from stemd.config.resolved import Config
from stemd.daemon import earlier
from stemd.daemon.supervisor import Daemon
from stemd.errors import SinkError
from stemd.tasks import Tasks
from tests.daemon.test_config import GOOD


async def test_a_catalogue_that_is_locked_refuses_no_config_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = parse(GOOD + '\n[[session]]\nname = "night"\nstart = false\n')
    daemon = Daemon(parse(GOOD), reload=lambda: new)
    asked: list[int] = []
    taken_up = asyncio.Event()

    async def resume() -> None:
        asked.append(1)
        if len(asked) < 3:
            raise SinkError("the catalogue is locked", "wait")
        taken_up.set()

    async def apply(config: Config) -> None:
        assert config is new

    fake: Any = SimpleNamespace(resume=resume, tasks=Tasks(), counts={})
    daemon._completer = fake
    monkeypatch.setattr(daemon.pipelines, "apply", apply)
    monkeypatch.setattr(earlier, "RECOVER_AGAIN_S", 0.01)
    await daemon.reload()
    assert daemon.config is new
    assert "config" not in daemon.health.red.told
    await asyncio.wait_for(taken_up.wait(), 10.0)
    assert len(asked) == 3
    await daemon._tasks.stop()
