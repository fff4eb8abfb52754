"""Sends a daemon in this process what may come from outside, wrong in every way, at speed.

    python -m benchmarks.fuzz_outside                        # 1,000,000 documents
    python -m benchmarks.fuzz_outside --documents 50000 --seed 3
    python -m benchmarks.fuzz_outside --minutes 10

Commands, settings and what browsers say go through the real ways in (gate, desk, hub, queue, the
pipeline itself, whose camera is not there); `scan.json`, `session.json`, kept settings and config
files through their readers. Every 10,000 documents it asks for what must not have happened: an
unhandled exception in the log, a request without its one reply, a task or thread that has died, a
sound request that is not carried out. Ends with 1 if there was any. The first input of each kind
of finding is written to `--out`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from aiomqtt import Message

from benchmarks.fuzz_documents import Documents, Kind
from stemd.config.file import parse
from stemd.daemon.sessions.files import SessionFiles
from stemd.daemon.supervisor import Daemon
from stemd.documents import object_from_json, to_json
from stemd.errors import StemdError
from stemd.mqtt.connection import Outgoing
from stemd.mqtt.inbound import Gate
from stemd.mqtt.requests import RequestDesk
from stemd.mqtt.topics import Topics
from stemd.page import protocol
from stemd.storage.scan_document import read_scan_document

CHECK_EVERY = 10_000
MOST_IN_FLIGHT = 400
PATIENCE_S = 60.0
CONFIG = """
[daemon]
instrument = "fuzz"
data_dir = {data}
[[pipeline]]
name = "cam"
[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
data_port = 1
control_port = 1
control_timeout_s = 0.2
scan = {{ shape = [6, 8], step_size_angstrom = 0.5 }}
[pipeline.optics]
energy_ev = 300e3
convergence_semi_angle_mrad = 12.0
pixel_size_mrad = 1.0
[[pipeline.engine]]
type = "ricom"
kernel_size = 5
[[pipeline.engine]]
type = "virtual_detector"
detectors = {{ bf = [0.0, 20.0] }}
"""


class Findings:
    """What must not have happened; the first input of each kind is kept."""

    def __init__(self, out: Path) -> None:
        self.found: Counter[str] = Counter()
        self._out = out

    def add(self, what: str, data: bytes = b"") -> None:
        """Something was found."""
        self.found[what] += 1
        if self.found[what] == 1:
            self._out.mkdir(parents=True, exist_ok=True)
            (self._out / f"finding-{len(self.found)}.bin").write_bytes(data)
            sys.stderr.write(f"FOUND {what}: {data[:300]!r}\n")

    def log(self, logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        """Looks at every line of the log; a structlog processor."""
        if event.get("exc_info"):
            self.add(f"log: {event.get('event')}: {event['exc_info']!r}"[:300])
        elif "begun again" in str(event.get("event")):
            self.add(f"log: {event}"[:300])
        raise structlog.DropEvent


class Outside:
    """Everybody who sends something to one daemon."""

    def __init__(self, daemon: Daemon, documents: Documents, findings: Findings) -> None:
        self.sent = 0
        self.of_kind: Counter[str] = Counter()
        self._daemon, self._documents, self._findings = daemon, documents, findings
        self._topics = Topics("fuzz")
        self._news = asyncio.Event()
        self._asked = self._replied = 0
        self._desk = RequestDesk(self._topics, daemon.hub, self._answer, Gate())
        self._tasks: set[asyncio.Task[Any]] = set()
        self._folder = Path(tempfile.mkdtemp(dir=daemon.config.daemon.data_dir))
        (self._folder / "sessions" / "one").mkdir(parents=True)
        self._live = daemon.pipelines.running["cam"].live
        self._ways: dict[Kind, Callable[[bytes], None]] = {
            "settings": lambda data: self._request("settings", data),
            "command": lambda data: self._request("command", data),
            "page": self._page,
            "scan": self._scan,
            "session": self._session,
            "kept": self._kept,
            "config": self._config,
        }

    @property
    def waiting(self) -> int:
        """Requests without their reply."""
        return self._asked - self._replied

    async def send(self) -> None:
        """One document."""
        kind, data = self._documents.next()
        self.sent += 1
        self.of_kind[kind] += 1
        try:
            self._ways[kind](data)
        except (StemdError, ValueError) as error:
            str(error).encode()  # a refusal that can be said
        except Exception as error:
            self._findings.add(f"{kind}: {type(error).__name__}: {error}"[:300], data)
        if self.waiting > MOST_IN_FLIGHT or self.sent % 50 == 0:
            await asyncio.sleep(0)
        await self._until_waiting(MOST_IN_FLIGHT)

    async def _until_waiting(self, most: int) -> None:
        """Return when no more requests than this wait for their reply, or after a long time."""
        until = time.monotonic() + PATIENCE_S
        while self.waiting > most and time.monotonic() < until:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), 1.0)

    def _answer(self, message: Outgoing) -> None:
        if message.topic.startswith(f"{self._topics.base}/"):
            self._news.set()
            self._replied += 1
            json.loads(message.payload)

    def _request(self, kind: Any, data: bytes) -> None:
        self._asked += 1
        self._desk.receive(Message("t", data, 1, False, 1, None), "cam", kind)

    def _page(self, data: bytes) -> None:
        said = protocol.parse(data.decode("utf-8", "replace"))
        if isinstance(said, protocol.Request):
            self._asked += 1
            work = self._daemon.hub.request(said.pipeline, said.kind, said.request)
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._page_answered)

    def _page_answered(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._news.set()
        self._replied += 1
        if task.cancelled() or task.exception() is not None:
            self._findings.add(f"page: a request raised {task!r}"[:300])
        else:
            to_json(task.result()).encode()

    def _scan(self, data: bytes) -> None:
        (self._folder / "scan.json").write_bytes(data)
        to_json(read_scan_document(self._folder)).encode()

    def _session(self, data: bytes) -> None:
        path = self._folder / "sessions" / "one" / "session.json"
        path.write_bytes(data)
        for book in SessionFiles(_Elsewhere(self._folder)).stored():  # type: ignore[arg-type]
            book.goes_on(1_800_000_000 * 10**9, "boot")
            book.got({"id": "x", "status": "complete"}, 1_800_000_000 * 10**9)
            book.over(1_800_000_000 * 10**9, 10**12)
            to_json(book.shown()).encode()

    def _kept(self, data: bytes) -> None:
        change = object_from_json(data)
        live, refused = self._live.as_far_as_allowed(change)
        to_json([live.as_json(), [str(each) for each in refused.values()]]).encode()

    def _config(self, data: bytes) -> None:
        parse(data.decode("utf-8", "replace"))

    async def check(self) -> None:
        """Whether everything lives, and every request has its reply."""
        await self._until_waiting(0)
        if self.waiting:
            self._findings.add(f"{self.waiting} requests have no reply, or more than one")
            self._asked = self._replied = 0
        answer = await self._daemon.hub.request("cam", "settings", {"publish.rate_hz": 10.0})
        if not answer["ok"]:
            self._findings.add(f"a sound request is refused: {answer}"[:300])
        for owner in self._daemon._owners_of_tasks():
            for name, count in {**owner.failures, **dict.fromkeys(owner.broken, 1)}.items():
                self._findings.add(f"the task {name} died {count} times")
        if not any(each.name == "read-cam" for each in threading.enumerate()):
            self._findings.add("the reader's thread has died")


class _Elsewhere:
    """A data folder that is no daemon's, for the reader of sessions."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir, self.instrument = data_dir, "fuzz"

    def check(self) -> None:
        """It is there."""


async def _run(args: argparse.Namespace, findings: Findings, data: Path) -> int:
    daemon = Daemon(parse(CONFIG.format(data=json.dumps(str(data)))))
    running = asyncio.ensure_future(daemon.run())
    await daemon.ready.wait()
    outside = Outside(daemon, Documents(args.seed), findings)
    began = told = time.monotonic()
    until = began + args.minutes * 60.0
    while outside.sent < args.documents and time.monotonic() < until and not running.done():
        await outside.send()
        if outside.sent % CHECK_EVERY == 0:
            await outside.check()
            now = time.monotonic()
            rate = CHECK_EVERY / (now - told)
            sys.stdout.write(f"{outside.sent:9,d} documents, {rate:7,.0f} a second\n")
            sys.stdout.flush()
            told = now
    await outside.check()
    seconds = time.monotonic() - began
    if running.done():
        findings.add("the daemon has ended")
    daemon.stop()
    await running
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in outside.of_kind.most_common())
    sys.stdout.write(
        f"{outside.sent:,} documents in {seconds:.0f} s, {outside.sent / seconds:,.0f} a second "
        f"({kinds}); findings: {dict(findings.found) or 'none'}\n"
    )
    return 1 if findings.found else 0


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=24 * 60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    args = parser.parse_args()
    findings = Findings(args.out)
    structlog.configure(processors=[findings.log], cache_logger_on_first_use=False)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(args, findings, Path(folder) / "data"))


if __name__ == "__main__":
    sys.exit(main())
