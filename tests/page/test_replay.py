"""The replay's own process: the record through the engines again, at the pace that is asked for."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from records import CAMERA, SHAPE, pipeline_config, write_record

from stemd.acquisition import Scan
from stemd.adapters.base import Recording
from stemd.adapters.files import open_recording
from stemd.adapters.merlin.encoder import encode_hdr
from stemd.image_frames import decode_image
from stemd.offline.idle import spare_memory
from stemd.offline.replay.listener import Listener
from stemd.offline.replay.pace import Pace
from stemd.offline.replay.player import Player
from stemd.offline.replay.sender import Sender
from stemd.offline.replay.state import State
from stemd.offline.replay.stretches import steps_of, stretches
from stemd.offline.replay.wire import HEADER, IMAGE, ReplayJob
from stemd.offline.replay.wishes import Wishes, settings_of
from stemd.offline.replay.worker import Worker
from stemd.scan.processing import process_recording
from tests.timepix3 import streams

PATIENCE_S = 90.0
SCAN = {"shape": list(SHAPE), "flyback": 0}
SETTINGS = {
    "ricom": {"kernel_size": 7, "band_pass": None},
    "virtual_detector": {"detectors": {}, "detectors_px": {"bf": [0.0, 6.0]}},
    "optics": {"rotation_deg": 30.0},
    "record": {"raw": True},
    "gone": {"of_an_engine": 3},
}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_record(tmp_path_factory.mktemp("record") / "raw.mib")


def order(record: Path, seconds: float, adapter: str = "merlin", **changes: Any) -> ReplayJob:
    settings = changes.pop("settings", SETTINGS)
    scan = changes.pop("scan", SCAN)
    memory = changes.pop("memory_bytes", spare_memory())
    return ReplayJob(
        pipeline_config(adapter),
        "20260101T000000000Z-abcd",
        record,
        scan,
        settings,
        seconds,
        memory,
    )


class NotYetShown(Exception):  # noqa: N818 - while one waits, no error
    """Nothing has come of an image."""


class Seen:
    """What a replay has said so far."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, dict[str, Any]]] = []
        self.frames: list[tuple[dict[str, Any], np.ndarray[Any, Any]]] = []
        self.player: Any = None

    def told(self, kind: str, text: str) -> None:
        self.texts.append((kind, json.loads(text)["document"]))

    async def shown(self, name: str, frame: bytes) -> None:
        meta, image = decode_image(frame)
        assert meta["name"] == name
        self.frames.append((meta, image))

    async def until(self, check: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self._holds(check):
                assert not self.player.over.is_set(), self.texts[-3:]
                await asyncio.sleep(0.01)

    def _holds(self, check: Callable[[], Any]) -> bool:
        try:
            return bool(check())
        except NotYetShown:
            return False

    def state(self) -> str:
        return next((text["state"] for kind, text in reversed(self.texts) if kind == "replay"), "")

    def newest(self, name: str) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
        for meta, image in reversed(self.frames):
            if meta["name"] == name:
                return meta, image
        raise NotYetShown(name)

    def reply(self, key: str) -> dict[str, Any] | None:
        replies = [text for kind, text in self.texts if kind == "reply"]
        return next((reply for reply in replies if reply["id"] == key), None)


class Inside:
    """The worker in a thread of this process, for tests that need no process of its own."""

    def __init__(self, what: ReplayJob, told: Any, shown: Any) -> None:
        self.over = asyncio.Event()
        self._told, self._shown = told, shown
        out, said = os.pipe()
        heard, asked = os.pipe()
        self._reader = os.fdopen(out, "rb")
        self._asked = os.fdopen(asked, "wb", buffering=0)
        self._said, self._heard = os.fdopen(said, "wb", buffering=0), os.fdopen(heard, "rb")
        self._worker = threading.Thread(target=self._work, args=(what,), daemon=True)

    def _work(self, what: ReplayJob) -> None:
        Worker(what, self._said).run(self._heard)
        self._said.close()

    async def start(self) -> None:
        self._worker.start()
        self._pump = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        read = self._reader.read
        while head := await asyncio.to_thread(read, HEADER.size):
            kind, name_bytes, size = HEADER.unpack(head)
            name = (await asyncio.to_thread(read, name_bytes)).decode()
            body = await asyncio.to_thread(read, size)
            if kind == IMAGE:
                await self._shown(name, body)
            else:
                self._told(name, body.decode())
        self.over.set()

    def ask(self, do: str, **message: Any) -> bool:
        self._asked.write(json.dumps({"do": do, **message}).encode() + b"\n")
        return True

    def watch(self, images: dict[str, int]) -> None:
        self.ask("watch", images=images)

    async def end(self) -> None:
        self._asked.close()
        await self._pump
        await asyncio.to_thread(self._worker.join)
        for file in (self._reader, self._heard):
            file.close()


@asynccontextmanager
async def playing(what: ReplayJob, kind: Any = Inside, **watched: int) -> AsyncIterator[Seen]:
    seen = Seen()
    seen.player = kind(what, seen.told, seen.shown)
    await seen.player.start()
    seen.player.watch(watched or {"ricom": 2048, "bf": 2048, "icom": 2048})
    try:
        yield seen
    finally:
        await seen.player.end()


def processed(what: ReplayJob, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `stemd process` makes of the same record."""
    live = settings_of(what)
    if settings:
        live = live.changed(settings)
    scan = Scan.model_validate(what.scan)
    recording = open_recording(what.record, scan, what.config.adapter)
    _, final = process_recording(recording, live.engines, what.config.engines)
    recording.close()
    return {result.name: result.image for result in final.results}


async def test_the_scan_grows_again_and_ends_as_it_was_processed(record: Path) -> None:
    what = order(record, 2.0)
    truth = processed(what)  # first: compiling kernels would take the whole replay
    async with playing(what) as seen:
        await seen.until(lambda: seen.state() == "finished")
        await seen.until(lambda: any(m["name"] == "icom" and m["final"] for m, _ in seen.frames))
        growing = [meta for meta, _ in seen.frames if meta["name"] == "ricom" and not meta["final"]]
        done = [meta["positions_done"] for meta in growing]
        assert done == sorted(done)
        assert len({count for count in done if 0 < count < 720}) >= 3
        assert {(m["scan"], m["pipeline"]) for m, _ in seen.frames} == {(what.scan_id, "@replay")}
        for name in ("ricom", "bf", "icom"):
            np.testing.assert_array_equal(seen.newest(name)[1], truth[name])


async def test_it_begins_with_the_settings_of_the_scan_as_far_as_they_are_known(
    record: Path,
) -> None:
    async with playing(order(record, 1.0)) as seen:
        await seen.until(lambda: any(kind == "settings" for kind, _ in seen.texts))
        settings = next(text for kind, text in seen.texts if kind == "settings")
        assert settings["ricom"]["kernel_size"] == 7
        assert settings["virtual_detector"]["detectors_px"] == {"bf": [0.0, 6.0]}
        assert settings["optics"]["rotation_deg"] == 30.0
        assert not {"record", "publish", "scan", "gone"} & settings.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"ricom": {"kernel_size": 11}},
        {"virtual_detector": {"detectors_px": {"bf": [0.0, 3.0]}}},
        {"optics": {"center": [13.0, 17.0]}},
        {"optics": {"rotation_deg": -75.0}},
    ],
    ids=["kernel", "ring", "centre", "rotation"],
)
async def test_what_is_changed_afterwards_makes_the_finished_images_anew(
    record: Path, change: dict[str, Any]
) -> None:
    what = order(record, 1.0)
    async with playing(what) as seen:
        await seen.until(lambda: seen.state() == "finished")
        before = processed(what)
        after = processed(what, change)
        changed = "bf" if "virtual_detector" in change else "ricom"
        assert np.abs(after[changed] - before[changed]).max() > 0.01
        assert seen.player.ask("settings", request={"id": "7", **change})
        await seen.until(lambda: seen.reply("7"))
        assert seen.reply("7") == {"id": "7", "ok": True, "revision": 2}

        def shown() -> bool:
            return all(np.array_equal(seen.newest(n)[1], after[n]) for n in ("ricom", "bf"))

        await seen.until(shown)
        assert seen.newest("ricom")[0]["settings_revision"] == 2


async def test_a_ring_that_is_dragged_on_and_on_ends_where_it_was_let_go(record: Path) -> None:
    what = order(record, 1.0)
    async with playing(what) as seen:
        await seen.until(lambda: seen.state() == "finished")
        for number in range(20):
            ring = {"virtual_detector": {"detectors_px": {"bf": [0.0, 3.0 + number * 0.25]}}}
            seen.player.ask("settings", request={"id": str(number), **ring})
            await asyncio.sleep(0.01)
        truth = processed(what, ring)["bf"]
        await seen.until(lambda: np.array_equal(seen.newest("bf")[1], truth))


async def test_a_ring_dragged_in_a_growing_replay_holds_from_there_on(record: Path) -> None:
    async with playing(order(record, 6.0), bf=2048) as seen:
        await seen.until(lambda: seen.frames and seen.newest("bf")[0]["positions_done"] >= 240)
        ring = {"virtual_detector": {"detectors_px": {"bf": [0.0, 1.0]}}}
        seen.player.ask("settings", request={"id": "1", **ring})
        await seen.until(lambda: seen.state() == "finished" and seen.newest("bf")[0]["final"])
        image = seen.newest("bf")[1]
        assert image[:7].mean() > 20 * image[-3:].mean() > 0


async def test_a_refused_setting_says_what_is_allowed_and_changes_nothing(record: Path) -> None:
    async with playing(order(record, 1.0)) as seen:
        await seen.until(lambda: seen.state() == "finished")
        seen.player.ask("settings", request={"id": "1", "ricom": {"kernel_size": 10}})
        seen.player.ask("settings", request={"id": "2", "record": {"raw": False}})
        seen.player.ask("command", request={"id": "3", "command": "start"})
        await seen.until(lambda: seen.reply("3"))
        replies = [seen.reply(key) for key in "123"]
        assert [reply["ok"] for reply in replies if reply] == [False] * 3
        assert "odd" in str(replies[0])
        assert "recorded" in str(replies[1])
        assert "live" in str(replies[2])
        assert [kind for kind, _ in seen.texts].count("settings") == 1


async def test_the_rotation_is_estimated_from_the_replayed_scan(record: Path) -> None:
    async with playing(order(record, 1.0)) as seen:
        await seen.until(lambda: seen.state() == "finished")
        seen.player.ask("command", request={"id": "1", "command": "estimate_rotation"})
        await seen.until(lambda: seen.reply("1"))
        reply = seen.reply("1")
        assert reply is not None
        assert reply["ok"]
        assert -180 <= reply["rotation_deg"] <= 180


async def test_it_stands_still_while_paused_and_can_begin_again(record: Path) -> None:
    async with playing(order(record, 30.0), ricom=2048) as seen:
        await seen.until(lambda: seen.frames and seen.newest("ricom")[0]["positions_done"] > 40)
        seen.player.ask("pace", seconds=30.0, paused=True, again=False)
        await seen.until(lambda: seen.state() == "paused")
        await asyncio.sleep(0.4)
        stood = seen.newest("ricom")[0]["positions_done"]
        assert 40 < stood < 720
        # settings are obeyed all the same
        seen.player.ask("settings", request={"id": "1", "ricom": {"kernel_size": 3}})
        await seen.until(lambda: seen.newest("ricom")[0]["settings_revision"] == 2)
        assert seen.newest("ricom")[0]["positions_done"] == stood
        seen.frames.clear()
        seen.player.ask("pace", seconds=20.0, paused=False, again=True)
        await seen.until(lambda: seen.frames and seen.newest("ricom")[0]["positions_done"] > 0)
        assert seen.frames[0][0]["positions_done"] < stood
        seen.player.ask("pace", seconds=1.0, paused=False, again=False)
        await seen.until(lambda: seen.state() == "finished")


async def test_events_are_replayed_like_frames(tmp_path: Path) -> None:
    scan = Scan(shape=(24, 30), flyback=3, dwell_time_us=100.0)
    path = tmp_path / "raw.tpx3"
    sent = streams.electrons(scan, 400_000, dwell=64_000)
    path.write_bytes(streams.Camera().stream(sent))
    what = order(path, 1.5, "timepix3", scan=scan.model_dump(mode="json"), settings={})
    async with playing(what, ricom=2048, bf=2048) as seen:
        await seen.until(lambda: seen.state() == "finished" and seen.newest("ricom")[0]["final"])
        truth = processed(what)
        await seen.until(lambda: seen.newest("bf")[0]["final"])
        for name in ("ricom", "bf"):
            np.testing.assert_array_equal(seen.newest(name)[1], truth[name])
        done = [m["positions_done"] for m, _ in seen.frames if m["name"] == "ricom"]
        assert any(0 < count < 720 for count in done)


@pytest.mark.parametrize("size", [1, 777, 20_000, 10**9])
def test_parts_of_events_are_the_whole_stream_however_it_is_cut(tmp_path: Path, size: int) -> None:
    scan = Scan(shape=(12, 17), flyback=3, dwell_time_us=1.0)
    path = tmp_path / "raw.tpx3"
    path.write_bytes(streams.Camera().stream(streams.electrons(scan, 30_000)))
    recording: Recording = open_recording(path, scan)
    probes, positions, steps = [], 0, 0
    for part in stretches(recording, lambda: size):
        for block in part.blocks:
            probes.append(block.probe[: block.count].copy())
            positions += sum(stop - first for first, stop in getattr(block, "complete", ()))
            block.release()
        steps += part.steps
    assert positions == scan.positions
    whole = [b.probe[: b.count].copy() for b in recording.blocks(0, recording.frames)]
    np.testing.assert_array_equal(np.concatenate(probes), np.concatenate(whole))
    assert size == 10**9 or steps <= steps_of(recording) + size
    recording.close()


async def test_a_record_that_is_damaged_is_told_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "raw.mib"
    path.write_bytes(b"this is no frame" * 4000)
    async with playing(order(path, 1.0)) as seen:
        await seen.player.over.wait()
        (failed,) = [t for kind, t in seen.texts if kind == "replay" and t["state"] == "failed"]
        assert str(path) in failed["message"]
        assert failed["remedy"]


def cut_off(record: Path, folder: Path, frames: int, shape: tuple[int, int]) -> Path:
    """A record that holds only the first frames of what the camera had been asked for."""
    data = record.read_bytes()
    path = folder / "raw.mib"
    path.write_bytes(data[: len(data) // 720 * frames])
    path.with_suffix(".hdr").write_bytes(encode_hdr(CAMERA, shape[0] * shape[1]))
    return path


async def test_a_scan_that_was_cut_off_is_replayed_as_far_as_it_goes(
    record: Path, tmp_path: Path
) -> None:
    what = order(cut_off(record, tmp_path, 400, SHAPE), 1.0)
    async with playing(what, ricom=2048) as seen:
        await seen.until(lambda: seen.state() == "finished" and seen.newest("ricom")[0]["final"])
        meta, image = seen.newest("ricom")
        assert (meta["positions_done"], meta["reached"]) == (400, 400)
        np.testing.assert_array_equal(image, processed(what)["ricom"])


@pytest.mark.usefixtures("replays_get_time")
async def test_a_process_of_its_own_makes_the_same_images_and_obeys(record: Path) -> None:
    what = order(record, 1.0)
    change = {"ricom": {"kernel_size": 11}}
    images = processed(what)
    async with playing(what, Player) as seen:
        # each image comes in a message of its own
        await seen.until(
            lambda: (
                seen.state() == "finished" and all(seen.newest(name)[0]["final"] for name in images)
            )
        )
        for name, image in images.items():
            np.testing.assert_array_equal(seen.newest(name)[1], image)
        assert seen.player.ask("settings", request={"id": "1", **change})
        await seen.until(lambda: seen.reply("1"))
        truth = processed(what, change)["ricom"]
        await seen.until(lambda: np.array_equal(seen.newest("ricom")[1], truth))


@pytest.mark.usefixtures("replays_get_time")
async def test_a_record_that_needs_too_much_memory_fails_alone(
    record: Path, tmp_path: Path
) -> None:
    shape = (8000, 8000)
    path = cut_off(record, tmp_path, 400, shape)
    scan = {"shape": list(shape), "flyback": 0}
    async with playing(order(path, 1.0, scan=scan, memory_bytes=1 << 30), Player) as seen:
        await seen.player.over.wait()
        assert seen.state() == "failed"
        assert "memory" in seen.texts[-1][1]["message"]


def scheduling(pid: int) -> tuple[str, str]:
    """(kernel's number of the policy, score for the out-of-memory killer)."""
    place = Path(f"/proc/{pid}")
    policy = (place / "stat").read_text().rpartition(")")[2].split()[38]
    return policy, (place / "oom_score_adj").read_text().strip()


async def test_its_process_yields_to_all_others_and_is_told_when_killed(record: Path) -> None:
    async with playing(order(record, 60.0), Player) as seen:
        await seen.until(lambda: seen.state() == "playing")
        process = psutil.Process(seen.player._process.pid)
        assert process.nice() == 19
        assert scheduling(process.pid) == ("5", "1000")  # SCHED_IDLE
        process.kill()
        await seen.player.over.wait()
        assert seen.state() == "failed"
        assert "ended unexpectedly" in seen.texts[-1][1]["message"]
    assert not process.is_running()


@pytest.mark.usefixtures("replays_get_time")
async def test_its_process_ends_with_the_daemon_even_if_that_is_killed(record: Path) -> None:
    async with playing(order(record, 60.0), Player) as seen:
        await seen.until(lambda: seen.state() == "playing")
        process = psutil.Process(seen.player._process.pid)
        seen.player._process.stdin.close()  # what the system does to a killed daemon's end
        async with asyncio.timeout(PATIENCE_S):
            await seen.player.over.wait()
        assert not process.is_running()


def test_the_pace_lets_no_step_come_early() -> None:
    pace = Pace(0.4)
    pace.measure(20, 0)
    began = time.monotonic()
    pace.begin()
    for _ in range(20):
        pace.rest(1)
    assert time.monotonic() - began > 0.39
    assert not pace.late


def test_a_replay_that_was_held_up_does_not_catch_up() -> None:
    pace = Pace(100.0)
    pace.measure(1000, 0)
    pace.begin()
    pace._due -= 5.0
    pace.rest(1)
    assert pace.late
    began = time.monotonic()
    pace.rest(1)
    assert time.monotonic() - began > 0.09


def test_no_record_is_read_faster_than_is_good_for_the_scan() -> None:
    pace = Pace(1.0)
    pace.measure(1000, 4_000_000_000)
    assert pace.per_s == pytest.approx(100.0)


def test_a_request_that_nobody_understands_ends_the_replay(record: Path) -> None:
    what = order(record, 1.0)
    wishes, sender = Wishes(what), Sender(io.BytesIO(), what.scan_id)
    listener = Listener(wishes, State(sender, what.scan_id, wishes.pace), sender, lambda: None)
    with pytest.raises(json.JSONDecodeError):
        listener.listen(io.BytesIO(b"{\n"))
    assert wishes.gone
