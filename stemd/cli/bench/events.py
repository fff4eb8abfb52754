"""Event cameras: words to positions to sums, from memory and over loopback TCP."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from stemd import plugins
from stemd.acquisition import Scan
from stemd.ahead import ahead
from stemd.cli.bench.harness import Case, Context, Row, Timing
from stemd.cli.bench.limits import memory_read
from stemd.cli.bench.pipelines import LiveOwner, bare_receive, engines_of, settings_for
from stemd.daemon.pipeline.reader import Reader
from stemd.errors import StemdError
from stemd.portable import module_command
from stemd.scan.run import ScanRun

WORD_BYTES = 8
LINK_HITS_S = 40_000_000
"""What the link of one chip carries at most, 0.3 GB a second."""
LIVE = "live/timepix3/ricom61+annulus"
LIVE_LINK = "live/timepix3-40M-hits/ricom61+annulus"
DWELL_TICKS = 640
"""One microsecond on the clock of 1.5625 ns."""
SHAPE = (256, 256)


def event_file(hits_a_position: int, context: Context) -> Path:
    """A .tpx3 of one scan: a pulse a line, hits of a quad's chips in chunks, made once a run."""
    from stemd.adapters.events.layout import Layout
    from stemd.adapters.events.ticks import TDC1_RISE
    from stemd.adapters.timepix3.words import chunks, pixel_words, tdc_words

    def make() -> Path:
        rng = np.random.default_rng(0)
        layout = Layout("quad")
        ny, nx = SHAPE
        with tempfile.NamedTemporaryFile(suffix=".tpx3", delete=False) as file:
            for line in range(ny):
                begin = 1_000_000 + line * nx * DWELL_TICKS
                file.writelines(chunks(tdc_words([begin], [line % 4096], TDC1_RISE)))
                count = nx * hits_a_position
                when = begin + np.sort(rng.integers(0, nx * DWELL_TICKS, count))
                y, x = np.clip(rng.normal(256.0, 60.0, (2, count)).astype(np.int64), 0, 511)
                chip, chip_y, chip_x = layout.chip_coordinates(y, x)
                words = pixel_words(when, chip_y, chip_x, 5)
                for start in range(0, count, 512):
                    part = slice(start, start + 512)
                    for number in range(4):
                        mine = words[part][chip[part] == number]
                        if mine.size:
                            file.writelines(chunks(mine, number))
        return Path(file.name)

    path: Path = context.once(f"file-events-{hits_a_position}", make)
    return path


def process(
    hits_a_position: int, kernel: int, annuli: int, threads: int, context: Context
) -> Iterator[Row]:
    """Decode, place, reduce and riCOM of a whole recorded scan.

    By one thread, or decoded and placed by one and the rest by another, as `decode_apart` does.
    """
    from stemd.adapters.timepix3.recording import open_recording

    path = event_file(hits_a_position, context)
    engines = engines_of(kernel, annuli)
    settings = settings_for(engines)
    scan = Scan(shape=SHAPE)
    positions = scan.positions
    walls: list[float] = []
    cpus: list[float] = []
    hits = 0
    end = float("inf")
    while len(walls) < 4 or time.perf_counter() < end:
        if len(walls) == 1:
            end = time.perf_counter() + context.seconds
        recording = open_recording(path, scan)
        run = ScanRun(recording.acquisition, settings, engines)
        blocks = recording.blocks(0, positions)
        if threads > 1:
            blocks = ahead(blocks, lambda block: block.release())
        wall, cpu = time.perf_counter(), time.process_time()
        for block in blocks:
            run.reduce(block)
            run.feed()
            block.release()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        hits = run.intake.hits
        recording.close()
    name = f"events/tpx3/{hits_a_position}-hits/ricom{kernel}" + ("+annulus" if annuli else "")
    name += f"/{threads}-threads" if threads > 1 else ""
    timing = Timing.of(walls[1:], cpus[1:])
    note = f"{timing.cpu_s / hits * 1e9:.1f} CPU ns a hit"
    limit = memory_read(context) / WORD_BYTES
    row = Row.timed(name, hits, "hits/s", timing, limit, "memory/read", note)
    yield replace(row, cpu_us_per_frame=timing.cpu_s / positions * 1e6)
    yield Row.timed(name + "/positions", positions, "positions/s", timing)


@contextmanager
def camera(positions_s: int) -> Iterator[int]:
    """A virtual Timepix3 in another process, one scan repeated; 0: as fast as it is taken."""
    command = module_command("stemd", "virtual", "timepix3", "--repeat")
    command += [
        "--rate",
        str(positions_s),
        "--scan",
        "128x128",
        "--dose",
        "100",
        "--specimen",
        "vacuum",
        "--port",
        "0",
    ]
    command += ["--gap", "0", "--json", "--end-with-input"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{") and json.loads(line).get("event") == "ready":
                yield int(json.loads(line)["data_port"])
                return
        raise StemdError("the virtual camera did not start", "run `stemd virtual timepix3`")
    finally:
        process.terminate()
        process.wait(5)


def live(name: str, positions_s: int, context: Context) -> Iterator[Row]:
    """The whole path over loopback TCP against a bare receive of the same sender, in turns."""
    plugin = plugins.load("adapters", "timepix3")
    seconds = max(2.0, context.seconds)
    rates, limits, cpus = [], [], []
    with camera(positions_s) as port:
        for _ in range(3):
            limits.append(bare_receive(port, seconds)[0] / WORD_BYTES)
            owner = LiveOwner(engines_of(61, 1))
            table = {"host": "127.0.0.1", "port": port, "scan": {"shape": [128, 128]}}
            settings = plugin.settings.model_validate(table)
            reader = Reader("bench", partial(plugin.build, settings), owner)
            reader.start()
            end = time.monotonic() + 30.0
            while owner.bytes < 1 << 22:
                if time.monotonic() > end:
                    raise StemdError("no hits came from the virtual camera", "run it again")
                time.sleep(0.01)
            done, cpu, began = owner.bytes, time.process_time(), time.perf_counter()
            time.sleep(seconds)
            words = (owner.bytes - done) / WORD_BYTES
            rates.append(words / (time.perf_counter() - began))
            cpus.append((time.process_time() - cpu) / max(1.0, words))
            reader.close()
            reader.join(5.0)
    order = sorted(range(3), key=lambda i: rates[i] / limits[i])[1]
    note = f"{cpus[order] * 1e9:.1f} CPU ns a word"
    yield Row(
        name,
        rates[order],
        "words/s",
        limits[order],
        "bare receive",
        note=note,
        lowest=min(rates),
        highest=max(rates),
    )


def cases() -> dict[str, Case]:
    """All event cases by name."""
    return {
        "events/tpx3/20-hits/ricom61+annulus": partial(process, 20, 61, 1, 1),
        "events/tpx3/20-hits/ricom61+annulus/2-threads": partial(process, 20, 61, 1, 2),
        "events/tpx3/100-hits/ricom61+annulus": partial(process, 100, 61, 1, 1),
        "events/tpx3/100-hits/ricom61+annulus/2-threads": partial(process, 100, 61, 1, 2),
        "events/tpx3/100-hits/ricom21": partial(process, 100, 21, 0, 1),
        LIVE: partial(live, LIVE, 0),
        LIVE_LINK: partial(live, LIVE_LINK, LINK_HITS_S // 100),
    }
