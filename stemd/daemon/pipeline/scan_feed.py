"""What an adapter says goes to the scan under way, to its record, and to the pipeline."""

from __future__ import annotations

import threading

from stemd.adapters.base import Apart
from stemd.blocks import (
    Ended,
    EndReason,
    EventBlock,
    FrameBlock,
    ImageBlock,
    Link,
    Message,
    Notice,
    Started,
)
from stemd.daemon.pipeline.reader_owner import Owner
from stemd.scan.counters import SharedCounters
from stemd.scan.run import ScanRun
from stemd.storage.scan_files import ScanFiles


class ScanFeed:
    """Begins, feeds and ends the scans of one reader, in its thread.

    `take_apart` alone is called by the threads of several links.
    """

    def __init__(self, owner: Owner, stop: threading.Event) -> None:
        self.counts = SharedCounters()
        self.blocks = 0
        """Blocks that the adapters have given with something in them."""
        self._counting = threading.Lock()
        self._owner, self._stop = owner, stop
        self._run: ScanRun | None = None
        self._files: ScanFiles | None = None

    def take(self, message: Message) -> None:
        """Pass on what the adapter says; a block is released."""
        match message:
            case FrameBlock() | EventBlock():
                self._count(message)
                try:
                    self._block(message)
                finally:
                    message.release()
            case ImageBlock():
                if self._run is not None:
                    self._run.take(message)
                if self._files is not None and self._files.recorder is not None:
                    self._files.recorder.offer(message, self._stop)
            case Started():
                self.end("replaced")
                self._run, self._files = self._owner.begin(message.acquisition)
            case Ended():
                self.end(message.reason)
            case Notice():
                self.counts.count([message])
                if self._run is not None:
                    self._run.count([message])
                self._owner.noticed(message)
            case Link():
                self._owner.linked(message)

    def take_apart(self, block: FrameBlock, link: int) -> Apart:
        """See `adapters.base.ReadsApart`."""
        run, files = self._run, self._files
        if run is None or files is None:
            return Apart.NOT_TAKEN
        if not run.reduce_apart(block, link, self._owner.settings_now()):
            return Apart.NOT_TAKEN
        self._count(block)
        kept = files.recorder is not None or bool(run.engines.inline)
        return Apart.KEEP if kept else Apart.REDUCED

    def end(self, reason: EndReason) -> None:
        """End the scan under way, if there is one."""
        run, files = self._run, self._files
        self._run = self._files = None
        if run is not None and files is not None:
            run.end(reason)
            self._owner.finish(run, files)

    def _count(self, block: FrameBlock | EventBlock) -> None:
        filled = block.count or (isinstance(block, EventBlock) and block.complete)
        with self._counting:
            self.blocks += bool(filled)

    def _block(self, block: FrameBlock | EventBlock) -> None:
        run, files = self._run, self._files
        if run is None or files is None:
            self.counts.add("blocks_without_scan")
            return
        settings = self._owner.settings_now()
        if settings is not run.settings:
            run.change(settings)
        if isinstance(block, FrameBlock) and block.reduced:
            run.engines.take_in(block)
        else:
            run.reduce(block)
        if files.recorder is not None:
            files.recorder.offer(block, self._stop)
