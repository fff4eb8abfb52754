"""Several sockets of ours to one stream, for `StreamAdapter` what one alone is."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

from stemd.adapters.dectris.joining import Joined
from stemd.adapters.sockets import Receiver

_PATIENCE_S = 0.005
_SLICE_S = 0.1
_ROUNDS = 4
"""Receives of each socket in one call; between them other sockets fill."""


class PullTogether(Receiver):
    """Receives from the first socket and `others`, and gives their messages in line.

    The greetings and answers of all of them are sent here.
    """

    patient = True

    def __init__(self, connected: socket.socket, others: Sequence[socket.socket]) -> None:
        self.socket = connected
        self._sockets = (connected, *others)
        self._joined = Joined(len(self._sockets))
        self._left = memoryview(b"")
        self._over = False
        self._poll = select.poll()
        self._which = {}
        for which, each in enumerate(self._sockets):
            each.setblocking(False)
            self._poll.register(each, select.POLLIN)
            self._which[each.fileno()] = which
        self._answer()

    def wait(self) -> bool:
        """See `Receiver`; not long while messages wait for those of another connection."""
        patience_s = 4 * _PATIENCE_S if self._joined.waiting else _SLICE_S
        return bool(self._poll.poll(int(patience_s * 1000)))

    def receive(self, views: Sequence[memoryview]) -> int | None:
        """See `Receiver`; 0 once one of the connections has ended, and all is given out."""
        if not self._left:
            self._receive()
        if not self._left:
            return 0 if self._over else None
        count = min(len(self._left), len(views[0]))
        views[0][:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _receive(self) -> None:
        for _ in range(_ROUNDS):
            ready = self._poll.poll(int(_PATIENCE_S * 1000))
            if not ready or self._over:
                break
            for number, _ in ready:
                self._from(self._which[number])
            self._answer()
        self._left = memoryview(self._joined.line(time.monotonic(), over=self._over))

    def _from(self, which: int) -> None:
        try:
            count = self._sockets[which].recv_into(self._joined.pulls[which].room())
        except (BlockingIOError, InterruptedError):
            return
        self._over = self._over or count == 0
        self._joined.came(which, count)

    def _answer(self) -> None:
        for each, pull in zip(self._sockets, self._joined.pulls, strict=True):
            data, pull.outgoing = pull.outgoing, b""
            if data:
                each.sendall(data)

    def leave(self) -> None:
        """See `Receiver`: the others are closed."""
        for each in self._sockets[1:]:
            each.close()
