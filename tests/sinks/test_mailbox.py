"""What waits for the broker stays small, and what must not be lost is not."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemd.config.mqtt import MqttSettings
from stemd.drawing import Drawing
from stemd.events import Hub
from stemd.mqtt.complaints import Complaints
from stemd.mqtt.connection import Connection, Outgoing
from stemd.mqtt.documents import Documents
from stemd.mqtt.images import ImagePublisher, SizeLimit
from stemd.mqtt.mailbox import MAX_DOCUMENTS, Image, ImageMailbox, Outbox
from stemd.mqtt.status import MqttStatus
from stemd.mqtt.topics import Topics
from stemd.results import DrawnResult, Result
from tests.conftest import a_snapshot, an_acquisition

SCAN = an_acquisition((2, 3))


def image(name: str, sequence: int, *, final: bool = False) -> Image:
    snapshot = a_snapshot(SCAN, names=(name,), final=final, sequence=sequence)
    return Image("merlin", snapshot.results[0], snapshot)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from("abc"), st.booleans()),
            st.just(("take",)),
            st.just(("fail",)),
        ),
        max_size=60,
    )
)
def test_whatever_happens_finals_come_all_in_order_and_of_each_growing_image_the_newest(
    steps: list[tuple[str, ...]],
) -> None:
    mailbox = ImageMailbox()
    finals: list[int] = []
    newest: dict[str, int] = {}
    taken: list[Image] = []
    for number, step in enumerate(steps):
        if step[0] == "put":
            _, name, final = step
            mailbox.put(image(name, number, final=bool(final)))
            if final:
                finals.append(number)
                newest.pop(name, None)
            else:
                newest[name] = number
        elif (found := mailbox.take()) is not None:
            if step[0] == "take":
                taken.append(found)
            else:
                mailbox.put_back(found)
        assert len(mailbox) <= len(finals) + 3
    while (found := mailbox.take()) is not None:
        taken.append(found)
    sent = [(found.result.name, found.snapshot.sequence, found.snapshot.final) for found in taken]
    assert [sequence for _, sequence, final in sent if final] == finals
    for name in "abc":
        mine = [(sequence, final) for other, sequence, final in sent if other == name]
        if name in newest:
            assert mine[-1] == (newest[name], False)


def test_older_finals_beyond_the_limit_are_dropped_oldest_first_and_counted() -> None:
    one = image("a", 0, final=True).bytes
    mailbox = ImageMailbox(final_bytes=3 * one)
    dropped = [mailbox.put(image("a", number, final=True)) for number in range(6)]
    assert dropped == [0, 0, 0, 0, 1, 1]
    assert mailbox.finals_dropped == 2
    assert [sequence for _, sequence, _ in taken(mailbox)] == [2, 3, 4, 5]
    assert mailbox.put(image("a", 6, final=True)) == 0


def test_the_finals_of_one_scan_are_all_sent_however_large_they_are() -> None:
    """They are kept for the retained topics: to drop them would free nothing."""
    one = image("a", 0, final=True).bytes
    mailbox = ImageMailbox(final_bytes=2 * one)
    assert [mailbox.put(image(name, 1, final=True)) for name in "abcdefg"] == [0] * 7
    failed = mailbox.take()
    assert failed is not None
    mailbox.put_back(failed)
    # of the next scan: what the first one left is too much by then
    assert [mailbox.put(image(name, 2, final=True)) for name in "abcdefg"] == [0, 0, *[1] * 5]
    assert [name for name, sequence, _ in taken(mailbox) if sequence == 1] == ["f", "g"]


def test_a_drawn_final_that_is_not_the_newest_holds_the_sums_of_its_scan() -> None:
    def drawn(sequence: int) -> Image:
        plain = image("a", sequence, final=True)
        drawing = Drawing(plain.result.shape, plain.result.lines)
        result = DrawnResult("a", drawing, plain.result.units)
        return Image("merlin", result, plain.snapshot)

    mailbox = ImageMailbox(final_bytes=5 * image("a", 0).bytes)
    assert [mailbox.put(drawn(number)) for number in range(3)] == [0, 1, 1]
    assert [sequence for _, sequence, _ in taken(mailbox)] == [2]


def test_an_image_that_waits_keeps_no_other_of_its_scan_in_memory() -> None:
    results = [Result(name, np.zeros((2, 3), np.float32), "counts") for name in "ab"]
    snapshot = replace(a_snapshot(SCAN, final=True), results=results)
    one, other = Image.each_of("merlin", snapshot)
    gone = weakref.ref(other.result.image)
    del results, snapshot, other
    assert gone() is None
    assert one.snapshot.final


async def test_an_image_is_gone_when_it_is_sent_before_the_next_one_is_encoded() -> None:
    class Messages(list[Outgoing]):
        """What can be referred to weakly."""

    class Broker:
        max_packet_bytes = lost = None

        async def send(self, message: Outgoing) -> None:
            sent.append(message.topic)

    sent: list[str] = []
    encoded: list[weakref.ref[Messages]] = []
    publisher = ImagePublisher(Topics("titan"), MqttSettings(url="mqtt://nowhere"), print)
    encode = publisher._encoded

    async def encoding(image: Image) -> Messages:
        assert [each() for each in encoded] == [None] * len(encoded)
        messages = Messages(await encode(image))
        encoded.append(weakref.ref(messages))
        return messages

    publisher._encoded = encoding  # type: ignore[method-assign, assignment]
    for name in "abc":
        publisher.put(image(name, 1, final=True))
    await publisher.drain(cast(Connection, Broker()))
    assert len(encoded) == publisher.sent == 3
    assert len(sent) == 6


def taken(mailbox: ImageMailbox) -> list[tuple[str, int, bool]]:
    """Everything that waits, in the order in which it goes out: name, sequence, final."""
    out = []
    while (found := mailbox.take()) is not None:
        out.append((found.result.name, found.snapshot.sequence, found.snapshot.final))
    return out


def test_a_growing_image_that_waits_is_dropped_when_its_own_final_comes() -> None:
    mailbox = ImageMailbox()
    mailbox.put(image("a", 1))
    mailbox.put(image("b", 2))
    mailbox.put(image("a", 3, final=True))
    assert taken(mailbox) == [("a", 3, True), ("b", 2, False)]


def test_the_growing_image_that_has_waited_longest_goes_first_also_after_a_failure() -> None:
    mailbox = ImageMailbox()
    mailbox.put(image("a", 1))
    mailbox.put(image("b", 2))
    mailbox.put(image("a", 3))
    first = mailbox.take()
    assert first is not None
    assert first.result.name == "a"
    mailbox.put_back(first)
    assert taken(mailbox) == [("a", 3, False), ("b", 2, False)]
    assert mailbox.replaced == 1


def test_an_image_that_could_not_be_sent_does_not_replace_a_newer_one() -> None:
    mailbox = ImageMailbox()
    mailbox.put(image("a", 1))
    old = mailbox.take()
    assert old is not None
    mailbox.put(image("a", 2))
    mailbox.put_back(old)
    assert taken(mailbox) == [("a", 2, False)]


def test_finals_that_were_sent_make_room_for_others() -> None:
    one = image("a", 0, final=True).bytes
    mailbox = ImageMailbox(final_bytes=3 * one)
    for turn in range(3):
        assert [mailbox.put(image("a", n, final=True)) for n in range(3)] == [0, 0, 0], turn
        failed = mailbox.take()
        assert failed is not None
        mailbox.put_back(failed)
        assert taken(mailbox) == [("a", n, True) for n in range(3)]
    assert mailbox.finals_dropped == 0


def test_an_unsent_state_is_replaced_and_documents_are_kept_in_order() -> None:
    outbox = Outbox()
    outbox.newest(Outgoing("state", b"1"))
    outbox.queue(Outgoing("scan", b"a", 1))
    outbox.newest(Outgoing("state", b"2"))
    outbox.queue(Outgoing("scan", b"b", 1))
    said = []
    while (item := outbox.peek()) is not None:
        said.append(item[1].payload)
        outbox.sent(*item)
    assert said == [b"2", b"a", b"b"]


def test_a_summary_is_sent_though_the_next_session_begins_at_once() -> None:
    outbox = Outbox()
    outbox.newest(Outgoing("session", b"night runs", 1, True))
    outbox.last(Outgoing("session", b"night is over", 1, True))
    outbox.newest(Outgoing("session", b"day runs", 1, True))
    outbox.newest(Outgoing("session", b"day goes on", 1, True))
    sent = []
    while (item := outbox.peek()) is not None:
        sent.append(item[1].payload)
        outbox.sent(*item)
    assert sent == [b"night is over", b"day goes on"]


def test_a_state_that_changes_while_it_is_being_sent_is_sent_again() -> None:
    outbox = Outbox()
    outbox.newest(Outgoing("state", b"1"))
    item = outbox.peek()
    assert item is not None
    outbox.newest(Outgoing("state", b"2"))
    outbox.sent(*item)
    left = outbox.peek()
    assert left is not None
    assert left[1].payload == b"2"


def test_a_flood_of_replies_or_log_lines_pushes_out_no_scan_document() -> None:
    outbox = Outbox(limit=3)
    outbox.queue(Outgoing("scan", b"a", 1))
    for number in range(10):
        outbox.queue(Outgoing("reply", b"%d" % number, 1), "replies")
        outbox.queue(Outgoing("log", b"x%d" % number), "log")
    outbox.newest(Outgoing("state", b"s", 1))
    outbox.queue(Outgoing("scan", b"b", 1))
    left = []
    while (item := outbox.peek()) is not None:
        left.append(item[1].payload)
        outbox.sent(*item)
    assert left == [b"a", b"s", b"b", b"7", b"8", b"9", b"x7", b"x8", b"x9"]
    assert outbox.dropped == {"documents": 0, "replies": 7, "log": 7}


def test_scan_documents_beyond_the_limit_are_dropped_oldest_first_and_counted() -> None:
    outbox = Outbox(limit=2)
    outbox.newest(Outgoing("state", b"s", 1))
    for payload in (b"a", b"b", b"c"):
        outbox.queue(Outgoing("scan", payload, 1))
    left = []
    while (item := outbox.peek()) is not None:
        left.append(item[1].payload)
        outbox.sent(*item)
    assert left == [b"s", b"c"]
    assert outbox.dropped["documents"] == 2


def test_one_lost_connection_is_not_blamed_on_the_size_of_an_image() -> None:
    limit = SizeLimit()
    limit.begin(None)
    limit.sending(1000)
    assert not limit.lost(ConnectionResetError())
    assert limit.allows(10**9)
    limit.begin(500)
    assert not limit.allows(501)
    assert limit.allows(500)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "http://broker"}, "must be"),
        ({"url": "mqtt://user:secret@broker"}, "no login in the url"),
        ({"url": "mqtt://broker:99999"}, "port"),
        ({"url": "mqtt://broker/path"}, "nothing may follow"),
        ({"url": "mqtt://b", "password_file": "/x"}, "needs username"),
        ({"url": "mqtts://b", "cert_file": "/x"}, "go together"),
        ({"url": "mqtt://b", "ca_file": "/x"}, "mqtts"),
        ({"url": "mqtt://b", "password": "secret"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MqttSettings(**fields)


def test_ports_have_their_usual_defaults_and_addresses_may_be_of_version_6() -> None:
    assert MqttSettings(url="mqtt://broker").port == 1883
    assert MqttSettings(url="mqtts://broker").port == 8883
    six = MqttSettings(url="mqtt://[::1]:1234")
    assert (six.host, six.port) == ("::1", 1234)


def test_a_flood_of_answers_leaves_the_scan_documents_in_their_lane() -> None:
    topics, settings = Topics("titan"), MqttSettings(url="mqtt://h")
    status = MqttStatus(settings.url)
    documents = Documents(topics, settings, status, Complaints(status, Hub()))
    documents.queue(Outgoing("stemd/titan/cam/scan", b"finished", 1))
    for number in range(MAX_DOCUMENTS + 5):
        documents.reply(Outgoing("stemd/titan/cam/reply", b"%d" % number, 1))
    counters = documents.counters
    assert (counters["documents_dropped"], counters["replies_dropped"]) == (0, 5)
    assert counters["documents_waiting"] == MAX_DOCUMENTS + 1
