"""A tiny Merlin client written from the protocol's description alone."""

from __future__ import annotations

import socket
import time


class Client:
    """Reads the data port of a camera to the byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.data = b""

    def more(self, timeout: float = 20.0) -> bool:
        """Receive something; False at the end of the stream. Raises TimeoutError."""
        self.socket.settimeout(timeout)
        got = self.socket.recv(1 << 20)
        self.data += got
        return bool(got)

    def message(self, timeout: float = 20.0) -> bytes | None:
        """The next message's payload; None at the end of the stream."""
        while len(self.data) < 15:
            if not self.more(timeout):
                return None
        assert self.data[:4] == b"MPX,", self.data[:20]
        assert self.data[14:15] == b","
        end = 14 + int(self.data[4:14])
        while len(self.data) < end:
            if not self.more(timeout):
                return None
        payload, self.data = self.data[15:end], self.data[end:]
        return payload

    def everything(self) -> bytes:
        """All bytes until the end of the stream."""
        while self.more():
            pass
        self.close()
        return self.data

    def until_silent(self, seconds: float = 0.5) -> None:
        """Receive until nothing has come for some time; fails when it never stops."""
        for _ in range(1000):
            try:
                if not self.more(seconds):
                    break
            except TimeoutError:
                return
        raise AssertionError("the camera did not fall silent")

    def close(self) -> None:
        self.socket.close()


def ask(port: int, text: str) -> str:
    """One request on the control port: the reply's body."""
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(f"MPX,{len(text) + 1:010d},{text}".encode())
        reply = b""
        while len(reply) < 15 or len(reply) < 14 + int(reply[4:14]):
            got = peer.recv(1024)
            assert got, "the camera closed its control port"
            reply += got
        return reply[15:].decode()


def eventually(condition: object, seconds: float = 10.0) -> bool:
    """Whether `condition()` becomes true in time."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
