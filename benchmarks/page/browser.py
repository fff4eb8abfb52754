"""How fast a browser draws, and how late.

Headless Chromium draws images that come at a fixed rate. Lag is from the moment an image is handed
to the page until its pixels are drawn and the daemon has been told.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"


def say(text: str) -> None:
    """One line for the reader."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def browser_speed(side: int, rate: float, seconds: float) -> None:
    """Print how many images of side x side a second Chromium draws, and how late.

    Chromium runs by itself: a program that drives it would be told every byte of every image.
    """
    import numpy as np

    from stemd.acquisition import Acquisition, Detector, Scan
    from stemd.config.page import PageSettings
    from stemd.events import Hub
    from stemd.logs import set_up_logs
    from stemd.page import encoder, viewer
    from stemd.page.protocol import Drawn
    from stemd.page.server import Page
    from stemd.results import Result, Snapshot

    sent_ns: deque[int] = deque()
    lags_ms: list[float] = []
    counted = [0]

    class Encoder(encoder.Encoder):
        def at_once(self, pipeline: str, waiting: encoder.Waiting) -> encoder.Payload | None:
            ready = super().at_once(pipeline, waiting)
            if ready is not None and waiting.result.name == "ricom":
                sent_ns.append(waiting.snapshot.time_ns)
            return ready

        async def frame(self, pipeline: str, waiting: encoder.Waiting) -> encoder.Payload:
            before = len(sent_ns)
            payload = await super().frame(pipeline, waiting)
            if len(sent_ns) == before and waiting.result.name == "ricom":
                sent_ns.append(waiting.snapshot.time_ns)
            return payload

    def drawn(self: viewer.Viewer, message: Drawn) -> None:
        # of several the last has just been drawn, the others were before
        for left in reversed(range(message.names.count("ricom"))):
            sent = sent_ns.popleft()
            counted[0] += 1
            if left == 0:
                lags_ms.append((time.time_ns() - sent) / 1e6)
        heard(self, message)

    heard = viewer.Viewer.drawn
    viewer.Viewer.drawn = drawn  # type: ignore[method-assign]
    set_up_logs("error")
    hub = Hub()
    settings = PageSettings(listen="127.0.0.1:0")
    page = Page(settings, hub, "bench", Path("/nonexistent"), lambda: (True, {}), lambda: b"")
    page._audience._encoder = Encoder()
    await page.start()
    hub.add(page)
    url = page.url
    acquisition = Acquisition(Scan(shape=(side, side)), Detector("none", (8, 8), "u2", 12))
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(side, side)).astype(np.float32) for _ in range(4)]
    total = side * side
    hub.state("bench", {"state": "acquiring", "scan": acquisition.id, "positions_total": total})

    async def show(duration_s: float) -> None:
        began, sequence = time.monotonic(), 0
        while time.monotonic() < began + duration_s:
            sequence += 1
            image = images[sequence % 4]
            results = [Result(name, image.view(), "px*px") for name in ("ricom", "bf", "adf")]
            now = time.time_ns()
            hub.snapshot(
                "bench", Snapshot(acquisition, results, total, total, False, sequence, now, 1)
            )
            await asyncio.sleep(max(0.0, began + sequence / rate - time.monotonic()))

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags += ["--window-size=1280,800", f"--user-data-dir={profile}"]
        flags += ["--disable-background-networking", "--disable-component-update"]
        browser = await asyncio.create_subprocess_exec(
            *(CHROMIUM, *flags, "--remote-debugging-port=0", url),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            while not lags_ms:
                await show(1.0)
            await show(2.0)
            lags_ms.clear()
            counted[0] = 0
            cpu, began = time.process_time(), time.monotonic()
            await show(seconds)
            spent, cpu = time.monotonic() - began, time.process_time() - cpu
        finally:
            browser.terminate()
            await browser.wait()
    await page.stop()
    lags_ms.sort()
    middle, late = lags_ms[len(lags_ms) // 2], lags_ms[int(len(lags_ms) * 0.99)]
    say(f"{side} x {side} at {rate:g}/s in headless Chromium for {spent:.0f} s:")
    say(f"  drawn      {counted[0] / spent:6.1f} images/s")
    say(f"  lag        {middle:6.0f} ms median, {late:.0f} ms for 99 %")
    say(f"  daemon     {cpu / counted[0] * 1e3:6.1f} ms of processor an image")
