"""What was tuned live holds after a reload, a restart and a kill, and goes into the config."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from stemd.config.file import load, parse
from stemd.config.live import LiveSettings
from stemd.config.save import save_settings
from stemd.daemon.pipeline.kept_settings import KeptSettings
from stemd.daemon.pipeline.settings import SettingsInForce
from stemd.errors import ConfigError
from stemd.events import Hub
from stemd.storage.locks import TakenError, instrument_lock, take_instrument, take_lock
from tests.conftest import Mosquitto, wait_until
from tests.daemon.rig import MerlinRig, Rig, make_frames
from tests.daemon.test_config import GOOD

TUNED = {"ricom": {"kernel_size": 9}, "optics": {"rotation_deg": 33.5, "center": [120.0, 121.0]}}
KEYS = {"ricom.kernel_size", "optics.rotation_deg", "optics.center"}


@pytest.mark.mosquitto
def test_tuned_settings_are_in_force_after_reload_restart_and_kill_until_reset(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    rig = Rig(tmp_path, mosquitto, MerlinRig(make_frames(count=1)))
    try:
        rig.start()
        assert rig.settings(**TUNED)["ok"]
        kept = rig.data / "state" / "settings-rig.cam.json"
        wait_until(
            lambda: kept.exists() and len(json.loads(kept.read_text())["changed"]) == 3,
            "they are kept",
        )

        def in_force() -> bool:
            newest = rig.documents("settings")[-1]
            tuned = all(
                newest[section][key] == value
                for section, values in TUNED.items()
                for key, value in values.items()
            )
            return set(newest["changed"]) == KEYS and tuned

        wait_until(in_force, "they are in force")
        config = rig.daemon.config
        for change in ("reload", "kill", "restart"):
            count = len(rig.documents("settings"))
            if change == "reload":  # the pipeline is started anew, since its config has changed
                config.write_text(config.read_text().replace("rate_hz = 20.0", "rate_hz = 19.0"))
                rig.daemon.process.send_signal(signal.SIGHUP)
            else:
                rig.daemon.stop(signal.SIGKILL if change == "kill" else signal.SIGTERM)
                rig.start()
            wait_until(
                lambda n=count: len(rig.documents("settings")) > n,  # type: ignore[misc]
                f"settings are told after {change}",
                60.0,
            )
            assert in_force(), change
        reply = rig.order("save_settings")
        assert set(reply["saved"]) == KEYS
        wait_until(lambda: rig.documents("settings")[-1]["changed"] == [], "the config says it")
        assert load(config).pipelines[0].optics.rotation_deg == 33.5
        assert rig.settings(ricom={"kernel_size": 11})["ok"]
        assert rig.order("reset")["ok"]
        wait_until(lambda: rig.documents("settings")[-1]["ricom"]["kernel_size"] == 9, "reset")
        wait_until(lambda: not kept.exists(), "nothing is kept any more")
        rig.check_messages()
    finally:
        rig.close()


async def test_kept_settings_that_the_config_no_longer_allows_are_left_out(tmp_path: Path) -> None:
    kept = KeptSettings(tmp_path, "scope", "cam", "merlin")
    for number in range(50):
        kept.keep({"ricom.kernel_size": 2 * number + 1, "optics.rotation_deg": 5.0})
    kept.keep({"ricom.kernel_size": 9, "optics.rotation_deg": 5.0, "gone.x": 1, "optics.nix": 2})
    await kept.close()
    found = KeptSettings(tmp_path, "scope", "cam", "merlin").read()
    live, refused = LiveSettings.of(parse(GOOD).pipelines[0]).as_far_as_allowed(found)
    assert set(refused) == {"gone.x", "optics.nix"}
    assert live.as_json()["ricom"]["kernel_size"] == 9
    assert live.as_json()["optics"]["rotation_deg"] == 5.0
    kept.keep({})
    await kept.close()
    assert list((tmp_path / "state").iterdir()) == []


async def test_settings_of_another_camera_or_instrument_are_not_taken_over_and_told(
    tmp_path: Path,
) -> None:
    config = parse(GOOD).pipelines[0]

    def begun(instrument: str, pipeline: str, camera: str) -> SettingsInForce:
        kept = KeptSettings(tmp_path, instrument, pipeline, camera)
        return SettingsInForce(config, Hub(), lambda scan: None, lambda entry: None, kept)

    first = begun("titan", "cam", "merlin")
    first.change({"optics": {"rotation_deg": 33.5}})
    await first.close()
    again = begun("titan", "cam", "merlin")
    assert (again.live.engines.optics.rotation_deg, again.left_out()) == (33.5, [])
    for other, words in (
        (begun("talos", "cam", "merlin"), ("titan", "talos")),
        (begun("titan", "cam", "timepix3"), ("merlin", "timepix3", "optics.rotation_deg")),
    ):
        assert other.live.engines.optics.rotation_deg == config.optics.rotation_deg
        ((key, text, remedy),) = other.left_out()
        assert (key, bool(remedy)) == ("", True)
        assert all(word in text for word in words), text
    assert begun("titan", "cam2", "merlin").left_out() == []
    # an instrument that runs now is no former name of this one
    lock = take_instrument(tmp_path, "titan")
    assert begun("talos", "cam", "merlin").left_out() == []
    os.close(lock)
    theirs = begun("talos", "cam", "merlin")
    theirs.change({"optics": {"rotation_deg": -5.0}})
    await theirs.close()
    assert begun("titan", "cam", "merlin").live.engines.optics.rotation_deg == 33.5
    assert begun("talos", "cam", "merlin").live.engines.optics.rotation_deg == -5.0


def test_an_instrument_whose_lock_is_looked_at_for_a_moment_is_taken_a_held_one_is_not(
    tmp_path: Path,
) -> None:
    path = instrument_lock(tmp_path, "titan")
    looked_at = take_lock(path)
    ending = threading.Timer(0.05, os.close, [looked_at])
    ending.start()
    lock = take_instrument(tmp_path, "titan")
    ending.join()
    with pytest.raises(TakenError, match=f"process {os.getpid()}"):
        take_instrument(tmp_path, "titan")
    os.close(lock)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"\xff", b'{"changed": [1]}', b'{"changed": "x"}']
)
def test_a_damaged_file_of_kept_settings_is_not_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "settings-scope.cam.json").write_bytes(content)
    assert KeptSettings(tmp_path, "scope", "cam", "merlin").read() == {}


def test_saved_settings_keep_every_comment_and_all_else(tmp_path: Path) -> None:
    file = tmp_path / "stemd.toml"
    text = GOOD.replace("[pipeline.optics]", "# by hand\n[pipeline.optics]  # measured in May")
    file.write_text(text)
    file.chmod(0o640)
    running = load(file).pipelines[0]
    live = LiveSettings.of(running).changed(
        {"ricom": {"kernel_size": 61}, "optics.rotation_deg": -7.5, "scan.shape": [7, 9]}
    )
    saved = save_settings(file, running, live)
    assert not LiveSettings.of(saved).differences(live)
    assert load(file).pipelines[0] == saved
    before, after = text.splitlines(), file.read_text().splitlines()
    lost = [line for line in before if line not in after]
    assert all("kernel_size" in line or "shape" in line or "rotation" in line for line in lost)
    assert "# by hand" in after
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stemd.toml"]


def test_a_file_that_was_changed_or_cannot_be_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "stemd.toml"
    file.write_text(GOOD)
    running = load(file).pipelines[0]
    live = LiveSettings.of(running).changed({"optics.rotation_deg": -7.5})
    changed = GOOD.replace("kernel_size = 21", "kernel_size = 23")
    assert changed != GOOD
    file.write_text(changed)
    with pytest.raises(ConfigError, match="has been changed since") as caught:
        save_settings(file, running, live)
    assert "SIGHUP" in caught.value.remedy
    assert file.read_text() == changed
    file.write_text(GOOD)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="cannot be written: permission denied"):
        save_settings(file, running, live)
    assert file.read_text() == GOOD
