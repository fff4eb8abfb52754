"""The demo's microscope: a process of its own, which ends with the demo."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from stemd.cli.demo.setting import Ports
from stemd.errors import StemdError
from stemd.portable import module_command

END_S = 0.4
"""It is killed where it does not end by itself."""


@contextlib.asynccontextmanager
async def microscope(command: list[str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, Ports]]:
    """The process, started with this command of stemd, and its ports."""
    camera = await asyncio.create_subprocess_exec(
        *module_command("stemd", *command, "--port", "0", "--control-port", "0", "--json"),
        "--end-with-input",
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.PIPE,  # held until this process ends, whatever ends it
        start_new_session=True,
    )
    try:
        yield camera, await _ports(camera)
    finally:
        with contextlib.suppress(ProcessLookupError):
            camera.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(camera.wait(), END_S)
        if camera.returncode is None:
            camera.kill()
            await camera.wait()


async def _ports(camera: asyncio.subprocess.Process) -> Ports:
    assert camera.stdout is not None
    while line := await camera.stdout.readline():
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if isinstance(document, dict) and document.get("event") == "ready":
                return Ports(int(document["data_port"]), int(document["control_port"]))
    raise StemdError("the virtual microscope did not start", "see the lines above for its reason")
