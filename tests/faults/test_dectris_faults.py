"""Control units that abort, restart, lie, fall silent and go, before a whole daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.conftest import Mosquitto, require, wait_until
from tests.daemon.rig import POSITIONS
from tests.faults.conftest import Row, same
from tests.faults.dectris_rig import HELLO, DectrisRig, message

pytestmark = pytest.mark.mosquitto

Rows = Callable[[str], Row]
Made = Iterator[DectrisRig]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One running daemon for all rows."""
    require("mosquitto")
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    broker.start()
    made = DectrisRig(tmp_path_factory.mktemp("rig"), broker)
    made.start()
    yield made
    made.close()
    broker.stop()


@pytest.fixture
def rig(running: DectrisRig) -> DectrisRig:
    running.fresh()
    return running


def came(rig: DectrisRig, positions: int) -> None:
    """Wait until so many positions of the running scan have come."""
    rig.until_state(
        lambda s: s["state"] == "acquiring" and s["positions_done"] == positions,
        f"{positions} positions came",
    )


def over(rig: DectrisRig, count: int) -> list[dict[str, Any]]:
    """That many finished scans, in the order in which they began."""
    return sorted(rig.finished(count), key=lambda d: int(d["started_ns"]))


def cut(document: dict[str, Any], positions: int) -> None:
    """A scan that was cut off after so many positions."""
    assert (document["status"], document["positions_done"]) == ("aborted", positions)


def healed(line: Row, rig: DectrisRig) -> None:
    """The next series comes whole, and the row is filled in."""
    line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def told(rig: DectrisRig, line: Row, words: str) -> None:
    """Wait until the log on MQTT says it."""

    def said() -> list[str]:
        return [d["message"] for d in rig.documents("log") if words in d["message"]]

    wait_until(said, f"the log says {words!r}")
    line.said = said()[0]


def test_a_series_that_is_aborted_ends_its_scan_at_once(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: series aborted")
    rig.camera.begin()
    rig.camera.more(range(20))
    came(rig, 20)
    rig.camera.finish()
    document = rig.finished()[0]
    cut(document, 20)
    same(rig, document, rig.camera.sent[-1])
    healed(line, rig)


def test_a_series_that_begins_anew_ends_the_one_before(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: series restarted with no end")
    rig.camera.begin()
    rig.camera.more(range(20))
    came(rig, 20)
    rig.camera.scan()
    first, second = over(rig, 2)
    cut(first, 20)
    assert second["status"] == "complete"
    same(rig, second, rig.camera.sent[-1])
    healed(line, rig)


def test_an_end_that_comes_in_the_next_series_ends_nothing(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: late end of the series before")
    rig.camera.begin()
    rig.camera.more(range(20))
    came(rig, 20)
    rig.camera.begin()
    rig.camera.more(range(20))
    rig.camera.finish(rig.camera.series - 1)
    rig.camera.more(range(20, POSITIONS))
    first, second = over(rig, 2)
    cut(first, 20)
    assert second["status"] == "complete"
    same(rig, second, rig.camera.sent[-1])
    healed(line, rig)


def test_a_second_client_that_takes_images_is_told(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: second client takes every other image")
    rig.camera.begin(scans=4)
    rig.camera.more(range(0, 4 * POSITIONS, 2))
    for document in over(rig, 4):
        assert (document["status"], document["missing"]) == ("incomplete", POSITIONS // 2)
    line.wrong(rig, "stolen_frames", "another client takes them")
    healed(line, rig)


def test_a_series_that_began_before_we_came_is_placed_by_its_numbers(
    rig: DectrisRig, row: Rows
) -> None:
    line = row("DECTRIS: series began before stemd came")
    rig.camera.begin(told=False)
    rig.camera.more(range(12, POSITIONS))
    document = rig.finished()[0]
    assert (document["status"], document["missing"]) == ("incomplete", 12)
    assert document["missing_runs"] == [[0, 12]]
    same(rig, document, rig.camera.sent[-1])
    assert document["counters"]["no_start"] == 1
    line.said = f"no_start, missing_runs {document['missing_runs']}"
    healed(line, rig)


def test_lost_images_are_holes_where_they_were(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: images lost in the middle and at the end")
    lost = {3, 17, 18, 46, 47}
    rig.camera.scan([n for n in range(POSITIONS) if n not in lost])
    document = rig.finished()[0]
    assert document["missing"] == len(lost)
    runs = [number for first, stop in document["missing_runs"] for number in range(first, stop)]
    assert set(runs) == lost
    same(rig, document, rig.camera.sent[-1])
    line.said = f"missing_runs {document['missing_runs']}"
    healed(line, rig)


def test_damaged_images_are_holes_and_told(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: images that cannot be expanded")
    rig.camera.begin()
    for number in range(POSITIONS):
        made = message(rig.camera.series, number)
        if number % 16 == 5:
            at = made.index(b"bslz4") + 8
            made = made[:at] + b"\xff" * 4 + made[at + 4 :]
        rig.camera.send(made)
    rig.camera.finish()
    document = rig.finished()[0]
    assert document["missing_runs"] == [[5, 6], [21, 22], [37, 38]]
    told(rig, line, "damaged or of an unknown kind")
    healed(line, rig)


@pytest.mark.parametrize("reset", [False, True], ids=["end of stream", "reset"])
def test_a_control_unit_that_closes_in_mid_image_loses_that_image_alone(
    rig: DectrisRig, row: Rows, reset: bool
) -> None:
    line = row(f"DECTRIS: closes in mid-image ({'reset' if reset else 'end of stream'})")
    rig.camera.begin()
    rig.camera.more(range(20))
    came(rig, 20)
    rig.camera.send(message(rig.camera.series, 20)[:-50])
    rig.camera.hang_up(reset=reset)
    document = rig.finished()[0]
    cut(document, 20)
    same(rig, document, rig.camera.sent[-1])
    line.wrong(rig, "camera", "connection")
    healed(line, rig)


def test_an_end_of_stream_after_the_start_is_no_scan(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: end of stream after the start")
    rig.camera.begin()
    rig.camera.hang_up()
    line.wrong(rig, "camera", "closed the connection")
    healed(line, rig)
    assert len(rig.events("started")) == 1


def test_a_silent_camera_ends_its_scan_and_the_next_one_comes(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: falls silent in mid-scan")
    rig.camera.begin()
    rig.camera.more(range(20))
    document = rig.finished()[0]
    assert (document["status"], document["positions_done"]) == ("incomplete", 20)
    same(rig, document, rig.camera.sent[-1])
    healed(line, rig)


def test_a_stream_that_dribbles_is_waited_for(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: dribbles, some bytes at a time")
    rig.camera.begin()
    sent = [message(rig.camera.series, number) for number in range(POSITIONS)]
    stream = b"".join(sent)
    cuts = np.random.default_rng(1).integers(1, 400, len(stream) // 200).cumsum()
    for first, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        rig.camera.send(stream[first:stop])
        time.sleep(0.001)
    rig.camera.sent[-1] += sent
    document = rig.finished()[0]
    assert document["status"] == "complete"
    same(rig, document, sent)
    healed(line, rig)


def test_what_is_no_message_ends_the_connection_and_a_new_one_is_made(
    rig: DectrisRig, row: Rows
) -> None:
    line = row("DECTRIS: garbage between messages, lengths that lie")
    for junk in (b"\xa5" * 5000, b"\x02" + (1 << 62).to_bytes(8, "big")):
        before = rig.camera.connections
        scans = len(rig.events("finished", "aborted"))
        rig.camera.begin()
        rig.camera.more(range(20))
        rig.camera.send(junk)
        cut(over(rig, scans + 1)[-1], 20)
        line.wrong(rig, "camera", "makes no sense")
        wait_until(lambda before=before: rig.camera.connections > before, "it connects anew")
        rig.camera.hang_up()  # the one that is over
        line.heal(rig)
    line.count(rig)
    line.remember_memory(rig)


def test_another_size_in_the_next_series_and_within_one(rig: DectrisRig, row: Rows) -> None:
    line = row("DECTRIS: image size changes, also in mid-series")
    other = (24, 40)
    rig.camera.begin()
    rig.camera.more(range(20))
    came(rig, 20)
    rig.camera.sent.append([])
    rig.camera.more(range(POSITIONS), other)
    first, second = over(rig, 2)
    cut(first, 20)
    assert second["status"] == "complete"
    same(rig, second, rig.camera.sent[-1])
    healed(line, rig)


def test_a_port_of_something_else_is_told_and_asked_less_and_less(
    rig: DectrisRig, row: Rows
) -> None:
    line = row("DECTRIS: garbage on the port, an HTTP server's answer")
    rig.camera.hello = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    before = rig.camera.connections
    rig.camera.hang_up()
    line.wrong(rig, "bad_stream", "does not speak ZeroMQ")
    assert "31001" in str(rig.states("errors"))
    assert rig.camera.connections - before < 10
    rig.camera.hello = HELLO
    rig.camera.hang_up()
    healed(line, rig)


def test_a_control_unit_that_hangs_up_on_everybody_is_asked_less_and_less(
    rig: DectrisRig, row: Rows
) -> None:
    line = row("DECTRIS: hangs up at once, again and again")
    rig.camera.hangs_up = True
    before = rig.camera.connections
    rig.camera.hang_up()
    time.sleep(3.0)
    count = rig.camera.connections - before
    assert 1 < count < 25
    line.wrong(rig, "camera", "connection")
    rig.camera.hangs_up = False
    line.sent = f"{count} connections in 3 s"
    line.heal(rig)
    line.remember_memory(rig)


def test_a_control_unit_that_is_switched_off_and_on_is_found_again(
    rig: DectrisRig, row: Rows
) -> None:
    line = row("DECTRIS: switched off in mid-scan, then on")
    rig.camera.begin()
    rig.camera.more(range(20))
    came(rig, 20)
    rig.camera.go()
    document = rig.finished()[0]
    cut(document, 20)
    line.wrong(rig, "camera", "no connection")
    rig.camera.come_back()
    healed(line, rig)


@pytest.mark.parametrize("fault", ["not initialised", "another version", "no answer"])
def test_what_is_wrong_with_the_control_is_told_and_images_still_come(
    rig: DectrisRig, row: Rows, fault: str
) -> None:
    line = row(f"DECTRIS: control unit: {fault}")
    unit = rig.camera.unit
    if fault == "not initialised":
        unit.lose()
    elif fault == "another version":
        unit.version = "1.6.0"
    else:
        rig.camera.mute()
    rig.camera.hang_up()
    words = {
        "not initialised": "initialise it on the control unit",
        "another version": 'api_version = "1.6.0"',
        "no answer": "does not answer",
    }[fault]

    def said() -> list[dict[str, Any]]:
        return [e for e in rig.state()["errors"] if words in str(e)]

    wait_until(said, f"the state says {words!r}")
    error = said()[0]
    assert error["kind"] == "camera_control"
    assert error["remedy"]
    line.said = error["message"]
    reply = rig.order("start")
    assert not reply["ok"]
    assert words in str(reply)
    if fault == "no answer":
        rig.until_state(lambda s: "does not answer" in str(s["camera_status"]), "it has no answer")
        assert rig.state()["camera_status"][0]["critical"]
    line.heal(rig)  # the stream knows nothing of it
    if fault == "not initialised":
        assert unit.answer("PUT", "/detector/api/1.8.0/command/initialize", b"")[0] == 200
    elif fault == "another version":
        unit.version = "1.8.0"
    else:
        rig.camera.unmute()
    assert rig.order("start")["ok"]
    rig.until_state(lambda s: "ready" in str(s["camera_status"]), "the state says that it is armed")
    assert rig.order("abort")["ok"]
    line.count(rig)
