"""A night in minutes: scan after scan under random faults; everything must be there in the end.

    python -m benchmarks.soak --minutes 30                        # as many scans as fit
    python -m benchmarks.soak --scans 1000 --faults 200

Faults: the camera closes or resets the connection in mid-frame, stops early, falls silent, loses
frames, sends garbage and lengths that lie; the broker is frozen, or killed and started again; the
daemon is told to read its config again, and in the first quarter is killed. Each frame carries
the number of its scan, so that what arrived can be held against what was sent, byte for byte.

Ends with the balance: scans sent, in the catalogue, missing, short; status by fault; resident
memory at the beginning and the end of the longest run without a restart. Exit status 1 when
anything is missing that the fault itself did not destroy (a reset or a kill takes what was under
way), or when memory grew by more than `--growth` MB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.running import CONFIG, Broker, Daemon
from stemd.adapters.merlin.encoder import Camera, encode_frame, encode_hdr, message

NY, NX = 8, 12
POSITIONS = NY * NX
KIND = Camera((16, 16), 12)
IDLE_S = 1.0
CAMERA_FAULTS = (
    *("close", "reset", "stop early", "silent", "lost frames", "garbage", "lying length"),
)
OTHER_FAULTS = ("broker frozen", "broker restarted", "reload", "kill")


@dataclass
class Sent:
    """One scan as the camera sent it."""

    number: int
    fault: str
    frames: list[bytes] = field(default_factory=list)

    @property
    def destroys(self) -> bool:
        """Whether the fault takes bytes that had left the camera."""
        return self.fault in ("reset", "kill")


class FaultyCamera:
    """The data port of a camera that the script plays."""

    def __init__(self, pick: random.Random) -> None:
        self._pick = pick
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(60.0)
        self.port = int(self._server.getsockname()[1])
        self._client: socket.socket | None = None
        base = np.random.default_rng(7).integers(0, 4000, (POSITIONS, 16, 16), np.uint16)
        self._frames = [encode_frame(image, KIND, n + 1) for n, image in enumerate(base)]

    def client(self) -> socket.socket:
        """Whoever is connected, waiting for somebody."""
        if self._client is not None:
            self._client.setblocking(False)
            try:
                if self._client.recv(1) == b"":
                    self.drop()
            except BlockingIOError:
                pass
            except OSError:
                self.drop()
        if self._client is None:
            self._client, _ = self._server.accept()
        self._client.setblocking(True)
        return self._client

    def drop(self, *, reset: bool = False) -> None:
        """Hang up."""
        if self._client is not None:
            if reset:
                linger = b"\1\0\0\0\0\0\0\0"
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._client.close()
            self._client = None

    def frame(self, scan: int, number: int) -> bytes:
        """Frame `number` of a scan, which carries the scan's number in its first two pixels."""
        frame = bytearray(self._frames[number])
        frame[384:388] = (scan // 4000).to_bytes(2, "big") + (scan % 4000).to_bytes(2, "big")
        return bytes(frame)

    def send(self, sent: Sent) -> None:
        """A scan with its fault."""
        client, pick, fault = self.client(), self._pick, sent.fault
        cut = pick.randrange(1, POSITIONS - 1)
        stops = fault in ("close", "reset", "stop early", "silent", "kill")
        lost = {n for n in range(POSITIONS - 1) if pick.random() < 0.1}
        try:
            client.sendall(message(encode_hdr(KIND, POSITIONS)))
            for number in range(cut if stops else POSITIONS):
                frame = self.frame(sent.number, number)
                if fault == "lost frames" and number in lost and number > 0:
                    continue
                data = message(frame)
                if fault == "garbage" and pick.random() < 0.1:
                    data = pick.randbytes(pick.randrange(1, 3000)).replace(b"M", b"m") + data
                if fault == "lying length" and pick.random() < 0.1:
                    data = b"MPX,%010d," % pick.choice((0, 17, 9_999_999_999)) + frame
                client.sendall(data)
                sent.frames.append(frame)
            if fault in ("close", "reset"):
                client.sendall(message(self.frame(sent.number, cut))[: pick.randrange(1, 800)])
                self.drop(reset=fault == "reset")
        except OSError:
            self.drop()
            if not sent.destroys:
                raise

    def close(self) -> None:
        """Close both."""
        self.drop()
        self._server.close()


class Soak:
    """The trial."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.pick = random.Random(args.seed)
        self.camera = FaultyCamera(self.pick)
        self.broker = Broker(folder)
        self.sent: list[Sent] = []
        self.faults: Counter[str] = Counter()
        self.memory: list[tuple[float, float]] = []
        self.began = time.monotonic()

    def start(self) -> None:
        """A daemon, the first or after a kill."""
        mqtt = self.broker.table if Broker.available() else ""
        values = {"mqtt": mqtt, "port": self.camera.port, "idle": IDLE_S, "ny": NY, "nx": NX}
        self.daemon = Daemon(self.folder, CONFIG.format(data=self.folder / "data", **values))
        self.daemon.wait_ready()
        self.memory = []

    def run(self) -> dict[str, Any]:
        """Until the scans or the minutes are used up; the balance."""
        if Broker.available():
            self.broker.start()
        try:
            self.start()
            until = self.began + self.args.minutes * 60.0
            while len(self.sent) < self.args.scans and time.monotonic() < until:
                self.step()
            self.finished(30.0)
            self.sample()
            took, status = self.daemon.stop()
            return {**self.balance(), "stopped_in_s": round(took, 2), "exit_status": status}
        finally:
            with contextlib.suppress(OSError):
                self.daemon.process.kill()
            self.broker.send(signal.SIGCONT)
            self.broker.stop()
            self.camera.close()

    def step(self) -> None:
        """One scan, with a fault or not."""
        number = len(self.sent)
        scans = self.args.scans if self.args.scans < 10**9 else 1000
        due = self.args.faults * (number + 1) / scans
        fault = ""
        if sum(self.faults.values()) < due and self.pick.random() < 0.7:
            early = number < 0.25 * scans
            others = OTHER_FAULTS if early else OTHER_FAULTS[:-1]
            fault = self.pick.choice(CAMERA_FAULTS * 3 + others * 2)
            self.faults[fault] += 1
        if fault in ("kill", "reset"):
            self.finished(30.0)  # else they take scans before with them, which are under way
        sent = Sent(number, fault)
        self.sent.append(sent)
        if fault == "broker frozen":
            self.broker.send(signal.SIGSTOP)
        elif fault == "broker restarted":
            self.broker.stop()
        self.camera.send(sent)
        if fault == "kill":
            time.sleep(self.pick.uniform(0.0, 0.2))
            self.daemon.stop(signal.SIGKILL)
            self.camera.drop()
            self.start()
        elif fault == "reload":
            self.daemon.process.send_signal(signal.SIGHUP)
        elif fault == "silent":
            time.sleep(IDLE_S + 0.3)
        elif fault.startswith("broker"):
            time.sleep(self.pick.uniform(0.0, 1.0))
            if fault == "broker frozen":
                self.broker.send(signal.SIGCONT)
            elif Broker.available():
                self.broker.start()
        time.sleep(self.pick.uniform(0.0, self.args.pause))
        if number % 10 == 0:
            self.sample()

    def sample(self) -> None:
        """Resident memory in MB."""
        rss = psutil.Process(self.daemon.process.pid).memory_info().rss / 2**20
        self.memory.append((time.monotonic(), rss))

    def rows(self) -> list[tuple[str, str, str]]:
        """(id, status, folder) of the catalogue."""
        path = self.folder / "data" / "catalogue.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return list(db.execute("SELECT id, status, folder FROM scans ORDER BY started_ns"))

    def finished(self, seconds: float) -> None:
        """Until nothing more happens: no scan runs, and none has come for a moment."""
        end, before = time.monotonic() + seconds, -1
        while time.monotonic() < end:
            rows = self.rows()
            if len(rows) == before and not any(row[1] == "acquiring" for row in rows):
                return
            before = len(rows)
            time.sleep(IDLE_S + 0.5)

    def balance(self) -> dict[str, Any]:
        """What was sent against what is there."""
        by_number: dict[int, list[tuple[str, bytes]]] = {}
        statuses: Counter[str] = Counter()
        unreadable = 0
        for _, status, folder in self.rows():
            statuses[status] += 1
            path = self.folder / "data" / folder / "raw.mib"
            record = path.read_bytes() if path.is_file() else b""
            if len(record) < 388:
                unreadable += 1
                continue
            high, low = (
                int.from_bytes(record[384:386], "big"),
                int.from_bytes(record[386:388], "big"),
            )
            by_number.setdefault(high * 4000 + low, []).append((status, record))
        missing, short, destroyed = [], [], 0
        by_fault: dict[str, Counter[str]] = {}
        for sent in self.sent:
            found = by_number.get(sent.number, [])
            told = by_fault.setdefault(sent.fault or "none", Counter())
            whole = b"".join(sent.frames)
            if not found:
                told["nothing"] += 1
                if sent.frames and not sent.destroys:
                    missing.append((sent.number, sent.fault))
                destroyed += sent.destroys
                continue
            told[found[0][0]] += 1
            if len(found) > 1 or found[0][1] != whole:
                if sent.destroys and whole.startswith(found[0][1]):
                    destroyed += 1
                else:
                    short.append((sent.number, sent.fault, len(found[0][1]), len(whole)))
        return {
            "seed": self.args.seed,
            "minutes": round((time.monotonic() - self.began) / 60.0, 1),
            "scans_sent": len(self.sent),
            "faults": dict(self.faults),
            "catalogue": dict(statuses),
            "by_fault": {fault: dict(counts) for fault, counts in by_fault.items()},
            "missing": missing,
            "short_or_changed": short,
            "destroyed_by_their_fault": destroyed,
            "without_record": unreadable,
            **self.growth(),
        }

    def growth(self) -> dict[str, Any]:
        """How memory went since the last restart, its first fifth left out."""
        settled = self.memory[len(self.memory) // 5 :]
        if len(settled) < 5:
            return {"memory_growth_mb": 0.0}
        times, values = np.array(settled).T
        slope = float(np.polyfit(times - times[0], values, 1)[0])
        return {
            "memory_mb": [round(float(values[0]), 1), round(float(values[-1]), 1)],
            "memory_slope_mb_per_hour": round(slope * 3600.0, 2),
            "memory_growth_mb": round(slope * float(times[-1] - times[0]), 2),
            "memory_over_minutes": round(float(times[-1] - times[0]) / 60.0, 1),
        }


def main(argv: list[str] | None = None) -> int:
    """1 when something is missing, or memory grew."""
    parser = argparse.ArgumentParser("benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="at most")
    parser.add_argument("--scans", type=int, default=10**9, help="at most")
    parser.add_argument("--faults", type=int, default=200, help="over --scans, or over 1,000")
    parser.add_argument("--pause", type=float, default=0.3, help="longest between scans, s")
    parser.add_argument("--growth", type=float, default=30.0, help="allowed, MB")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--keep", type=Path, help="a folder that stays")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=True)
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report = Soak(args, folder).run()
    print(json.dumps(report, indent=1))
    failed = report["missing"] or report["short_or_changed"] or report["exit_status"] != 0
    return 1 if failed or report["memory_growth_mb"] > args.growth else 0


if __name__ == "__main__":
    sys.exit(main())
