"""The table of a stream's messages that kernels write and read: its columns and their codes."""

from __future__ import annotations

KIND, BEGIN, END, BODY, BODY_END = 0, 1, 2, 3, 4
SERIES, NUMBER, DATA, DATA_END = 5, 6, 7, 8
HEIGHT, WIDTH, ITEM, ALGORITHM = 9, 10, 11, 12
COLUMNS = 13
"""KIND of the message; BEGIN and END of all of it; BODY and BODY_END of its first part. For images
SERIES, NUMBER, DATA and DATA_END (compressed bytes), HEIGHT, WIDTH, ITEM (bytes of a value) and
ALGORITHM."""

OTHER, IMAGE, COMMAND, NO_CHANNEL, BAD = 0, 1, 2, 3, 4
"""Kinds: a message for Python, an image, a command of ZeroMQ, an image without the channel that is
asked for, an image that cannot be read."""

NONE, LZ4, BSLZ4 = 0, 1, 2
"""Algorithms."""
