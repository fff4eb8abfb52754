"""A night in an hour: two cameras, a broker, viewers, a small disk, and a fault every few seconds.

    python -m tests.faults.soak --minutes 60          # as root: it mounts a small disk

Not part of the tests: a tool to be run by hand. A Merlin camera (riCOM, AIRPI, restoration) and a
Timepix3 camera scan slowly into one daemon. Faults: a camera is killed or sends garbage; the broker
is killed or frozen; a viewer goes; the disk is full or its fsync takes 4 s; the daemon is told to
read its config again.

Prints a JSON balance. Every scan that left a camera must be accounted for: its record is what was
sent, byte for byte (of event cameras: every hit), or its document says that it is not recorded. A
scan that the fault itself tore is counted apart. The second half of the time gives the slopes of
resident memory, descriptors and threads, each with its standard error. Exit status 1 when a scan is
missing or changed, when health does not become green in the end, or when a slope is more than three
standard errors above zero.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.running import Broker, Daemon, free_port
from tests.faults.failing_disk import FailingDisk, build
from tests.faults.soak.balance import Balance
from tests.faults.soak.cameras import NX, NY, Merlin, SlowCamera, Timepix3
from tests.faults.soak.config import CONFIG
from tests.faults.soak.viewers import Viewers

QUIET_S, SETTLE_S = 60.0, 180.0
KINDS = ("memory_mb", "descriptors", "threads")


class Soak:
    """All parts, joined."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder, self.data = args, folder, folder / "disk"
        self.pick = random.Random(args.seed)
        self.faults: Counter[str] = Counter()
        self.samples: list[tuple[float, ...]] = []
        self.cameras: list[SlowCamera] = [Merlin(args.period), Timepix3(args.period * 1.3)]
        self.broker, page = Broker(folder), free_port()
        self.disk = FailingDisk(build(folder), folder / "fault")
        text = CONFIG.format(
            data=self.data,
            mqtt=self.broker.table,
            page=page,
            merlin=self.cameras[0].port,
            timepix=self.cameras[1].port,
            ny=NY,
            nx=NX,
        )
        self.page = f"http://127.0.0.1:{page}/"
        self.reds: Counter[str] = Counter()
        self.broker.start()
        self.daemon = Daemon(folder, text, self.disk.environment)

    def begin(self) -> None:
        """When the daemon is ready: viewers come, and everything is counted from now on."""
        self.daemon.wait_ready()
        self.viewers = Viewers(f"{self.page}ws", 3)
        self.balance = Balance(self.data, *self.cameras)
        self.process = psutil.Process(self.daemon.process.pid)
        self.cpu = sum(self.process.cpu_times()[:2])

    def end(self) -> None:
        """Nothing that was started is left, however the soak went."""
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.broker.send(signal.SIGCONT)
        self.broker.stop()

    def run(self) -> dict[str, Any]:
        """Until the minutes are over; the report."""
        began = time.monotonic()
        end, due = began + 60.0 * self.args.minutes, began + self.args.every
        while time.monotonic() < end:
            if self.daemon.process.poll() is not None:
                raise RuntimeError(f"the daemon has ended: see {self.folder / 'log.txt'}")
            if time.monotonic() > due:
                due = time.monotonic() + self.args.every
                self.fault()
            self.sample()
            self.balance.look()
            time.sleep(2.0)
        cpu = sum(self.process.cpu_times()[:2]) - self.cpu
        minutes = (time.monotonic() - began) / 60.0
        time.sleep(QUIET_S)  # scans without a fault: whatever was red must be over
        for camera in self.cameras:
            camera.close()
        self.settle()
        self.balance.look(last=True)
        green, red = self.health()
        for camera in self.cameras:
            camera.hang_up()
        self.viewers.close()
        took, status = self.daemon.stop()
        return {
            "minutes": round(minutes, 1),
            "seed": self.args.seed,
            "faults": dict(self.faults),
            **self.balance.report(),
            "images_drawn": self.viewers.images,
            "viewers_gone": self.viewers.gone,
            "red_seen": dict(self.reds),
            "green_at_the_end": green,
            "red_at_the_end": red,
            "cpu_of_one_core": round(cpu / (60.0 * minutes), 3),
            **{name: self.slope(at + 1) for at, name in enumerate(KINDS)},
            "stopped_in_s": round(took, 2),
            "exit_status": status,
        }

    def settle(self) -> None:
        """Until no scan is made or written any more: on a busy machine networks take long."""
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            time.sleep(2.0)
            try:
                with urllib.request.urlopen(f"{self.page}healthz", timeout=5) as answer:
                    pipelines = json.loads(answer.read())["pipelines"].values()
            except OSError:
                continue
            if all(each["state"] == "waiting" for each in pipelines):
                return

    def fault(self) -> None:
        """One fault, over after some seconds."""
        acts: dict[str, Callable[[], object]] = {
            "merlin killed": self.cameras[0].kill,
            "timepix killed": self.cameras[1].kill,
            "merlin garbage": self.cameras[0].garbage,
            "timepix garbage": self.cameras[1].garbage,
            "broker restarted": self.restart_broker,
            "broker frozen": self.freeze_broker,
            "viewer gone": self.viewers.drop,
            "disk full": self.fill_disk,
            "disk slow": self.slow_disk,
            "reload": lambda: self.daemon.process.send_signal(signal.SIGHUP),
        }
        name = self.pick.choice(list(acts))
        self.faults[name] += 1
        acts[name]()

    def restart_broker(self) -> None:
        self.broker.stop()
        threading.Timer(2.0, self.broker.start).start()

    def freeze_broker(self) -> None:
        self.broker.send(signal.SIGSTOP)
        threading.Timer(3.5, self.broker.send, (signal.SIGCONT,)).start()

    def fill_disk(self) -> None:
        filler = self.data / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 65536) == 65536:
                pass
        threading.Timer(6.0, filler.unlink, (True,)).start()

    def slow_disk(self) -> None:
        self.disk.set("slow fsync")
        threading.Timer(5.0, self.disk.set, ("",)).start()

    def sample(self) -> None:
        """What the process has, and what is red."""
        with self.process.oneshot():
            memory = self.process.memory_info().rss / 2**20
            self.samples.append(
                (time.monotonic(), memory, self.process.num_fds(), self.process.num_threads())
            )
        self.reds.update({each["what"] for each in self.health()[1]})
        if len(self.samples) % 30 == 1:
            sys.stderr.write(f"{self.samples[-1]}\n")

    def health(self) -> tuple[bool, list[dict[str, Any]]]:
        """What /healthz says: whether it is green, and what is red."""
        try:
            with urllib.request.urlopen(f"{self.page}healthz", timeout=5) as answer:
                return True, json.loads(answer.read())["red"]
        except urllib.error.HTTPError as error:
            return False, json.loads(error.read())["red"]
        except OSError as error:
            return False, [{"what": "no answer", "message": str(error)}]

    def slope(self, column: int) -> dict[str, Any]:
        """Means of the tenths; of the second half mean, slope an hour and its standard error.

        From means of a minute: values of one second hang together, those of a minute hardly.
        """
        table = np.array(self.samples)
        hours, values = (table[:, 0] - table[0, 0]) / 3600.0, table[:, column]
        late = hours > hours[-1] / 2
        hours, values = hours[late], values[late]
        bins = max(4, round((hours[-1] - hours[0]) * 60))
        parts = np.array_split(np.arange(hours.size), min(bins, hours.size))
        x = np.array([hours[part].mean() for part in parts])
        y = np.array([values[part].mean() for part in parts])
        slope, level = np.polyfit(x, y, 1)
        left = y - (slope * x + level)
        spread = float(np.sum((x - x.mean()) ** 2))
        error = float(np.sqrt(np.sum(left**2) / max(1, x.size - 2) / spread))
        tenths = [float(part.mean()) for part in np.array_split(table[:, column], 10)]
        return {
            "tenths": [round(value, 1) for value in tenths],
            "mean": round(float(values.mean()), 1),
            "slope_per_hour": round(float(slope), 2),
            "standard_error": round(error, 2),
        }


def main(argv: list[str] | None = None) -> int:
    """1 when something is missing, red, or grows."""
    parser = argparse.ArgumentParser("tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two faults")
    parser.add_argument("--period", type=float, default=6.0, help="about so long takes a scan")
    parser.add_argument("--disk-mb", type=int, default=96)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--log", type=Path, help="where to keep the daemon's log")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = folder / "disk"
        place.mkdir()
        size = f"size={args.disk_mb}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "stemd-soak", str(place)], check=True)
        soak = None
        try:
            soak = Soak(args, folder)
            soak.begin()
            report = soak.run()
        finally:
            if soak is not None:
                soak.end()
            if args.log is not None:
                shutil.copy(folder / "log.txt", args.log)
            subprocess.run(["umount", "-l", str(place)], check=True)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    grows = any(report[k]["slope_per_hour"] > 3 * report[k]["standard_error"] for k in KINDS)
    wrong = report["missing"] or report["changed"] or not report["green_at_the_end"]
    return 1 if wrong or grows or report["exit_status"] != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
