"""Restoration: what an image costs, and what it costs the scan beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from stemd import plugins
from stemd.cli.bench.harness import Case, Context, Row, Timing
from stemd.cli.bench.pipelines import LiveOwner, camera, engines_of, wait_for
from stemd.config.resolved import EngineConfig
from stemd.daemon.pipeline.reader import Reader
from stemd.engines.restoration.distortions import Distortions, Jitter, distort
from stemd.engines.restoration.tiling import restore
from stemd.inference import choice
from stemd.inference.base import Options
from stemd.inference.catalogue import find, installed
from stemd.inference.model_file import read_model

MODEL = "restoration"
ELECTRONS = {"low": 2.0, "high": 1000.0}
"""Mean detected electrons a pixel: 1,000 and 500,000 e/A^2 at 0.15 A and 9 %."""
PAIRS = 4
PACED = 10_000
"""Frames a second that leave processors free."""
BESIDE = "live/merlin-u16/256/ricom61+annulus+restoration"


def crystal(size: int, electrons: float, seed: int = 0) -> NDArray[np.float32]:
    """Two kinds of columns on a square lattice, turned, with displaced lines: (size, size)."""
    y, x = np.mgrid[:size, :size] * (2.0 * np.pi / 26.0)
    turned_y, turned_x = 0.99 * y + 0.12 * x, 0.99 * x - 0.12 * y
    strong = np.exp(7.0 * (np.cos(turned_y) + np.cos(turned_x) - 2.0))
    weak = np.exp(7.0 * (-np.cos(turned_y) - np.cos(turned_x) - 2.0))
    truth = strong + 0.6 * weak + 0.1
    truth *= electrons / truth.mean()
    what = Distortions(jitter=Jitter())
    return distort(truth.astype(np.float32), what, np.random.default_rng(seed))


def image(size: int, dose: str, context: Context) -> Iterator[Row]:
    """One image through estimate and network, with one thread asked for; CPU of all threads."""
    model = read_model(find(MODEL))
    network = choice.load(model, "auto", Options(threads=1))
    noisy = crystal(size, ELECTRONS[dose])
    restore(noisy, model, network)
    walls: list[float] = []
    cpus: list[float] = []
    end = time.perf_counter() + context.seconds
    while len(walls) < 3 or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        restore(noisy, model, network)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    timing = Timing.of(walls, cpus)
    note = f"{network.info}; CPU {timing.cpu_s:.3f} s an image"
    yield Row.timed(f"restoration/{size}/{dose}-dose", 1.0, "images/s", timing, note=note)


def beside(rate: int, context: Context) -> Iterator[Row]:
    """riCOM and a virtual detector from the socket, with `restoration` of it and without in turn.

    Scans of 256 x 256 follow each other without a pause: each is restored while it grows and
    when it is finished. The limit is the same without restoration, in the order ABBA. The camera
    sends `rate` frames a second, or as many as it can (0), with which it takes a processor.
    """
    engines = engines_of(61, 1)
    restored = EngineConfig.of("restoration", {"input": "ring0"})
    rates: dict[bool, list[float]] = {False: [], True: []}
    seconds = max(3.0, context.seconds)
    with camera(256, "U16", rate=rate) as port:
        for turn in range(PAIRS):
            for with_it in (False, True) if turn % 2 == 0 else (True, False):
                chosen = [*engines, restored] if with_it else engines
                rates[with_it].append(_rate(port, chosen, seconds))
    ratios = [one / other for one, other in zip(rates[True], rates[False], strict=True)]
    yield Row(
        BESIDE + (f"/{rate}-a-second" if rate else ""),
        median(rates[True]),
        "frames/s",
        median(rates[False]),
        "without restoration",
        note="with / without in pairs: " + ", ".join(f"{ratio:.3f}" for ratio in ratios),
        lowest=min(rates[True]),
        highest=max(rates[True]),
    )


def _rate(port: int, engines: list[EngineConfig], seconds: float) -> float:
    """Frames a second from the camera at `port`."""
    owner = LiveOwner(engines)
    plugin = plugins.load("adapters", "merlin")
    table = {"host": "127.0.0.1", "data_port": port, "scan": {"shape": [256, 256]}}
    adapter = plugin.settings.model_validate(table)
    reader = Reader("bench", partial(plugin.build, adapter), owner)
    reader.start()
    wait_for(owner, 16384)
    done, began = owner.done, time.perf_counter()
    time.sleep(seconds)
    rate = (owner.done - done) / (time.perf_counter() - began)
    reader.close()
    reader.join(5.0)
    return rate


def cases() -> dict[str, Case]:
    """All cases by name, where the network is installed."""
    if not any(each.name == MODEL for each in installed()):
        return {}
    found: dict[str, Case] = {
        f"restoration/512/{dose}-dose": partial(image, 512, dose) for dose in ELECTRONS
    }
    found[BESIDE] = partial(beside, 0)
    found[f"{BESIDE}/{PACED}-a-second"] = partial(beside, PACED)
    return found
