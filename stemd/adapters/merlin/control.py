"""The control protocol of a Merlin camera: requests and replies as text, and a small client.

A message is "MPX,", ten digits, ",", TYPE,KEY[,VALUE][,STATUS]. The digits count the body and the
comma before it; some peers leave that comma out in replies, so both are accepted. TYPE is GET,
SET or CMD; STATUS 0 is done, 1 busy, 2 unknown, 3 out of range.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stemd.adapters.merlin.encoder import message
from stemd.adapters.sockets import watch_over
from stemd.errors import CameraError

OK, BUSY, UNKNOWN, OUT_OF_RANGE = 0, 1, 2, 3
MAX_BODY_BYTES = 4096
_CONNECT_S = 0.8  # a daemon that is stopped ends within a second
_MEANING = {
    BUSY: ("the camera is busy", "stop its acquisition first"),
    UNKNOWN: ("the camera does not know it", "check the name; older software knows fewer"),
    OUT_OF_RANGE: ("the value is out of range", "see the camera's manual for the allowed range"),
}
_HEAD = re.compile(rb"MPX,(\d{10}),")
_STATUS = re.compile(r"-?[0-9]{1,9}")
_BODY_START = re.compile(rb"(?:GET|SET|CMD),")


@dataclass(frozen=True, slots=True)
class Request:
    """One request: kind "GET", "SET" or "CMD"."""

    kind: str
    name: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: `value` is what a GET returns, `status` 0 where all is well."""

    kind: str
    name: str
    value: str
    status: int


def encode_request(request: Request) -> bytes:
    """The message of a request: GET and CMD carry the value 0, as the vendor's clients send it."""
    value = request.value if request.kind == "SET" else request.value or "0"
    return message(f"{request.kind},{request.name},{value}".encode("latin-1", "replace"))


def encode_reply(reply: Reply, *, counts_comma: bool = True) -> bytes:
    """The message of a reply."""
    middle = f",{reply.value}" if reply.kind == "GET" else ""
    body = f"{reply.kind},{reply.name}{middle},{reply.status}"
    return message(body.encode("latin-1", "replace"), counts_comma=counts_comma)


def take_body(data: bytearray, *, reply: bool = False) -> str | None:
    """Take the first whole message out of `data`; its body, or None while more is needed.

    Bytes before a message are dropped. A byte behind the end that begins no message belongs to
    the body: its length did not count the comma. A `reply` ends in its status, never in a comma.
    """
    while (head := _HEAD.search(data)) is not None:
        declared = int(head[1])
        if not 1 < declared <= MAX_BODY_BYTES or (
            len(data) >= head.end() + 4 and not _BODY_START.match(data, head.end())
        ):
            del data[: head.start() + 4]
            continue
        end = head.end() + declared - 1
        if len(data) < end:
            return None
        if len(data) > end and data[end : end + 1] != b"M":
            end += 1
        elif reply and data[end - 1 : end] == b",":
            return None
        body = data[head.end() : end].decode("latin-1").rstrip("\0\r\n ")
        del data[:end]
        return body
    del data[: max(0, len(data) - 14)]
    return None


def parse_reply(body: str) -> Reply:
    """A reply from its body. Raises CameraError when it is none."""
    kind, _, rest = body.partition(",")
    name, _, tail = rest.partition(",")
    value, _, status = tail.rpartition(",")
    if kind not in ("GET", "SET", "CMD") or not name or not _STATUS.fullmatch(status.strip()):
        raise CameraError(
            f"the camera's control port replied {body[:60]!r}",
            "check that control_port is the camera's control port (6341), not its data port",
        )
    return Reply(kind, name, value, int(status.strip()))


def parse_request(body: str) -> Request | None:
    """A request from its body, None when it is none."""
    parts = body.split(",", 2)
    if len(parts) < 2 or parts[0] not in ("GET", "SET", "CMD"):
        return None
    return Request(parts[0], parts[1].strip(), parts[2].strip() if len(parts) > 2 else "")


Command = Callable[[str], int]
"""Called with a command's name; returns the status to reply with."""


def _refuse(name: str) -> int:
    return UNKNOWN


@dataclass(slots=True)
class ControlServerProtocol:
    """A camera's side of the control port: bytes in, replies out; no socket.

    `values` holds what GET and SET know by name. `command` carries out CMD requests. `check`
    says whether a value may be set.
    """

    values: dict[str, str]
    command: Command = _refuse
    check: Callable[[str, str], int] = lambda name, value: OK
    counts_comma: bool = True
    _data: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> bytes:
        """Replies to the requests that are whole with these bytes."""
        self._data += data
        out = b""
        while (body := take_body(self._data)) is not None:
            request = parse_request(body)
            if request is not None:
                out += encode_reply(self._answer(request), counts_comma=self.counts_comma)
        return out

    def _answer(self, request: Request) -> Reply:
        kind, name = request.kind, request.name
        if kind == "CMD":
            return Reply(kind, name, "", self.command(name))
        if name not in self.values:
            return Reply(kind, name, "0" if kind == "GET" else "", UNKNOWN)
        if kind == "GET":
            return Reply(kind, name, self.values[name], OK)
        status = self.check(name, request.value)
        if status == OK:
            self.values[name] = request.value
        return Reply(kind, name, "", status)


class MerlinControl:
    """A blocking client of the control port; connects on first use, may be used by any thread.

    Every method raises CameraError when the camera cannot be reached, does not answer within
    `timeout` seconds, or refuses. `close` the connection after use: some cameras serve one client.
    """

    def __init__(self, host: str, port: int = 6341, timeout: float = 2.0) -> None:
        self.host, self.port, self.timeout = host, port, timeout
        self._socket: socket.socket | None = None
        self._data = bytearray()
        self._lock = threading.Lock()

    def get(self, name: str) -> str:
        """The value of a parameter."""
        return self._ask(Request("GET", name), lambda: True).value

    def set(self, name: str, value: object, wanted: Callable[[], bool] = lambda: True) -> None:
        """Set a parameter; True and False are sent as 1 and 0.

        `wanted` is asked right before the request is sent: False raises CameraError instead.
        """
        text = str(int(value)) if isinstance(value, bool) else str(value)
        self._ask(Request("SET", name, text), wanted)

    def cmd(self, name: str, wanted: Callable[[], bool] = lambda: True) -> None:
        """Carry out a command; `wanted` as in `set`."""
        self._ask(Request("CMD", name), wanted)

    def interrupt(self) -> None:
        """End a request that another thread waits for: it raises CameraError at once."""
        opened = self._socket
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, also from another thread: a pending request ends."""
        self.interrupt()
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._data.clear()

    def _ask(self, request: Request, wanted: Callable[[], bool]) -> Reply:
        where = f"Merlin control {self.host}:{self.port}: {request.kind} {request.name}"
        with self._lock:
            try:
                self._connect()
                # After the socket is known: whoever changes `wanted` interrupts it afterwards.
                if not wanted():
                    raise CameraError(f"{where}: not sent, a stop came first", "start again")
                reply = self._exchange(request)
            except OSError as error:
                self._drop()
                raise CameraError(
                    f"{where}: {error or type(error).__name__}",
                    "check that the camera's software runs and that control_port is right",
                ) from error
            except CameraError:
                self._drop()
                raise
        if reply.status != OK:
            what, remedy = _MEANING.get(reply.status, (f"status {reply.status}", ""))
            value = f" {request.value}" if request.value else ""
            raise CameraError(f"{where}{value}: {what}", remedy)
        return reply

    def _connect(self) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(
                (self.host, self.port), min(self.timeout, _CONNECT_S)
            )
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            watch_over(self._socket)

    def _exchange(self, request: Request) -> Reply:
        assert self._socket is not None
        deadline = time.monotonic() + self.timeout
        self._socket.settimeout(self.timeout)
        self._socket.sendall(encode_request(request))
        while True:
            body = take_body(self._data, reply=True)
            if body is not None:
                reply = parse_reply(body)
                # A late answer to a request that timed out must not answer this one.
                if (reply.kind, reply.name) == (request.kind, request.name):
                    return reply
                continue
            left = deadline - time.monotonic()
            if left <= 0.0:
                raise TimeoutError(f"no answer within {self.timeout:g} s")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(4096)
            except TimeoutError as error:
                raise TimeoutError(f"no answer within {self.timeout:g} s") from error
            if not data:
                raise ConnectionResetError("the connection was closed")
            self._data += data
