"""Every task and thread of a running daemon is killed in turn: each is back, or health is red."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Mosquitto, free_port, wait_until
from tests.daemon.rig import CONFIG, POSITIONS, MerlinRig, Rig, make_frames
from tests.daemon.running import RunningDaemon
from tests.faults.conftest import Row

pytestmark = pytest.mark.mosquitto

Rows = Callable[[str], Row]
BACK_S = 10.0
TASKS = (
    *("health", "watchdog", "workers", "disk", "state-cam", "completion", "mqtt"),
    *("mqtt-requests", "mqtt-documents", "mqtt-images", "session-cam"),
)
"""Those that must live as long as the daemon or what they are for."""
RECORD = {"record-write": "writes the record", "record-hash": "checks the record"}


class Victim(RunningDaemon):
    """A daemon with the back door of `tests/faults/killer.py`."""

    def __init__(self, folder: Path, text: str) -> None:
        super().__init__(folder, text)
        super().stop(signal.SIGKILL)
        self.door = folder / "door"
        program = [sys.executable, "-m", "tests.faults.killer", str(self.door), str(self.config)]
        self.process = subprocess.Popen(
            program, stderr=self.log, stdout=self.log, cwd=Path(__file__).parents[2]
        )

    def ask(self, *words: str) -> list[str]:
        """Send an order through the back door."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.door))
            channel.sendall(json.dumps(words).encode())
            answer = channel.makefile().read()
        return list(json.loads(answer)) if answer else []


class Scene:
    """A rig whose daemon has a page and a back door."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.port = free_port()
        page = f'[page]\nlisten = "127.0.0.1:{self.port}"'
        self.rig = Rig(folder, broker, MerlinRig(make_frames()), sessions=page)
        self.victim = Victim(folder, CONFIG.format(**self.rig.options))
        self.rig.daemons.append(self.victim)
        self.rig.until_state(lambda s: s.get("camera_connected"), "the camera is found")
        wait_until(lambda: self.health()[0] == 200, "health is green", 30.0)

    def health(self) -> tuple[int, dict[str, Any]]:
        """What /healthz answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as ok:
                return ok.status, json.load(ok)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def back_or_red(self, task: str) -> bool:
        """Whether a task runs again, or health says that it does not."""
        status, document = self.health()
        if status == 503 and task in json.dumps(document["red"]):
            return True
        return task in self.victim.ask("tasks") and document["task_failures"].get(task, 0) > 0

    def runs(self, task: str) -> bool:
        """Whether a task of this name runs."""
        return task in self.victim.ask("tasks")

    def lost_since(self, seen: int) -> bool:
        """Whether one of the states after the first `seen` has no camera."""
        return False in self.rig.states("camera_connected")[seen:]

    def green(self) -> None:
        """All is well again."""
        wait_until(lambda: self.health()[0] == 200, f"health is green: {self.health()}", 40.0)

    def whole_scan(self) -> None:
        """A scan comes whole."""
        count = len(self.rig.events("finished", "aborted"))
        self.rig.camera.scan()
        document = self.rig.finished(count + 1)[-1]
        assert (document["status"], document["positions_done"]) == ("complete", POSITIONS)
        assert self.rig.record(document) == b"".join(self.rig.camera.sent[-1])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    broker.start()
    made = Scene(tmp_path_factory.mktemp("rig"), broker)
    yield made
    made.rig.close()
    broker.stop()


@pytest.mark.parametrize("how", ["cancel", "raise"])
def test_every_task_that_dies_is_back_or_red(scene: Scene, row: Rows, how: str) -> None:
    line = row(f"every task killed in turn ({how})")
    rig, victim = scene.rig, scene.victim
    rig.order("session", name=f"endless {how}", start=False)
    wait_until(lambda: "session-cam" in victim.ask("tasks"), "they run")
    told = []
    for name in (name for name in TASKS if name in victim.ask("tasks")):
        victim.ask("task", name, how)
        if name.startswith("mqtt-"):
            time.sleep(1.0)  # what is sent while MQTT connects again reaches nobody
            wait_until(lambda: scene.health()[1]["mqtt_connected"], "MQTT is connected", BACK_S)
            wait_until(lambda: rig.settings(publish={"rate_hz": 20.0})["ok"], "it is answered")
        else:
            wait_until(partial(scene.back_or_red, name), f"{name} is back or red", BACK_S)
        told.append(name)
        wait_until(partial(scene.runs, name), f"{name} is back", 40.0)
    assert set(TASKS) - set(told) <= {"watchdog"}
    rig.order("session", stop=True)
    rig.until_state(lambda s: s["session"] is None, "the session has ended")
    scene.green()
    scene.whole_scan()
    line.said, line.healed = f"{len(told)} tasks", "yes"


def test_a_reader_that_dies_is_back_and_says_so(scene: Scene, row: Rows) -> None:
    line = row("the reader's thread killed")
    for _ in range(3):
        seen = len(scene.rig.states("camera_connected"))
        scene.victim.ask("thread", "read-cam")
        wait_until(partial(scene.lost_since, seen), "it is gone")
        line.wrong(scene.rig, "adapter", "Killed")
        wait_until(lambda: "read-cam" in scene.victim.ask("threads"), "it is back", BACK_S)
        scene.rig.until_state(lambda s: s["camera_connected"], "the camera is found again")
        scene.whole_scan()
    scene.green()
    line.healed = "yes"


@pytest.mark.parametrize("thread", ["engines-cam", *RECORD])
def test_a_scans_thread_that_dies_is_told_and_the_next_scan_is_whole(
    scene: Scene, row: Rows, thread: str
) -> None:
    line = row(f"{thread} killed in mid-scan")
    rig = scene.rig
    scene.green()
    count = len(rig.events("finished", "aborted"))
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.until_state(lambda s: s["state"] == "acquiring" and s["positions_done"] == 20, "20 came")
    scene.victim.ask("thread", thread)
    rig.camera.more(rig.camera.frames[20:])
    document = rig.finished(count + 1)[-1]
    assert document["positions_done"] == POSITIONS
    line.wrong(rig, "disk" if thread in RECORD else "error", RECORD.get(thread, "Killed"))
    if thread in RECORD:
        assert document["status"] == "not recorded"
        assert document["not_written"]
    scene.whole_scan()
    rig.until_state(lambda s: s["last_error"] is None, "it is over")
    scene.green()
    line.healed = "yes"
