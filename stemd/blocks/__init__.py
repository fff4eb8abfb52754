"""What flows from a camera to the engines: messages, and blocks of patterns or events."""

from stemd.blocks.data import EventBlock, FrameBlock, ImageBlock
from stemd.blocks.memory import (
    BLOCK_BYTES,
    POOL_BYTES,
    BlockPool,
    Buffer,
    PoolClosedError,
    aligned,
)
from stemd.blocks.messages import Block, Ended, EndReason, Level, Link, Message, Notice, Started

__all__ = [
    "BLOCK_BYTES",
    "POOL_BYTES",
    "Block",
    "BlockPool",
    "Buffer",
    "EndReason",
    "Ended",
    "EventBlock",
    "FrameBlock",
    "ImageBlock",
    "Level",
    "Link",
    "Message",
    "Notice",
    "PoolClosedError",
    "Started",
    "aligned",
]
