"""Kills every task and every thread of a running daemon in turn; prints what became of each.

    python -m tests.faults.kill_each [thread airpi]        # all, or those that begin so

Not part of the tests: a tool to be run by hand, of some minutes; `test_kept_alive` kills the same
in fewer ways. The daemon has a page, mosquitto, networks, a measured lens, sessions, a record and
two cameras. A task or thread is well again when another one does its work, when health is red and
names it, or when the scan that it worked for says what is wrong. Nothing can be killed in a call
into C, an idle queue or a network: it dies when that ends, so it is looked at after a scan. Ends
with 1 where none of these came within 10 s of its death, or where the scan behind it is not whole.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.conftest import Mosquitto, free_port, wait_until
from tests.daemon.rig import CONFIG, MerlinRig, Rig, make_frames
from tests.faults.test_kept_alive import BACK_S, ITSELF, PINGS, Victim

ENGINES = """
[[pipeline.engine]]
type = "restoration"
input = "bf"
threads = 1

[[pipeline.engine]]
type = "airpi"
threads = 1

[[pipeline.engine]]
type = "direct"
"""
SECOND = """
[[pipeline]]
name = "dark"

[pipeline.adapter]
type = "dectris"
host = "127.0.0.1"
scan = {{ shape = [6, 8], step_size_angstrom = 0.5 }}

[[pipeline.engine]]
type = "com"
"""
NOT_THESE = ("killer", "MainThread", ITSELF, PINGS)
"""The back door, the event loop itself, and what stemd does as well, see `test_kept_alive`."""
APPEARS_S, DIES_S = 3.0, 10.0


class Everything:
    """A rig that has all that runs, and what was said of what was killed."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.page = free_port()
        page = f'[page]\nlisten = "127.0.0.1:{self.page}"'
        self.rig = Rig(folder, broker, MerlinRig(make_frames()), sessions=page, engines=ENGINES)
        self.victim = Victim(folder, CONFIG.format(**self.rig.options) + SECOND.format())
        self.rig.daemons.append(self.victim)
        self.waiting: set[int] = set()
        """Threads that could not be killed: they were in C code, and die when that ends."""
        self.rig.until_state(lambda s: s.get("camera_connected"), "the camera is found")

    def there(self) -> dict[str, dict[str, int]]:
        """Every task and thread: by what it is, those that do that, each with its number.

        A task without a name of its own is what its coroutine is.
        """
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.victim.door))
            channel.sendall(b'["all"]')
            found: dict[str, int] = json.loads(channel.makefile().read())
        grouped: dict[str, dict[str, int]] = {}
        for full, number in found.items():
            kind, _, name = full.partition(" ")
            what = re.sub(r"^worker-\d+$", "worker", name.partition(" ")[2] or name)
            if what not in NOT_THESE:
                grouped.setdefault(f"{kind} {what}", {})[name] = number
        return grouped

    def health(self) -> list[str]:
        """What is red."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/healthz", timeout=5) as ok:
                found = json.load(ok)["red"]
        except urllib.error.HTTPError as error:
            found = json.load(error)["red"]
        except OSError as error:
            return [f"no answer: {error}"]
        return [each["message"] for each in found if each["what"] != "version"]

    def said(self) -> list[dict[str, Any]]:
        """All that was told of deaths, of any pipeline."""
        found: list[dict[str, Any]] = []
        for message in list(self.rig.client.messages):
            what = message.topic.rpartition("/")[2]
            if what in ("log", "state") and b"Killed" in message.payload:
                document = json.loads(message.payload)
                found += [document] if what == "log" else document.get("errors", [])
        return [each for each in found if "Killed" in each.get("message", "")]

    def told(self, before: list[dict[str, Any]]) -> str:
        """What was told of a death since `before` was said, which may stand there still."""
        return next((each["message"][:60] for each in self.said() if each not in before), "")

    def where(self, kind: str, name: str) -> str:
        """The line at which a thread is."""
        if kind != "thread":
            return "the event loop"
        return "/".join(self.victim.ask("where", name)[0].split("/")[-2:])

    def kill(self, what: str) -> tuple[str, bool]:
        """What became of it, and whether that is well."""
        kind, _, short = what.partition(" ")
        said, reds = self.said(), self.health()
        frames, half = self.rig.camera.frames, len(self.rig.camera.frames) // 2
        if kind == "thread":  # many are there only while a scan goes on
            self.rig.camera.begin()
            self.rig.camera.more(frames[:half])
        end = time.monotonic() + APPEARS_S
        while not (before := self.there().get(what)) and time.monotonic() < end:
            time.sleep(0.02)
        if not before:
            self.rig.camera.more(frames[half:] if kind == "thread" else [])
            return "had ended: its work was done", True
        for name in before:
            self.victim.ask(kind, name, *(["cancel"] if kind == "task" else []))
        if kind == "thread":  # what waits dies when it is woken
            self.rig.settings(publish={"rate_hz": 20.0})
            with contextlib.suppress(OSError):  # whoever receives may be the dead one
                self.rig.camera.more(frames[half:])
        killed = set(before.values())
        end = time.monotonic() + DIES_S
        while left := [name for name, each in self.there().get(what, {}).items() if each in killed]:
            if told := self.told(said):
                return f"went on in the same {kind}, told: {told}", True
            if time.monotonic() > end:
                self.waiting = killed
                return f"waits in C code at {self.where(kind, left[0])}", True
            time.sleep(0.05)
        died = time.monotonic()
        while time.monotonic() < died + BACK_S:
            after = f"after {time.monotonic() - died:.1f} s"
            if self.there().get(what):
                return f"back {after}", True
            red = [each for each in self.health() if each not in reds]
            if about := [each for each in red if short.split("-")[0] in each]:
                return f"red {after}: {about[0][:60]}", True
            if told := self.told(said):
                return f"told {after}: {told}", True
            time.sleep(0.1)
        return "GONE, and nothing was said", False

    def woken(self, what: str) -> str:
        """What became of a thread that waited, after a whole scan."""
        now, waiting = set(self.there().get(what, {}).values()), self.waiting
        self.waiting = set()
        return "waits still" if now & waiting else "back" if now else "gone till it is needed"

    def sent(self) -> bool:
        """Whether a scan could be sent: whoever died may have to connect again."""
        try:
            self.rig.camera.scan()
        except OSError:
            return False
        return True

    def whole_scan(self) -> bool:
        """Whether a scan is complete, of two: the first may be the dead one's."""
        for _ in range(2):
            count = len(self.rig.events("finished", "aborted"))
            wait_until(self.sent, "a scan is sent", 30.0)
            document: dict[str, Any] = self.rig.finished(count + 1)[-1]
            if document["status"] == "complete":
                return True
        return False


def main() -> int:
    """1 where something died silently."""
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        broker = Mosquitto(Path(name))
        broker.start()
        folder = Path(name) / "rig"
        folder.mkdir()
        all_of_it = Everything(folder, broker)
        try:
            everything: set[str] = set(all_of_it.there())
            all_of_it.rig.camera.begin()
            for line in range(6):  # a scan that goes on slowly has more threads
                all_of_it.rig.camera.more(all_of_it.rig.camera.frames[8 * line : 8 * line + 8])
                time.sleep(0.3)
                everything |= set(all_of_it.there())
            # what is begun for one question is asked again half a second later, by another
            names = sorted(each for each in everything if not each.startswith("thread ask-"))
            names = [each for each in names if each.startswith(" ".join(sys.argv[1:]))]
            for each in names:
                became, well = all_of_it.kill(each)
                whole = all_of_it.whole_scan()
                if all_of_it.waiting:
                    became += f"; after a scan: {all_of_it.woken(each)}"
                wrong += not (well and whole)
                sys.stdout.write(f"{each:52} {became}{'' if whole else '; NO WHOLE SCAN'}\n")
                sys.stdout.flush()
        finally:
            all_of_it.rig.close()
            broker.stop()
    sys.stdout.write(f"{len(names)} tasks and threads, {wrong} wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
