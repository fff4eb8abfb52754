"""What a camera adapter, a recording and a decoder are to the rest of stemd."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Protocol, runtime_checkable

from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict

from stemd.acquisition import Acquisition, Scan
from stemd.addresses import host_fault
from stemd.blocks import Block, BlockPool, FrameBlock, Message, Notice
from stemd.typed import Table


def _host(value: str) -> str:
    if fault := host_fault(value):
        raise ValueError(fault)
    return value


HostName = Annotated[str, AfterValidator(_host)]
"""A computer's name or address."""


class AdapterSettings(Table):
    """Base of every adapter's config table (its `type` key is taken off before validation)."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    scan: Scan | None = None

    def outputs(self) -> tuple[str, ...]:
        """Names of images that the adapter gives without an engine."""
        return ()

    def detector_shape(self) -> tuple[int, int] | None:
        """(height, width) in pixels of the largest detector it can be, None where it is not known.

        `stemd check` judges angles by it.
        """
        return None


class Decoder(Protocol):
    """Pure: bytes in, messages out; no socket, clock or thread.

    The caller receives into `wants()`, one scatter list of writable views, in order, none empty,
    and says with `fed(n)` how many bytes it got. Any cut of the stream gives the same patterns.
    """

    def wants(self) -> Sequence[memoryview]:
        """Where the next bytes are to land."""
        ...

    def fed(self, count: int, now_ns: int) -> Iterable[Message]:
        """`count` bytes have landed; `now_ns` is the UTC time of the receive."""
        ...

    def flush(self, now_ns: int, *, eof: bool) -> Iterable[Message]:
        """Nothing more is there for now (give out what is whole) or ever (`eof`)."""
        ...


class Adapter(Protocol):
    """A camera. `read` runs in a thread of its own; the rest may be called from any thread.

    What does not return within seconds, but for `command` and `close`, is told as hanging.
    """

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Messages until `stop` is set or the source ends for good.

        A lost camera is not an end: it is a `Link(False)` and the adapter connects again. Must
        return within a second of `stop`. Each yielded block is released by the caller.
        """
        ...

    def set_scan(self, scan: Scan) -> None:
        """Scan geometry from the next acquisition on."""
        ...

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Camera control: "start", "stop", "abort". Raises CameraError where it has none."""
        ...

    def close(self) -> None:
        """Wake a blocked `read` after `stop` was set."""
        ...


@runtime_checkable
class Commanded(Protocol):
    """An adapter that says which of the camera's commands `command` can carry out."""

    @property
    def commands(self) -> frozenset[str]:
        """Of "start", "stop", "abort"; none without a control port."""
        ...


@dataclass(frozen=True, slots=True)
class CameraReading:
    """One thing that a camera says of itself: its state, a temperature, with its unit if told.

    `critical`: the camera says that it is out of its limits, or cannot be asked.
    """

    name: str
    value: str | int | float | bool
    unit: str = ""
    critical: bool = False


@runtime_checkable
class Instrumented(Protocol):
    """An adapter whose camera says how it is."""

    @property
    def camera_status(self) -> Sequence[CameraReading]:
        """The newest readings; none where the camera says nothing. Read by any thread."""
        ...


@runtime_checkable
class Reconnects(Protocol):
    """An adapter whose connection to the camera can be made anew."""

    def reconnect(self) -> None:
        """End the connection, if there is one, and connect at once. From any thread."""
        ...


@runtime_checkable
class Receives(Protocol):
    """An adapter that counts what it receives, so that a stream without frames is noticed.

    Both are read by any thread.
    """

    @property
    def received_bytes(self) -> int:
        """Bytes since it was made, but for those that a good camera sends between two scans."""
        ...

    @property
    def no_frames(self) -> str:
        """What to look at when bytes come and no frame comes of them: a remedy."""
        ...


class Apart(Enum):
    """What became of a block that was offered in the thread of one of several links."""

    NOT_TAKEN = "not taken"
    """Nothing: it is to come in order."""
    REDUCED = "reduced"
    """It is in the scan's sums, and nobody wants it any more."""
    KEEP = "keep"
    """It is in the scan's sums; others want it in order."""


TakeApart = Callable[[FrameBlock, int], Apart]
"""(block, link): offers a block of a scan that has begun, in the link's own thread."""


@runtime_checkable
class ReadsApart(Protocol):
    """An adapter of several links whose blocks may be reduced in a thread for each link.

    `read` gives the same messages with all blocks in the order of their frames.
    """

    def read_apart(
        self, pool: BlockPool, stop: threading.Event, take: TakeApart
    ) -> Iterator[Message]:
        """As `read`; each block is offered to `take` first, between its scan's Started and Ended.

        Blocks that `take` has not taken, or wants kept, are among the messages, in order.
        """
        ...


class Recording(Protocol):
    """A recorded scan with random access by frame, read by any number of threads."""

    @property
    def acquisition(self) -> Acquisition:
        """The scan that the file holds."""
        ...

    @property
    def frames(self) -> int:
        """Frames in the file."""
        ...

    @property
    def splits(self) -> bool:
        """Whether disjoint ranges of `blocks` are read independently, at no extra cost."""
        ...

    @property
    def notices(self) -> Sequence[Message]:
        """What was noticed on opening: cut-off last frame, holes, frames beyond the scan."""
        ...

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """Blocks of file frames start..stop-1, views of the mapped file where possible."""
        ...

    def close(self) -> None:
        """Unmap."""
        ...


@runtime_checkable
class SeveralScans(Protocol):
    """A recording that may hold several scans, one behind the other."""

    def each_scan(self) -> Iterator[Recording]:
        """All of them in order; each is read before the next is asked for."""
        ...


@runtime_checkable
class ScansByNumber(SeveralScans, Protocol):
    """A recording of a stream of which any scan can be read by itself, and again."""

    def numbered(self, number: int) -> Recording:
        """The scan with this number, from 1.

        Raises UsageError where none has it, at once or when its acquisition is asked for.
        """
        ...


Checkpoint = Mapping[str, NDArray[Any]]
"""Where a decoder stands in its stream, as plain arrays; `position` (1,) is the byte."""


@runtime_checkable
class SequentialRecording(Recording, Protocol):
    """A recording in which every part needs to know what came before it."""

    @property
    def extent(self) -> int:
        """Bytes of the stream: what `resume` and its checkpoints count."""
        ...

    def resume(
        self,
        acquisition: Acquisition,
        checkpoint: Checkpoint | None,
        stop: int,
        noticed: list[Notice],
    ) -> Generator[Block, None, Checkpoint | None]:
        """Blocks from a checkpoint (None: the beginning) to about byte `stop`.

        What is noticed of the scan on the way is added to `noticed`.

        Returns the checkpoint of what follows, None when the scan is over. The blocks of all
        sections are those of `blocks`, wherever the stream is cut.
        """
        ...
