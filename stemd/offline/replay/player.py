"""The daemon's side of a replay: the other process, what it is asked and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stemd.logs import get_logger
from stemd.offline.replay.wire import HEADER, IMAGE, ReplayJob
from stemd.offline.same_code import environment
from stemd.portable import module_command
from stemd.tasks import end_all

STOP_S = 2.0
MAX_BODY = 1 << 28
MAX_UNREAD = 1 << 18
"""Bytes of requests that a replay which does not read may leave lying."""
_READ_AHEAD = 1 << 20

Told = Callable[[str, str], None]
"""(type, JSON text): called on the event loop."""
Shown = Callable[[str, bytes], Awaitable[None]]
"""(image, frame): nothing more is read until it returns."""

log = get_logger(__name__)


class Player:
    """One replay. `over` is set when its process has ended, whoever ended it."""

    def __init__(self, job: ReplayJob, told: Told, shown: Shown) -> None:
        self._job = job
        self._told = told
        self._shown = shown
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._last_words = ""
        self.over = asyncio.Event()

    async def start(self) -> None:
        """Start the process and give it the job. Raises ReplacedError."""
        own = await asyncio.to_thread(environment)
        if self.over.is_set():  # the viewer has left meanwhile
            return
        self._process = await asyncio.create_subprocess_exec(
            *module_command("stemd.offline.replay"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_READ_AHEAD,
            env=own,
            # Ctrl-C is the daemon's; a session of its own would also be a scheduling group of
            # its own, in which the lowest priority means nothing to the daemon's threads
            process_group=0,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(pickle.dumps(self._job))
        self._pump = asyncio.create_task(self._listen(self._process), name="replay")

    def ask(self, do: str, **message: Any) -> bool:
        """Send a request; False where the replay has ended or does not read any more."""
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None or self.over.is_set():
            return False
        if stdin.transport.get_write_buffer_size() > MAX_UNREAD:
            return False
        stdin.write(json.dumps({"do": do, **message}).encode() + b"\n")
        return True

    def watch(self, images: Mapping[str, int]) -> None:
        """The images that the viewer wants from now on."""
        self.ask("watch", images=dict(images))

    async def end(self) -> None:
        """End the process; returns when it has gone."""
        pump, self._pump = self._pump, None
        if pump is not None:
            await end_all((pump,))
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                # reads what is left: a process counts as ended when its pipes are, too
                await asyncio.wait_for(process.communicate(), STOP_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()
        self.over.set()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        said = asyncio.create_task(self._hear_log(process.stderr))
        try:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    await self._message(process.stdout)
            code = await process.wait()
            await said
            if code != 0:
                self._tell_death(code)
        finally:
            said.cancel()
            self.over.set()

    async def _message(self, out: asyncio.StreamReader) -> None:
        kind, name_bytes, size = HEADER.unpack(await out.readexactly(HEADER.size))
        if size > MAX_BODY:
            raise ValueError(f"a replay's message of {size} bytes is above {MAX_BODY}")
        name = (await out.readexactly(name_bytes)).decode()
        body = await out.readexactly(size)
        if kind == IMAGE:
            await self._shown(name, body)
        else:
            self._told(name, body.decode())

    async def _hear_log(self, errors: asyncio.StreamReader) -> None:
        while line := await errors.readline():
            self._last_words = line.decode(errors="replace").strip() or self._last_words
            log.debug("replay", said=self._last_words)

    def _tell_death(self, code: int) -> None:
        log.warning("a replay died", exit_code=code, said=self._last_words)
        document = {
            "state": "failed",
            "scan": self._job.scan_id,
            "message": f"the replay ended unexpectedly ({self._last_words or f'exit code {code}'})",
            "remedy": "try again; the finished images can be replayed in any case",
        }
        text = json.dumps({"type": "replay", "pipeline": "@replay", "document": document})
        self._told("replay", text)
