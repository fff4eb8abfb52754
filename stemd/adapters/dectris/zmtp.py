"""ZeroMQ's wire protocol (ZMTP 3, https://rfc.zeromq.org/spec/23) between PUSH and PULL.

After a greeting of 64 bytes each side says READY, then messages follow: frames of one flag byte
(1: more frames follow, 2: a long length, 4: a command), a length of 1 or 8 bytes, and the body.
"""

from __future__ import annotations

from stemd.errors import FormatError

MORE, LONG, COMMAND = 1, 2, 4
GREETING_BYTES = 64
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_MECHANISM = slice(12, 32)
MAX_COMMAND_BYTES = 4096
_NOT_THERE = "check that the port is the camera's stream: 31001, or 9999 of the legacy stream"


def greeting() -> bytes:
    """What each side says first: version 3.0, no security, no matter who is the server."""
    start = _SIGNATURE + bytes([3, 0]) + b"NULL".ljust(20, b"\0")
    return start.ljust(GREETING_BYTES, b"\0")


def check_greeting(data: bytes) -> None:
    """The other side's greeting, as far as it has come. Raises FormatError when it is none."""
    for at, expected in ((0, 0xFF), (9, 0x7F)):
        if len(data) > at and data[at] != expected:
            raise FormatError("the peer does not speak ZeroMQ", _NOT_THERE)
    if len(data) > 10 and data[10] < 3:
        raise FormatError(
            f"the peer speaks version {data[10]} of ZeroMQ's protocol, needed is 3",
            "update the detector control unit's software",
        )
    mechanism = bytes(data[_MECHANISM])
    if len(data) >= GREETING_BYTES and mechanism.rstrip(b"\0") != b"NULL":
        raise FormatError(
            f"the peer wants a login of the kind {mechanism.rstrip(bytes(1))!r}", _NOT_THERE
        )


def frame(body: bytes, *, more: bool = False, command: bool = False) -> bytes:
    """One frame of a message, or a command."""
    flags = MORE * more | COMMAND * command
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body


def message(*parts: bytes) -> bytes:
    """A message of one or more parts."""
    last = len(parts) - 1
    return b"".join(frame(part, more=i < last) for i, part in enumerate(parts))


def ready(socket_type: str) -> bytes:
    """The command that ends the handshake; `socket_type` is "PUSH" or "PULL"."""
    value = socket_type.encode()
    key = b"Socket-Type"
    body = b"\x05READY" + bytes([len(key)]) + key + len(value).to_bytes(4, "big") + value
    return frame(body, command=True)


def command(body: bytes) -> tuple[str, bytes]:
    """(name, what follows it) of a command. Raises FormatError."""
    if not body or len(body) < 1 + body[0]:
        raise FormatError("a damaged command of ZeroMQ's protocol", _NOT_THERE)
    return body[1 : 1 + body[0]].decode("latin-1"), body[1 + body[0] :]


def answer(body: bytes) -> bytes:
    """What is to be sent back to a command: a PONG to a PING.

    Raises FormatError for an ERROR, and a READY of what is not a PUSH socket.
    """
    name, rest = command(body)
    if name == "PING":
        return frame(b"\x04PONG" + rest[2:], command=True)
    if name == "ERROR":
        why = rest[1 : 1 + rest[0]].decode("latin-1") if rest else ""
        raise FormatError(f"the peer refuses the connection: {why or 'no reason'}", _NOT_THERE)
    if name == "READY":
        kind = _properties(rest).get("socket-type", "")
        if kind not in ("", "PUSH"):
            raise FormatError(f"the peer's socket is a {kind}, a camera's is a PUSH", _NOT_THERE)
    return b""


def _properties(data: bytes) -> dict[str, str]:
    found = {}
    while data and len(data) >= 5 + data[0]:
        name, data = data[1 : 1 + data[0]].decode("latin-1").lower(), data[1 + data[0] :]
        size = int.from_bytes(data[:4], "big")
        found[name], data = data[4 : 4 + size].decode("latin-1"), data[4 + size :]
    return found
