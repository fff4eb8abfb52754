"""The daemon's side of the process that makes images again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import pickle
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.offline.completion import FULL_SPEED, YIELD
from stemd.offline.completion.work import CompletionJob
from stemd.offline.same_code import environment
from stemd.portable import module_command
from stemd.results import Result

MAX_PIXELS = 1 << 28
LINE_BYTES = 1 << 20
REMEDY = "stemd process of the scan's record makes the images"

Progress = Callable[[int, int], None]
"""(done, total) of the record."""

log = get_logger(__name__)


async def made(job: CompletionJob, progress: Progress) -> list[Result]:
    """Have the images made in a process of its own; cancelling kills it.

    Raises StemdError, ReplacedError where such a process would run other code.
    """
    own = await asyncio.to_thread(environment)
    process = await asyncio.create_subprocess_exec(
        *module_command("stemd.offline.completion"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        env=own,
        # a group to be killed as a whole; no session, for the reason given in replay.player
        process_group=0,
    )
    assert process.stderr is not None
    last_words = asyncio.create_task(_last_words(process.stderr))
    try:
        return await _results(process, job, progress, last_words)
    finally:
        # it has nothing to save; what it may have started holds its pipes open, so that nobody
        # would ever hear of its end
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
        last_words.cancel()


async def _results(
    process: asyncio.subprocess.Process,
    job: CompletionJob,
    progress: Progress,
    last_words: asyncio.Task[str],
) -> list[Result]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write((YIELD if job.yields else FULL_SPEED) + pickle.dumps(job))
    results: list[Result] = []
    while line := await process.stdout.readline():
        said = json.loads(line)
        match said["say"]:
            case "progress":
                progress(said["done"], said["total"])
            case "image":
                results.append(await _image(process.stdout, said))
            case "failed":
                raise StemdError(said["message"], said["remedy"])
            case "end":
                return results
    code = await process.wait()
    why = await last_words or f"exit code {code}"
    raise StemdError(f"the process that makes the images ended unexpectedly ({why})", REMEDY)


async def _image(out: asyncio.StreamReader, about: dict[str, Any]) -> Result:
    shape = tuple(about["shape"])
    if math.prod(shape) > MAX_PIXELS:
        raise StemdError(f"an image of {shape[0]} x {shape[1]} pixels is too large", REMEDY)
    try:
        pixels = np.frombuffer(await out.readexactly(4 * math.prod(shape)), "<f4")
    except asyncio.IncompleteReadError as error:
        raise StemdError("the process that makes the images ended too early", REMEDY) from error
    image = pixels.reshape(shape).astype(np.float32, copy=False)
    return Result(
        about["name"], image, about["units"], about["axes"], about["pixel_size"], about["extra"]
    )


async def _last_words(errors: asyncio.StreamReader) -> str:
    """What it wrote to its log last."""
    words = ""
    while line := await errors.readline():
        words = line.decode(errors="replace").strip() or words
        log.debug("completion", said=words)
    return words
