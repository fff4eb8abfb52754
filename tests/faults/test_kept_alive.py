"""Every task and thread of a running daemon is killed in turn: each is back, or health is red."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sqlite3
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
TASKS = {
    *("health", "workers", "disk", "installation", "state-cam", "stream-cam", "completion"),
    *("mqtt", "mqtt-requests", "mqtt-documents", "mqtt-images", "sessions-cam"),
    *("page-accept-0", "page-look"),
}
"""Those that must live as long as the daemon; what else runs is killed all the same."""
PINGS = "Client._misc_loop"
"""aiomqtt's; what it does is done by stemd as well (`test_mqtt_faults`)."""
ITSELF = "run.<locals>.serve"
"""The daemon's own task: when it dies, the daemon does, and systemd starts it again."""
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
        except (OSError, http.client.HTTPException):  # the page, or its task, is away
            return 0, {"red": [], "task_failures": {}, "mqtt_connected": False}

    def back_or_red(self, task: str) -> bool:
        """Whether a task runs again, or health says that it does not."""
        status, document = self.health()
        if status == 503 and task in json.dumps(document["red"]):
            return True
        return task in self.victim.ask("tasks") and document["task_failures"].get(task, 0) > 0

    def runs(self, task: str) -> bool:
        """Whether a task of this name runs."""
        return task in self.victim.ask("tasks")

    def replaced(self, coroutine: str, before: set[str]) -> bool:
        """Whether another task does this work now, and MQTT is connected."""
        now = {each for each in self.victim.ask("tasks") if each.endswith(f" {coroutine}")}
        return bool(now - before and self.health()[1]["mqtt_connected"])

    def answers(self) -> bool:
        """Whether a request by MQTT is carried out."""
        return bool(self.rig.settings(publish={"rate_hz": 20.0})["ok"])

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
    names = [each for each in victim.ask("tasks") if " " not in each]
    assert set(names) >= TASKS
    for name in names:
        victim.ask("task", name, how)
        if name.startswith("mqtt-"):
            time.sleep(1.0)  # what is sent while MQTT connects again reaches nobody
            wait_until(lambda: scene.health()[1]["mqtt_connected"], "MQTT is connected", BACK_S)
            wait_until(scene.answers, "it is answered")
        else:
            wait_until(partial(scene.back_or_red, name), f"{name} is back or red", BACK_S)
        wait_until(partial(scene.runs, name), f"{name} is back", 40.0)
    scene.green()
    scene.whole_scan()
    line.said, line.healed = f"{len(names)} tasks", "yes"
    assert rig.order("session", name=f"after {how}", scans=1)["ok"]
    rig.until_state(lambda s: s["session"] is None and s["scan"], "a session is carried out")


def test_every_task_within_a_task_that_dies_is_replaced(scene: Scene, row: Rows) -> None:
    line = row("every task within a task killed in turn")
    victim = scene.victim
    works = {each.partition(" ")[2] for each in victim.ask("tasks")} - {"", ITSELF, PINGS}
    assert works >= {"ControlSession._converse", "Documents.session", "ImagePublisher.session"}
    for work in sorted(works):
        before = {each for each in victim.ask("tasks") if each.endswith(f" {work}")}
        for task in before:
            victim.ask("task", task, "cancel")
        wait_until(partial(scene.replaced, work, before), f"{work} is replaced", BACK_S)
    scene.green()
    wait_until(scene.answers, "it is answered")
    scene.whole_scan()
    line.said, line.healed = f"{len(works)} tasks", "yes"


def test_idle_threads_that_die_are_begun_again(scene: Scene, row: Rows) -> None:
    line = row("every idle thread killed")
    rig, victim = scene.rig, scene.victim
    scene.whole_scan()  # the catalogue's thread is begun by the first row
    workers = {each for each in victim.ask("threads") if each.startswith("worker-")}
    assert workers
    for worker in workers:
        victim.ask("thread", worker)
    assert "catalogue" in victim.ask("threads")
    victim.ask("thread", "catalogue")

    def fresh() -> bool:
        now = {each for each in victim.ask("threads") if each.startswith("worker-")}
        return bool(now - workers)

    wait_until(fresh, "other worker threads are there", BACK_S)
    scene.whole_scan()
    scan = rig.events("finished")[-1]["id"]

    def entered() -> bool:
        with contextlib.closing(sqlite3.connect(rig.data / "catalogue.sqlite")) as database:
            found = database.execute("SELECT status FROM scans WHERE id = ?", (scan,)).fetchone()
        return found == ("complete",)

    wait_until(entered, "the catalogue has the scan", BACK_S)
    assert rig.settings(ricom={"kernel_size": 7})["ok"]
    kept = rig.data / "state" / "settings-rig.cam.json"
    wait_until(lambda: kept.exists() and "kernel_size" in kept.read_text(), "settings are kept")
    rig.order("reset")
    scene.green()
    line.healed = "yes"


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
