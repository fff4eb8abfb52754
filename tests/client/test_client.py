"""`stemd.client` against a broker and what the daemon says there."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from paho.mqtt import publish

from stemd.client import (
    AsyncClient,
    Client,
    NotConnectedError,
    RefusedError,
    StemdError,
    TimedOutError,
)
from stemd.client.address import Address
from stemd.client.images import decode_image
from stemd.client.link import Link
from stemd.client.messages import QUANTITIES, optics_of, read, scan_of
from stemd.client.replies import Replies
from stemd.daemon.pipeline.commands import ARGUMENTS
from stemd.documents import refused
from stemd.errors import FormatError, UsageError
from stemd.storage.tiff import encode_tiff
from tests.conftest import Mosquitto, a_snapshot, an_acquisition, free_port, wait_until
from tests.sinks.asyncapi import validator
from tests.sinks.running import INSTRUMENT, RunningSink

STATE = {
    **{"state": "waiting", "scan": None, "positions_done": 0, "positions_total": 0},
    **{"missing": 0, "positions_per_second": 0.0, "last_error": None, "errors": []},
}
SETTINGS = {"revision": 1, "changed": [], "ricom": {"kernel_size": 5}}
MEASURED = {"value": 12.1, "sigma": 0.2, "told": 0.0, "agrees": False}


class Laboratory:
    """What a daemon says and answers, without one. `answer` is the next reply, if not `ok`."""

    def __init__(self, broker: Mosquitto) -> None:
        self.url = broker.url
        self.sink = RunningSink(broker.url)
        self.answer: Callable[[str, str, Mapping[str, Any]], dict[str, Any]] | None = None
        handle = self.sink.hub.handler
        assert handle is not None

        async def handler(pipeline: str, kind: str, request: Mapping[str, Any]) -> Any:
            if self.answer is not None:
                return self.answer(pipeline, kind, request)
            return await handle(pipeline, kind, request)

        self.sink.hub.handler = handler
        self.sink.connected()
        self.say("daemon", {"version": "1", "pipelines": ["merlin"]})
        self.say("state", "merlin", STATE)
        self.say("settings", "merlin", SETTINGS)

    def say(self, what: str, *documents: Any) -> None:
        self.sink.call(getattr(self.sink.hub, what), *documents)

    def scan(self, name: str, status: str = "complete") -> None:
        """A scan is over."""
        document = {
            **{"event": "finished", "id": name, "status": status, "settings": SETTINGS},
            **{"scan": {"shape": [6, 9], "step_size_angstrom": 0.2}, "positions_done": 53},
            **{"positions_total": 54, "missing": 1, "files": [{"name": "ricom.tif"}]},
        }
        self.say("document", "merlin", document)


@pytest.fixture
def laboratory(mosquitto: Mosquitto) -> Iterator[Laboratory]:
    made = Laboratory(mosquitto)
    yield made
    made.sink.close()


pytestmark = [pytest.mark.mosquitto, pytest.mark.waits]


def test_a_client_finds_the_only_instrument_and_pipeline_and_knows_their_state(
    laboratory: Laboratory,
) -> None:
    with Client(laboratory.url) as client:
        assert (client.instrument, client.pipeline, client.online) == (INSTRUMENT, "merlin", True)
        assert client.state.state == "waiting"
        assert client.settings["ricom"]["kernel_size"] == 5
        assert client.daemon["version"] == "1"
        assert (client.optics, client.session) == (None, {})
        problem = {"kind": "camera", "message": "is gone", "remedy": "switch it on"}
        laboratory.say("state", "merlin", {**STATE, "state": "fault", "errors": [problem]})
        state = client.wait_for_state("fault", timeout_s=20.0)
        assert [(each.kind, each.remedy) for each in state.errors] == [("camera", "switch it on")]


def test_a_small_picture_comes_as_a_png_file(laboratory: Laboratory) -> None:
    laboratory.say("settings", "merlin", {**SETTINGS, "publish": {"preview": True}})
    final = a_snapshot(an_acquisition((6, 9)), final=True)
    with Client(laboratory.url) as client:
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(client.preview("ricom")))
        reader.start()
        while reader.is_alive():  # until it listens
            laboratory.say("snapshot", "merlin", final)
            reader.join(0.05)
        with pytest.raises(TimedOutError, match="preview of 'adf'"):
            client.preview("adf", timeout_s=0.01)
    assert found[0].startswith(b"\x89PNG")


def test_a_growing_image_comes_as_an_array_with_its_calibration(laboratory: Laboratory) -> None:
    snapshot = a_snapshot(an_acquisition((6, 9)))
    with Client(laboratory.url) as client:
        images = client.images("ricom")
        found: list[Any] = []
        reader = threading.Thread(target=lambda: found.append(next(images)))
        reader.start()
        while reader.is_alive():  # until it listens
            laboratory.say("snapshot", "merlin", snapshot)
            reader.join(0.05)
        (image,) = found
        images.close()  # type: ignore[attr-defined]
        assert client._client._news.queues == [], "nobody listens any more"
    assert np.array_equal(image, snapshot.results[0].image)
    assert image.image.dtype == np.float32
    assert (image.name, image.units, image.final) == ("ricom", "a.u.", False)
    assert (image.pixel_size, image.pixel_units, image.axes) == (0.2, "angstrom", "scan")
    assert (image.scan, image.positions_done) == (snapshot.acquisition.id, 27)
    assert (image.sequence, image.settings_revision) == (1, 3)
    assert image.details == {"kernel_size": 21}
    with pytest.raises(ValueError, match="read-only"):
        image.image[0, 0] = 1.0


def test_the_image_of_a_scan_is_waited_for_and_not_taken_from_the_scan_before(
    laboratory: Laboratory,
) -> None:
    before = a_snapshot(an_acquisition(id="before"), final=True, fill=1.0)
    after = a_snapshot(an_acquisition(id="after"), final=True, fill=2.0)
    laboratory.say("snapshot", "merlin", before)
    with Client(laboratory.url) as client:
        assert client.image("ricom").image[0, 0] == 1.0
        with pytest.raises(TimedOutError, match="image 'ricom' of scan after") as told:
            client.image("ricom", scan="after", timeout_s=0.05)
        assert isinstance(told.value, TimeoutError)
        laboratory.say("snapshot", "merlin", after)
        assert client.image("ricom", scan="after").image[0, 0] == 2.0


def test_every_scan_is_waited_for_once_and_none_is_missed_meanwhile(
    laboratory: Laboratory,
) -> None:
    with Client(laboratory.url) as client:
        laboratory.say("state", "merlin", {**STATE, "state": "finishing", "scan": "2026-0"})
        client.wait_for_state("finishing", timeout_s=20.0)
        client.start()
        for name in ("2026-0", "2026-1", "2026-2", "2026-3"):
            laboratory.scan(name)
        scans = [client.wait_for_scan(timeout_s=20.0) for _ in range(3)]
        assert [scan.id for scan in scans] == ["2026-1", "2026-2", "2026-3"]
        assert (scans[0].status, scans[0].shape, scans[0].missing) == ("complete", (6, 9), 1)
        assert scans[0].files == ("ricom.tif",)
        with pytest.raises(TimedOutError, match="end of a scan"):
            client.wait_for_scan(timeout_s=0.05)


def test_measured_optics_have_units_errors_and_none_where_the_data_cannot_say(
    laboratory: Laboratory,
) -> None:
    names = (
        *("astigmatism_nm", "coma_nm", "threefold_nm", "rotation_deg", "flip", "center"),
        *("convergence_semi_angle_mrad", "descan_px", "dose_e_per_square_angstrom"),
        *("drift_nm_per_s", "masked_pixels"),
    )
    document = {
        **{"scan": "one", "started_ns": 1, "quality": 0.99, "agrees": False, "usable": {}},
        **dict.fromkeys(names),
        "defocus_nm": MEASURED,
    }
    with Client(laboratory.url) as client:
        laboratory.say("optics", "merlin", {**document, "preliminary": True, "lines": 16})
        wait_until(lambda: client.optics is not None, "the first lines are measured")
        with pytest.raises(TimedOutError):
            client.wait_for_optics("one", timeout_s=0.05)
        laboratory.say("optics", "merlin", document)
        optics = client.wait_for_optics("one", timeout_s=20.0)
    assert optics.defocus_nm is not None
    assert (optics.defocus_nm.value, optics.defocus_nm.sigma) == (12.1, 0.2)
    assert (optics.astigmatism_nm, optics.quality) == (None, 0.99)
    described = validator("optics").schema["components"]["schemas"]["optics"]["properties"]
    measured = {name for name, of in described.items() if str(of.get("$ref")).endswith("/measured")}
    assert set(QUANTITIES) == measured, "every quantity that stemd measures"
    with pytest.raises(FormatError, match=r"the optics .*agrees"):
        read(b'{"scan": "a", "started_ns": 1, "quality": 0, "usable": {}}',
             optics_of, "the optics")  # fmt: skip


def test_what_stemd_refuses_is_an_error_with_the_key_and_what_is_allowed(
    laboratory: Laboratory,
) -> None:
    def no(pipeline: str, kind: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return refused(request["id"], "ricom.kernel_size", "must be odd (got 4)", "3, 5, 7")

    with Client(laboratory.url) as client:
        assert client.change(ricom={"kernel_size": 7}).revision == 1
        pipeline, kind, request = laboratory.sink.requests[0]
        assert (pipeline, kind, request["ricom"]) == ("merlin", "settings", {"kernel_size": 7})
        laboratory.answer = no
        with pytest.raises(RefusedError, match="must be odd") as told:
            client.change(ricom={"kernel_size": 4})
    assert (told.value.key, told.value.allowed) == ("ricom.kernel_size", "3, 5, 7")
    assert told.value.remedy == "3, 5, 7"


def test_every_command_of_the_daemon_is_a_method_with_its_arguments(
    laboratory: Laboratory,
) -> None:
    image = np.ones((4, 4), np.float32)
    snapshot = a_snapshot(an_acquisition(), final=True)
    import base64

    tiff = base64.b64encode(encode_tiff(snapshot.results[0], snapshot)).decode()
    laboratory.answer = lambda pipeline, kind, request: (
        laboratory.sink.requests.append((pipeline, kind, request))
        or {"id": request["id"], "ok": True, "tiffs": {"image_restored": tiff}}
    )
    with Client(laboratory.url) as client:
        client.start(2, scan={"shape": [4, 4]}, settings={"optics": {}})
        for simple in ("stop", "abort", "reconnect", "save", "save_settings"):
            getattr(client, simple)()
        client.record(False)
        client.recompute({"ricom": {}}, write=True)
        client.estimate_rotation()
        client.describe("one", sample="Au", tags=("night",))
        client.reset()
        client.begin_session("night", scans=3)
        client.stop_session()
        restored = client.restore(image)
    assert restored["image_restored"].shape == (6, 9)
    sent = [request for _, _, request in laboratory.sink.requests]
    assert {request["command"] for request in sent} == set(ARGUMENTS)
    for request in sent:
        assert set(request["args"]) <= set(ARGUMENTS[request["command"]])
    assert sent[0]["args"] == {"scans": 2, "scan": {"shape": [4, 4]}, "settings": {"optics": {}}}
    (told,) = [request["args"] for request in sent if request["command"] == "describe"]
    assert told == {"scan": "one", "sample": "Au", "tags": ["night"]}
    assert len({request["id"] for request in sent}) == len(sent)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def public(kind: type) -> dict[str, Any]:
        return {n: v for n, v in vars(kind).items() if not n.startswith("_")}

    blocking, waiting = public(Client), public(AsyncClient)
    assert blocking.keys() == waiting.keys()
    for name, method in blocking.items():
        if inspect.isfunction(method):
            theirs = inspect.signature(waiting[name]).parameters
            assert inspect.signature(method).parameters == theirs, name


def test_who_is_not_there_is_told_with_what_to_do(
    laboratory: Laboratory, mosquitto_with: Callable[..., Mosquitto]
) -> None:
    nobody = f"mqtt://127.0.0.1:{free_port()}"
    cases: list[tuple[str, dict[str, Any], str]] = [
        (nobody, {}, "cannot be reached"),
        (laboratory.url, {"pipeline": "medipix"}, "no pipeline 'medipix'"),
        (laboratory.url, {"instrument": "themis", "timeout_s": 0.2}, "themis is not at the broker"),
        (mosquitto_with().url, {"timeout_s": 0.2}, "stemd is not at the broker"),
    ]
    for url, named, text in cases:
        with pytest.raises(NotConnectedError, match=text) as told, Client(url, **named):
            pass
        assert told.value.remedy
    mistakes = ("broker:1883", "mqtt://user@broker", "mqtt://broker:port", "http://broker")
    for url in (*mistakes, "mqtt://[::1"):
        with pytest.raises(UsageError, match="no address of a broker"):
            Client(url)


async def test_an_address_that_nobody_can_look_up_is_told_and_not_waited_for() -> None:
    async with asyncio.timeout(30.0):
        with pytest.raises(UsageError, match="1 to 63 letters between dots"):
            await AsyncClient("mqtt://broker..lab").__aenter__()
        with pytest.raises(NotConnectedError, match="cannot be reached"):
            await AsyncClient("mqtt://256.256.256.256").__aenter__()


def test_of_two_instruments_none_is_chosen_by_chance(
    mosquitto_with: Callable[..., Mosquitto],
) -> None:
    broker = mosquitto_with()
    laboratory = Laboratory(broker)
    try:
        where = Address.of(broker.url)
        topic = "stemd/zeiss/availability"
        publish.single(topic, "online", 1, True, hostname=where.host, port=where.port)
        for _ in range(3):
            with pytest.raises(NotConnectedError, match="there are 2 instruments"):
                Client(broker.url).__enter__()
        with Client(broker.url, instrument=INSTRUMENT) as client:
            assert client.pipeline == "merlin"
    finally:
        laboratory.sink.close()


async def test_who_waits_for_a_scan_gets_one_that_is_started_meanwhile(
    laboratory: Laboratory,
) -> None:
    async with (
        asyncio.timeout(30.0),
        AsyncClient(laboratory.url, instrument=INSTRUMENT) as client,
    ):
        waiting = asyncio.create_task(client.wait_for_scan())
        await asyncio.sleep(0)
        await client.start()
        await asyncio.to_thread(laboratory.scan, "one")
        assert (await waiting).id == "one"


async def test_what_is_asked_for_while_the_connection_is_begun_again_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []

    class Broker:
        def __init__(self, *_: Any, **named: Any) -> None:
            self.messages = self._messages()

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def subscribe(self, topic: str, qos: int) -> None:
            heard.append(topic)
            if topic == "before":
                await link.subscribe("meanwhile")

        async def _messages(self) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

    monkeypatch.setattr("stemd.client.link.aiomqtt.Client", Broker)
    link = Link(Address.of("mqtt://broker"), lambda *_: None, lambda: None)
    await link.subscribe("before")
    async with asyncio.timeout(30.0):
        await link.open(1.0)
        await link.close()
    assert heard == ["before", "meanwhile"]


async def test_a_request_that_is_lost_with_the_connection_is_told_once() -> None:
    client, complaints = AsyncClient(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))

    class Lost:
        async def publish(self, topic: str, payload: bytes) -> None:
            client._lost()
            raise NotConnectedError("lost", "")

    client._link, client._replies = Lost(), Replies()  # type: ignore[assignment]
    client._news.online = True
    with pytest.raises(NotConnectedError):
        await client.stop()
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


def test_a_scan_without_a_shape_is_an_error_in_words() -> None:
    with pytest.raises(FormatError, match="a scan is not as expected"):
        read(b'{"scan": {"shape": null}}', scan_of, "a scan")


def test_a_client_outside_its_block_says_so(laboratory: Laboratory) -> None:
    client = Client(laboratory.url)
    for _ in range(2):
        with pytest.raises(NotConnectedError, match="is not connected"):
            client.start()
        with pytest.raises(NotConnectedError, match="is not connected"):
            _ = Client(laboratory.url).state
        with client:
            assert client.start().revision is not None


def test_a_request_to_a_daemon_that_has_gone_is_refused_at_once(laboratory: Laboratory) -> None:
    with Client(laboratory.url) as client:
        laboratory.sink.stop()
        wait_until(lambda: not client.online, "the client knows that the daemon is gone")
        with pytest.raises(NotConnectedError, match="does not run"):
            client.start()


def test_a_client_comes_back_when_its_broker_does(
    mosquitto_with: Callable[..., Mosquitto], caplog: pytest.LogCaptureFixture
) -> None:
    broker = mosquitto_with()
    laboratory = Laboratory(broker)
    try:
        with Client(broker.url) as client:
            broker.stop()
            wait_until(lambda: not client.online, "the client notices")
            with pytest.raises(NotConnectedError):
                client.stop()
            broker.start()
            laboratory.sink.connected()
            wait_until(lambda: client.online, "the client is back", 30.0)
            laboratory.say("state", "merlin", {**STATE, "state": "acquiring"})
            client.wait_for_state("acquiring", timeout_s=20.0)
            assert client.reset().revision == 1
    finally:
        laboratory.sink.close()
    assert any("connection to the broker" in text for text in caplog.messages)


async def test_a_program_of_asyncio_waits_for_images_and_scans_at_once(
    laboratory: Laboratory,
) -> None:
    async with AsyncClient(laboratory.url, instrument=INSTRUMENT, pipeline="merlin") as client:
        seen: list[Any] = []

        async def look() -> None:
            async for image in client.images():
                seen.append(image)
                if image.final:
                    return

        looking = asyncio.create_task(look())
        scan = asyncio.create_task(client.wait_for_scan())
        await asyncio.sleep(0)
        final = a_snapshot(an_acquisition(), names=("bf",), final=True)
        async with asyncio.timeout(30.0):
            while not looking.done():
                await asyncio.to_thread(laboratory.say, "snapshot", "merlin", final)
                await asyncio.sleep(0.02)
            await asyncio.to_thread(laboratory.scan, "one")
            assert (await scan).id == "one"
        assert seen[-1].name == "bf"
        await looking
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:  # aiomqtt cancels its own and does not wait for it
        await asyncio.wait(rest, timeout=5.0)


def test_a_slow_reader_gets_the_newest_growing_image_and_every_finished_one() -> None:
    from stemd.client.news import ImageQueue

    async def read_them() -> list[tuple[int, bool]]:
        queue = ImageQueue("ricom")
        for sequence, final in [(1, False), (2, False), (3, True), (4, False), (5, False)]:
            snapshot = a_snapshot(an_acquisition(), final=final, sequence=sequence)
            queue.put(decode_image(encode_tiff(snapshot.results[0], snapshot)))
        found = [await queue.get() for _ in range(2)]
        return [(image.sequence, image.final) for image in found]

    assert asyncio.run(read_them()) == [(3, True), (5, False)]


@pytest.mark.parametrize("payload", [b"", b"II*\0", b"no tiff at all", b"II*\0\x08\0\0\0\0\0"])
def test_what_is_no_image_is_an_error_in_words(payload: bytes) -> None:
    with pytest.raises(StemdError, match=r"no TIFF|the description of an image"):
        decode_image(payload)


def test_a_message_that_is_not_as_expected_is_told_once_and_ignored(
    laboratory: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stemd.client"), Client(laboratory.url) as client:
        for _ in range(3):
            laboratory.say("state", "merlin", {"state": "waiting"})
        laboratory.say("state", "merlin", {**STATE, "state": "finishing"})
        assert client.wait_for_state("finishing", timeout_s=20.0).state == "finishing"
    told = [text for text in caplog.messages if "ignored" in text]
    assert len(told) == 1
