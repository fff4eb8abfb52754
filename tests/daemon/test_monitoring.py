"""Dashboard, alerts and topic permissions as they are shipped, against a running daemon."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Mosquitto, OutsideClient, free_port, wait_until
from tests.daemon.rig import BASE, CONFIG, Rig
from tests.daemon.running import RunningDaemon

pytestmark = pytest.mark.mosquitto

SHIPPED = Path(__file__).parents[2] / "config"
_METRIC = re.compile(r"\bstemd_[a-z_]+\b")


def expressions() -> dict[str, list[str]]:
    """Every PromQL expression that is shipped, by file."""
    dashboard = json.loads((SHIPPED / "grafana/stemd.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    panels += [v["query"]["query"] for v in dashboard["templating"]["list"][1:]]
    rules = yaml.safe_load((SHIPPED / "prometheus/alerts.yml").read_text())
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return {"grafana": panels, "prometheus": alerts}


def test_every_metric_of_dashboard_and_alerts_is_exported(make_rig: Callable[..., Rig]) -> None:
    port = free_port()
    rig = make_rig(sessions=f'[page]\nlisten = "127.0.0.1:{port}"')
    rig.start()
    rig.camera.scan(rig.camera.frames[:10] + rig.camera.frames[12:])  # a notice is counted, too
    rig.finished()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    exported = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}
    for where, found in expressions().items():
        used = {name for expression in found for name in _METRIC.findall(expression)}
        assert len(used) > 5, where
        assert used <= exported, where
    every = " ".join(expression for found in expressions().values() for expression in found)
    states = set(re.findall(r'state="(\w+)"', every))
    assert all(f'state="{state}"' in text for state in states)


def test_the_count_of_positions_never_falls(make_rig: Callable[..., Rig]) -> None:
    port = free_port()
    rig = make_rig(sessions=f'[page]\nlisten = "127.0.0.1:{port}"')
    rig.start()
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10)
            except urllib.error.HTTPError as red:  # it is not ready yet, and says as much
                answer = red
            with answer:
                health = json.loads(answer.read())
            seen.append(sum(part["positions"] for part in health["pipelines"].values()))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        for number in range(5):
            rig.camera.scan()
            rig.finished(number + 1)
    finally:
        over.set()
        watching.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


@pytest.fixture
def guarded(mosquitto_with: Callable[..., Mosquitto], tmp_path: Path) -> Mosquitto:
    """A broker with the shipped permissions; each user's password is the name twice."""
    passwords = tmp_path / "passwords"
    passwords.touch()
    for user in ("stemd", "operator", "viewer"):
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, user * 2], check=True)
    acl = tmp_path / "acl.conf"
    acl.write_text((SHIPPED / "mosquitto-acl.conf").read_text())
    acl.chmod(0o600)
    return mosquitto_with("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")


def test_with_the_shipped_permissions_operators_command_and_viewers_look(
    guarded: Mosquitto,
    make_rig: Callable[..., Rig],
    outside: Callable[..., OutsideClient],
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("stemdstemd\n")
    login_file = f'username = "stemd"\npassword_file = {json.dumps(str(secret))}'
    rig = make_rig(mqtt=login_file)
    rig.options["broker"] = guarded.url
    login: dict[str, Any] = {"topics": "stemd/#"}
    viewer = outside(guarded.port, **login, username="viewer", password="viewerviewer")
    operator = outside(guarded.port, **login, username="operator", password="operatoroperator")
    rig.daemons.append(RunningDaemon(rig.folder, CONFIG.format(**rig.options)))
    wait_until(lambda: viewer.on(f"{BASE}/state"), "the viewer sees the state", 60.0)
    for client, name in ((viewer, "viewer"), (operator, "operator")):
        body = json.dumps({"id": name, "publish": {"rate_hz": 5.0}})
        client.client.publish(f"{BASE}/settings/set", body, qos=1)
        client.client.publish(f"{BASE}/state", "forged", qos=1)
    wait_until(lambda: operator.on(f"{BASE}/reply"), "the operator is answered", 30.0)
    replies = [json.loads(m.payload)["id"] for m in operator.on(f"{BASE}/reply")]
    assert replies == ["operator"]
    assert b"forged" not in [m.payload for m in viewer.on(f"{BASE}/state")]
