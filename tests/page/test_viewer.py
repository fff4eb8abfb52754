"""A viewer of the page is sent the newest of each image, and two at most that it has not drawn."""

from __future__ import annotations

import asyncio
from typing import Any

from stemd import image_frames
from stemd.page.encoder import Encoder
from stemd.page.protocol import Drawn, Watch
from stemd.page.viewer import Viewer
from tests.conftest import a_snapshot, an_acquisition

SCAN = an_acquisition((2, 3))


class Line:
    """A socket and its transport in one, which take everything at once."""

    closed = False

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    async def send_bytes(self, data: bytes) -> None:
        """An image on its way."""
        self.frames.append(data)

    async def send_str(self, text: str) -> None:
        """Texts are of no interest here."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_write_buffer_size(self) -> int:
        """Nothing waits in the transport; a viewer that may write at once is not tested here."""
        return 1


class Watching:
    """A viewer with its task, which has been sent these images: (name, sequence)."""

    def __init__(self) -> None:
        self.line = Line()
        socket: Any = self.line
        self.viewer = Viewer(socket, socket, Encoder(), operator=False)
        self.task = asyncio.create_task(self.viewer.send())

    def watch(self, *names: str) -> None:
        self.viewer.watch(Watch(type="watch", images={"cam": dict.fromkeys(names, 0)}))

    def offer(self, sequence: int, *names: str) -> None:
        self.viewer.offer("cam", a_snapshot(SCAN, names=names, sequence=sequence))

    def drawn(self, name: str) -> None:
        self.viewer.drawn(Drawn(type="drawn", pipeline="cam", name=name))

    async def sent(self) -> list[tuple[str, int]]:
        """What has been sent since the last time, when there is nothing left to do."""
        for _ in range(20):
            await asyncio.sleep(0)
        frames, self.line.frames = self.line.frames, []
        about = [image_frames.decode_image(frame)[0] for frame in frames]
        return [(meta["name"], meta["sequence"]) for meta in about]

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_each_frame_that_is_drawn_makes_room_for_one() -> None:
    watching = Watching()
    watching.watch("adf")
    seen = []
    for sequence in range(4):
        watching.offer(sequence, "adf")
        seen += await watching.sent()
    assert seen == [("adf", 0), ("adf", 1)]
    watching.drawn("adf")
    assert await watching.sent() == [("adf", 3)], "the newest; the one before it was skipped"
    watching.offer(4, "adf")
    assert await watching.sent() == [], "two are not drawn yet"
    watching.drawn("adf")
    watching.offer(5, "adf")
    assert await watching.sent() == [("adf", 5)]
    await watching.close()


async def test_an_image_that_nobody_watches_any_more_is_not_sent_though_it_waited() -> None:
    watching = Watching()
    watching.watch("adf", "sum")
    watching.offer(0, "adf", "sum")
    watching.watch("sum")
    assert watching.viewer.waiting == 1
    assert await watching.sent() == [("sum", 0)]
    await watching.close()
