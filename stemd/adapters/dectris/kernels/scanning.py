"""A stream's bytes to a table of its messages, in compiled code: one row a message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.dectris.kernels.cbor_images import read_cbor_image
from stemd.adapters.dectris.kernels.legacy_images import read_legacy_image
from stemd.adapters.dectris.kernels.table import (
    BEGIN,
    BODY,
    BODY_END,
    COMMAND,
    END,
    KIND,
)
from stemd.compilation import njit

Rows = NDArray[np.int64]

MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""A header with all tables of the largest detector is smaller."""
MAX_PARTS = 64


@njit(nogil=True, cache=True)
def find_messages(data, at, stop, channel, rows, parts):
    """The messages that are whole in data[at:stop], no more than `rows` has rows.

    Returns how many there are, where the next begins, and how many bytes it has, as far as that
    is known (0: not; -1: what stands there is no message). `channel` is the name of stream2's
    channel to look for (empty: the first), `parts` (MAX_PARTS, 2) scratch memory. Cost: about
    0.2 us a message.
    """
    found = 0
    while found < rows.shape[0]:
        here, count, more = at, 0, True
        command = False
        while more:
            if stop - here < 2:
                return found, at, 0
            flags = data[here]
            if flags > 7 or (flags & 4 != 0 and flags & 1 != 0) or count == MAX_PARTS:
                return found, at, -1
            if flags & 2 == 0:
                size = np.int64(data[here + 1])
                body = here + 2
            else:
                if stop - here < 9:
                    return found, at, 0
                size = np.int64(0)
                for k in range(8):
                    if size > MAX_MESSAGE_BYTES:
                        return found, at, -1
                    size = size << 8 | np.int64(data[here + 1 + k])
                body = here + 9
            if body - at + size > MAX_MESSAGE_BYTES:
                return found, at, -1
            here = body + size
            if here > stop:
                return found, at, here - at
            parts[count, 0], parts[count, 1] = body, here
            count += 1
            command = flags & 4 != 0
            if command and count > 1:
                return found, at, -1
            more = flags & 1 != 0
        row = rows[found]
        row[:] = 0
        row[BEGIN], row[END] = at, here
        row[BODY], row[BODY_END] = parts[0, 0], parts[0, 1]
        if command:
            row[KIND] = COMMAND
        elif parts[0, 1] > parts[0, 0] and data[parts[0, 0]] == 123:  # {
            row[KIND] = read_legacy_image(data, parts, count, row)
        else:
            row[KIND] = read_cbor_image(data, parts[0, 0], parts[0, 1], channel, row)
        found += 1
        at = here
    return found, at, 0


def parts_of(message: bytes) -> list[bytes]:
    """The parts of a whole message."""
    found, at = [], 0
    while at < len(message):
        long = message[at] & 2
        size = int.from_bytes(message[at + 1 : at + 9], "big") if long else message[at + 1]
        at += 9 if long else 2
        found.append(message[at : at + size])
        at += size
    return found
