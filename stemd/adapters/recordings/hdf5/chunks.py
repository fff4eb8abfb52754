"""Chunks that say of themselves how large they are: whether that is true.

The filters bitshuffle and LZ4 believe the first bytes of a chunk. A damaged one that claims more
than there is would end the process, not in an error.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from stemd.errors import FormatError

BITSHUFFLE, LZ4 = 32008, 32004
MAX_BLOCK_BYTES = 2**30
_HEAD = struct.Struct(">QI")  # bytes when unpacked, bytes of a block


def check_chunks(dataset: Any) -> None:
    """Raise FormatError where a chunk claims to unpack to another size than the dataset's chunks.

    `dataset` is a chunked one of a local file. Takes about two microseconds a chunk.
    """
    plan = dataset.id.get_create_plist()
    count = plan.get_nfilters()
    if not count or dataset.file.userblock_size or not Path(dataset.file.filename).is_file():
        return
    code, _, options, _ = plan.get_filter(count - 1)
    packed = code == LZ4 or (code == BITSHUFFLE and len(options) > 4 and options[4])
    if not packed:
        return
    size = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
    chunks: list[Any] = []
    dataset.id.chunk_iter(chunks.append)
    with Path(dataset.file.filename).open("rb") as file:
        for chunk in chunks:
            if chunk.filter_mask >> (count - 1) & 1:
                continue  # stored without this filter
            file.seek(chunk.byte_offset)
            head = file.read(_HEAD.size)
            if chunk.size < _HEAD.size or len(head) < _HEAD.size:
                raise _damaged(dataset, chunk, "is shorter than its header")
            claimed, block = _HEAD.unpack(head)
            odd = block % 8 if code == BITSHUFFLE else 0
            if claimed != size or not 0 < block <= MAX_BLOCK_BYTES or odd:
                raise _damaged(dataset, chunk, f"claims to hold {claimed:,} bytes, not {size:,}")


def _damaged(dataset: Any, chunk: Any, what: str) -> FormatError:
    at = ", ".join(str(n) for n in chunk.chunk_offset)
    return FormatError(
        f"{dataset.file.filename}: the chunk at ({at}) of {dataset.name} {what}",
        "the file is damaged: copy it again",
    )
