"""Whole paths: files, loopback TCP from a camera in another process, latency to the broker."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from stemd import plugins
from stemd.acquisition import Acquisition, Optics, Scan
from stemd.adapters.files import open_recording
from stemd.blocks import Link, Notice
from stemd.cli.bench.harness import Case, Context, Row, in_turn
from stemd.cli.bench.limits import big_file, merlin_header, mmap_sum
from stemd.config.resolved import EngineConfig
from stemd.daemon.pipeline.reader import Reader
from stemd.errors import StemdError
from stemd.portable import module_command, processors
from stemd.scan.processing import process_recording
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from stemd.storage.scan_files import ScanFiles

SIZES = {"u8": ("U08", 1), "u16": ("U16", 2), "u32": ("U32", 4)}


def engines_of(kernel_size: int, annuli: int) -> list[EngineConfig]:
    """riCOM with a kernel, and some annular detectors in pixels of a 256-pixel camera."""
    rings = [(44.0, 120.0), (20.0, 44.0), (0.0, 40.0), (80.0, 127.0)][:annuli]
    tables: dict[str, dict[str, Any]] = {"ricom": {"kernel_size": kernel_size}}
    if rings:
        tables["virtual_detector"] = {
            "detectors_px": {f"ring{index}": ring for index, ring in enumerate(rings)}
        }
    return [EngineConfig.of(name, table) for name, table in tables.items()]


def settings_for(engines: list[EngineConfig]) -> Settings:
    """Settings with a fixed centre, as on an aligned microscope."""
    optics = Optics(center=(127.5, 127.5))
    return Settings(optics=optics, engines={engine.name: engine.settings for engine in engines})


def process(
    kind: str, size: int, kernel: int, annuli: int, jobs: int, context: Context
) -> Iterator[Row]:
    """`stemd process` of a file in page cache: all of it but writing the images."""
    dtype, item = SIZES[kind]
    frame_bytes = size * size * item
    path = big_file(context, size * size, item, merlin_header(dtype, size))
    engines = engines_of(kernel, annuli)
    frames = path.stat().st_size // (384 + frame_bytes)
    scan = Scan(shape=(frames // 256, 256)) if frames >= 256 else Scan(shape=(1, frames))
    cpus: list[float] = []

    def call(part: int) -> None:
        with closing(open_recording(path, scan)) as recording:
            cpu = time.process_time()
            process_recording(recording, settings_for(engines), engines, jobs)
            cpus.append(time.process_time() - cpu)

    timing, bare = in_turn([call, lambda part: mmap_sum(path)], context.seconds)
    name = f"process/mib-{kind}/{size}/ricom{kernel}" + _rings(annuli)
    name += f"/{jobs}-threads" if jobs > 1 else ""
    limit = frames / bare.wall_s
    row = Row.timed(name, frames, "frames/s", timing, limit, "mmap and sum, one core")
    yield replace(row, cpu_us_per_frame=median(cpus) / frames * 1e6)


def _rings(annuli: int) -> str:
    return {0: "", 1: "+annulus"}.get(annuli, f"+{annuli}-annuli")


@contextmanager
def camera(size: int, dtype: str, scan: str = "256x256", rate: int = 0) -> Iterator[int]:
    """A virtual Merlin camera in another process; gives its data port.

    It sends `rate` frames a second, or as many as it can (0).
    """
    command = module_command("stemd", "virtual", "merlin", "--pool", "64", "--rate", str(rate))
    command += ["--detector", f"{size}x{size}", "--dtype", dtype, "--scan", scan]
    command += ["--port", "0", "--control-port", "0", "--gap", "0", "--json", "--end-with-input"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{") and json.loads(line).get("event") == "ready":
                yield int(json.loads(line)["data_port"])
                return
        raise StemdError("the virtual camera did not start", "run `stemd virtual merlin` by hand")
    finally:
        process.terminate()
        process.wait(5)


def bare_receive(port: int, seconds: float) -> tuple[float, float]:
    """Bytes a second and CPU seconds a byte of a bare `recv_into` loop, with its best buffer."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
        _receive(link, memoryview(bytearray(1024 * 1024)), 0.5)
        sizes = (256 * 1024, 512 * 1024, 1024 * 1024)
        return max(
            _receive(link, memoryview(bytearray(size)), seconds / len(sizes)) for size in sizes
        )


def _receive(link: socket.socket, buffer: memoryview, seconds: float) -> tuple[float, float]:
    received = 0
    began, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() < began + seconds:
        received += link.recv_into(buffer)
    wall = time.perf_counter() - began
    return received / wall, (time.thread_time() - cpu) / received


class LiveOwner:
    """Stands for the pipeline: engines run and make snapshots, which go nowhere."""

    def __init__(self, engines: list[EngineConfig]) -> None:
        self.engines = engines
        self.settings = settings_for(engines)
        self.positions = 0
        self.ended_bytes = 0
        self.scans = 0
        self.run: ScanRun | None = None

    def begin(self, acquisition: Acquisition) -> tuple[ScanRun, ScanFiles]:
        """A scan begins."""
        run = self.run = ScanRun(acquisition, self.settings, self.engines)
        threading.Thread(
            target=run.serve, args=(lambda snapshot: None, lambda: 10.0), daemon=True
        ).start()
        return run, _Nothing()  # type: ignore[return-value]

    def finish(self, run: ScanRun, files: ScanFiles) -> None:
        """A scan has ended."""
        self.positions += run.positions_done
        self.ended_bytes += run.intake.bytes
        self.scans += 1
        self.run = None

    def noticed(self, notice: Notice) -> None:
        """Not of interest."""

    def built(self) -> None:
        """Not of interest."""

    def linked(self, link: Link) -> None:
        """Not of interest."""

    def failed(self, error: BaseException, failures: int, pause_s: float) -> None:
        """The reader tries again."""

    def exhausted(self) -> None:
        """A camera does not end."""

    def settings_now(self) -> Settings:
        """Fixed settings."""
        return self.settings

    @property
    def bytes(self) -> int:
        """Bytes of all blocks so far."""
        run = self.run
        return self.ended_bytes + (run.intake.bytes if run is not None else 0)

    @property
    def done(self) -> int:
        """Positions so far."""
        run = self.run
        return self.positions + (run.positions_done if run is not None else 0)


class _Nothing:
    recorder = None


def live(kind: str, size: int, kernel: int, annuli: int, context: Context) -> Iterator[Row]:
    """Receive, reduce, riCOM and snapshots at 10 Hz, against a bare receive of the same sender.

    The two take turns, and the middle of the ratios counts: a loopback sender shares the
    machine with its receiver and its speed wanders.
    """
    dtype, item = SIZES[kind]
    plugin = plugins.load("adapters", "merlin")
    wire_bytes = 15 + 384 + size * size * item
    seconds = max(1.0, context.seconds)
    rates, limits, cpus, bare_cpus = [], [], [], []
    with camera(size, dtype) as port:
        for _ in range(3):
            rate, cpu = bare_receive(port, seconds)
            limits.append(rate / wire_bytes)
            bare_cpus.append(cpu * wire_bytes * 1e6)
            owner = LiveOwner(engines_of(kernel, annuli))
            table = {"host": "127.0.0.1", "data_port": port, "scan": {"shape": [256, 256]}}
            adapter = plugin.settings.model_validate(table)
            reader = Reader("bench", partial(plugin.build, adapter), owner)
            reader.start()
            wait_for(owner, 4096)
            done, cpu, began = owner.done, time.process_time(), time.perf_counter()
            time.sleep(seconds)
            frames = owner.done - done
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            reader.close()
            reader.join(5.0)
            rates.append(frames / wall)
            cpus.append(cpu / max(1, frames) * 1e6)
    ratios = sorted(
        zip([r / x for r, x in zip(rates, limits, strict=True)], rates, limits, strict=True)
    )
    _, rate, limit = ratios[1]
    yield Row(
        f"live/merlin-{kind}/{size}/ricom{kernel}" + _rings(annuli),
        rate,
        "frames/s",
        limit,
        "bare receive",
        sorted(cpus)[1],
        f"bare receive {sorted(bare_cpus)[1]:.1f} CPU us a frame",
        min(rates),
        max(rates),
    )


def wait_for(owner: LiveOwner, positions: int) -> None:
    """Until that many positions have come. Raises StemdError after half a minute."""
    end = time.monotonic() + 30.0
    while owner.done < positions:
        if time.monotonic() > end:
            raise StemdError("no frames came from the virtual camera", "run the bench again")
        time.sleep(0.01)


def receive(size: int, context: Context) -> Iterator[Row]:
    """The bare receive alone."""
    with camera(size, "U16") as port:
        rate, cpu = bare_receive(port, max(1.0, context.seconds))
    wire_bytes = 15 + 384 + size * size * 2
    yield Row(
        f"socket/receive-u16/{size}",
        rate / wire_bytes,
        "frames/s",
        cpu_us_per_frame=cpu * wire_bytes * 1e6,
    )


def cases() -> dict[str, Case]:
    """All whole-path cases by name."""
    found: dict[str, Case] = {"socket/receive-u16/256": partial(receive, 256)}
    cores = processors()
    for kind in ("u8", "u16", "u32"):
        for kernel in (21, 61, 101):
            for annuli in (0, 1, 4):
                if kind != "u16" and (kernel, annuli) != (61, 1):
                    continue
                tail = f"ricom{kernel}" + _rings(annuli)
                found[f"process/mib-{kind}/256/{tail}"] = partial(
                    process, kind, 256, kernel, annuli, 1
                )
                found[f"live/merlin-{kind}/256/{tail}"] = partial(live, kind, 256, kernel, annuli)
    if cores > 1:
        found[f"process/mib-u16/256/ricom61+annulus/{cores}-threads"] = partial(
            process, "u16", 256, 61, 1, cores
        )
    return found
