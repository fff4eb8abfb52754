"""Brokers that are absent, killed, frozen, unwilling or out of date, before a whole daemon."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.conftest import Mosquitto, OutsideClient, free_port, wait_until
from tests.daemon.rig import BASE, CONFIG, POSITIONS, Rig
from tests.daemon.running import RunningDaemon
from tests.faults.conftest import Row, same

pytestmark = pytest.mark.mosquitto

Rows = Callable[[str], Row]
PASSWORD = "correct-horse"


class Watched:
    """A rig whose daemon is looked at through its page and its files: no broker is needed."""

    def __init__(self, rig: Rig, **options: Any) -> None:
        self.rig = rig
        self.url = f"http://127.0.0.1:{free_port()}"
        rig.options.update(options)
        rig.options["sessions"] = f'[page]\nlisten = "{self.url.removeprefix("http://")}"'
        rig.daemons.append(RunningDaemon(rig.folder, CONFIG.format(**rig.options)))

    def health(self) -> dict[str, Any]:
        """What /healthz says, also when it is not well."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)
        except OSError:
            return {}
        return found

    def until(self, condition: Callable[[dict[str, Any]], object], what: str) -> None:
        """Wait until /healthz says so."""

        def holds() -> bool:
            health = self.health()
            return bool(health) and bool(condition(health))

        wait_until(holds, what, 60.0)

    def kept(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many complete scans on disk."""

        def whole() -> bool:
            return sum(s["status"] != "acquiring" for s in self.rig.daemon.scans()) >= count

        wait_until(whole, f"{count} scans are on disk", 60.0)
        return self.rig.daemon.scans()

    def told(self, text: str) -> str:
        """Wait until the broker's error names something; the error."""
        self.until(lambda h: text in str(h["broker"].get("error")), f"it says {text!r}")
        return str(self.health()["broker"]["error"]["message"])


def final_image_is_there(rig: Rig, port: int, scan: dict[str, Any]) -> None:
    """A newcomer finds the scan's final image, the same as on disk."""
    client = OutsideClient(port, version5=False, **rig.options.get("login", {}))
    try:
        wait_until(lambda: client.on(f"{BASE}/image/ricom/last"), "the image is retained", 30.0)

        def newest() -> bool:
            payload = bytes(client.on(f"{BASE}/image/ricom/last")[-1].payload)
            return scan["id"].encode() in payload

        wait_until(newest, "the retained image is that of the last scan", 30.0)
        payload = bytes(client.on(f"{BASE}/image/ricom/last")[-1].payload)
        image = tifffile.imread(rig.folder_of(scan) / "ricom.tif")
        with tifffile.TiffFile(io.BytesIO(payload)) as sent:
            assert np.array_equal(sent.asarray(), image)
    finally:
        client.close()


def nothing_dropped(watched: Watched) -> None:
    """Every document and every final image has gone out."""
    watched.until(
        lambda h: (
            h["mqtt_connected"]
            and h["broker"]["documents_waiting"] == 0
            and h["broker"]["images_waiting"] == 0
        ),
        "nothing waits any more",
    )
    counters = watched.health()["broker"]
    assert counters["documents_dropped"] == counters["finals_dropped"] == 0


def test_without_a_broker_scans_are_kept_and_told_when_it_comes(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("broker absent at start, then there")
    rig = make_rig()
    rig.broker.stop()
    watched = Watched(rig)
    rig.camera.scan()
    rig.camera.scan()
    scans = watched.kept(2)
    line.said = watched.told("nothing listens")
    line.remember_memory(rig)
    rig.broker.start()
    nothing_dropped(watched)
    for scan in scans:
        same(rig, scan, rig.camera.frames)
    final_image_is_there(rig, rig.broker.port, scans[-1])
    line.healed = "yes"
    line.count(rig, *scans)


def test_a_broker_killed_in_mid_scan_costs_the_scan_nothing(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("broker killed in mid-scan and restarted")
    rig = make_rig()
    watched = Watched(rig)
    watched.until(lambda h: h["mqtt_connected"], "the broker is found")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    rig.broker.stop()
    rig.camera.more(rig.camera.frames[20:])
    scans = watched.kept(1)
    line.said = watched.told("MQTT broker")
    rig.broker.start()
    nothing_dropped(watched)
    same(rig, scans[0], rig.camera.frames)
    final_image_is_there(rig, rig.broker.port, scans[0])
    rig.camera.scan()
    scans = watched.kept(2)
    final_image_is_there(rig, rig.broker.port, scans[-1])
    line.healed = "yes"
    line.count(rig, *scans)
    line.remember_memory(rig)


class Throttle:
    """Passes a broker's connections on, so many bytes a second towards it."""

    def __init__(self, port: int, bytes_s: int) -> None:
        self._broker, self._bytes_s = port, bytes_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._server.accept()
                here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
                there = socket.create_connection(("127.0.0.1", self._broker))
                self._links += [here, there]
                for ends, rate in (((here, there), self._bytes_s), ((there, here), 0)):
                    threading.Thread(target=self._pass, args=(*ends, rate), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, bytes_s: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
                if bytes_s:
                    time.sleep(len(data) / bytes_s)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut everything."""
        for each in (self._server, *self._links):
            each.close()


def test_a_slow_broker_holds_no_scan_up_and_gets_every_result(
    make_rig: Callable[..., Rig], row: Rows
) -> None:
    line = row("broker slow, 20 kB a second")
    rig = make_rig()
    slow = Throttle(rig.broker.port, 20_000)
    try:
        watched = Watched(rig, broker=f"mqtt://127.0.0.1:{slow.port}")
        watched.until(lambda h: h["mqtt_connected"], "the broker is found")
        rig.camera.wait_for_client()
        for _ in range(3):
            rig.camera.scan()
        scans = watched.kept(3)
        line.remember_memory(rig)
        for scan in scans:
            assert scan["status"] == "complete"
            same(rig, scan, rig.camera.frames)
        nothing_dropped(watched)
        final_image_is_there(rig, rig.broker.port, max(scans, key=lambda scan: scan["id"]))
        line.healed = "yes"
        line.count(rig, *scans)
    finally:
        slow.close()


def test_a_frozen_broker_holds_no_scan_up_and_gets_everything_when_it_thaws(
    rig: Rig, row: Rows
) -> None:
    line = row("broker frozen (SIGSTOP) for three scans")
    rig.camera.begin()
    rig.camera.more(rig.camera.frames[:20])
    before = len(rig.daemon.scans())
    rig.broker.send(signal.SIGSTOP)
    try:
        rig.camera.more(rig.camera.frames[20:])
        rig.camera.scan()
        rig.camera.scan()

        def kept() -> bool:
            scans = [s for s in rig.daemon.scans() if s["status"] == "complete"]
            return len(scans) >= before + 2

        wait_until(kept, "the scans are on disk while the broker is frozen", 30.0)
        line.remember_memory(rig)
    finally:
        rig.broker.send(signal.SIGCONT)
    for scan in rig.finished(3):
        assert scan["status"] == "complete"
        same(rig, scan, rig.camera.frames)
    line.heal(rig)
    line.count(rig)


def test_a_refused_login_is_named_and_mended_without_a_restart(
    make_rig: Callable[..., Rig],
    mosquitto_with: Callable[..., Mosquitto],
    row: Rows,
    tmp_path: Path,
) -> None:
    line = row("broker refuses the login")
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "stemd", PASSWORD], check=True)
    broker = mosquitto_with("allow_anonymous false", f"password_file {passwords}")
    secret.write_text("a-wrong-guess\n")
    rig = make_rig()
    login = f'username = "stemd"\npassword_file = {json.dumps(str(secret))}'
    watched = Watched(rig, broker=broker.url, mqtt=login)
    rig.camera.scan()
    scans = watched.kept(1)
    line.said = watched.told("refuses")
    secret.write_text(PASSWORD + "\n")
    nothing_dropped(watched)
    rig.options["login"] = {"username": "stemd", "password": PASSWORD}
    same(rig, scans[0], rig.camera.frames)
    final_image_is_there(rig, broker.port, scans[0])
    log = (rig.folder / "log.txt").read_text()
    assert "a-wrong-guess" not in log
    assert PASSWORD not in log
    line.healed = "yes"
    line.count(rig, *scans)


CA = """[ca]
default_ca = here
[here]
new_certs_dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
default_md = sha256
unique_subject = no
policy = any
copy_extensions = copyall
[any]
commonName = supplied
"""


def certificate(folder: Path, first: str, last: str) -> None:
    """A certificate for 127.0.0.1 that signs itself, valid from the first year to the last."""
    (folder / "ca.cnf").write_text(CA.format(folder=folder))
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("01")
    request = "openssl req -new -newkey rsa:2048 -nodes -subj /CN=127.0.0.1"
    request += " -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:TRUE"
    request += f" -keyout {folder}/key.pem -out {folder}/request.pem"
    sign = f"openssl ca -batch -selfsign -notext -config {folder}/ca.cnf -keyfile {folder}/key.pem"
    sign += f" -in {folder}/request.pem -out {folder}/cert.pem"
    sign += f" -startdate {first}0101000000Z -enddate {last}0101000000Z"
    for command in (request, sign):
        subprocess.run(command.split(), check=True, capture_output=True)


def test_an_expired_certificate_is_named_and_a_renewed_one_is_accepted(
    make_rig: Callable[..., Rig],
    mosquitto_with: Callable[..., Mosquitto],
    row: Rows,
    tmp_path: Path,
) -> None:
    line = row("broker's TLS certificate has expired")
    certificate(tmp_path, "2020", "2021")
    broker = mosquitto_with(
        "allow_anonymous true", f"certfile {tmp_path}/cert.pem", f"keyfile {tmp_path}/key.pem"
    )
    rig = make_rig()
    url = broker.url.replace("mqtt:", "mqtts:")
    watched = Watched(rig, broker=url, mqtt=f'ca_file = "{tmp_path}/cert.pem"')
    rig.camera.scan()
    scans = watched.kept(1)
    line.said = watched.told("certificate has expired")
    broker.stop()
    certificate(tmp_path, "2020", "2100")
    broker.start()
    nothing_dropped(watched)
    same(rig, scans[0], rig.camera.frames)
    assert len(rig.camera.sent[0]) == POSITIONS
    line.healed = "yes"
    line.count(rig, *scans)
