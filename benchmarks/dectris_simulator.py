"""stemd served by LiberTEM-live's DECTRIS simulator, in all modes of it; a table of what came.

Its compiled replay has no mode inte (it ends with an error of its own), and its other one forgets
triggers that come while it still sends: there some images may be missing. It needs an environment
of its own:

    python3 -m venv there && there/bin/pip install libertem-live libertem-dectris flask pyzmq
    python -m benchmarks.dectris_simulator --python there/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemd import plugins
from stemd.acquisition import Scan
from stemd.adapters.dectris import legacy
from stemd.adapters.dectris.adapter import warm_up
from stemd.adapters.dectris.compression import ALGORITHMS, Algorithm
from stemd.blocks import BlockPool, Ended, FrameBlock, Notice
from stemd.errors import CameraError

SCAN = Scan(shape=(16, 16), flyback=0)
SHAPE = (96, 80)
WAIT_S = 90.0
SERVE = """
import json, logging, sys, time
from libertem_live.detectors.dectris.sim import DectrisSim
how = json.loads(sys.argv[1])
sim = DectrisSim(port=0, zmqport=0, verbose=False, path=how["path"],
                 num_mock_frames=how["mock"], dwelltime=how["dwell"],
                 data_filter=(lambda data: data) if how["python"] else None)
sim.start()
sim.wait_for_listen()
while sim.zmqport is None or sim.port < 1:
    time.sleep(0.01)
print(json.dumps([sim.zmqport, sim.port]), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Mode:
    """One way in which the simulator is run; `mock`: it makes its images up."""

    name: str
    trigger: str = "exte"
    dtype: str = "u2"
    algorithm: Algorithm = "bslz4"
    python: bool = False
    mock: bool = False
    dwell_us: int | None = None


MODES = (
    *(Mode(f"compiled, {t}", trigger=t) for t in ("exte", "exts", "ints")),
    *(Mode(f"Python, {t}", trigger=t, python=True) for t in ("exte", "exts", "ints", "inte")),
    *(
        Mode(f"compiled, {d} {a}", dtype=d, algorithm=a)
        for d in ("u1", "u2", "u4")
        for a in ALGORITHMS
    ),
    Mode("compiled, 100 us a frame", dwell_us=100),
    Mode("images made up", mock=True),
)


def images(dtype: str) -> NDArray[np.unsignedinteger]:
    """The images of a series."""
    made = np.random.default_rng(1).poisson(0.5, (SCAN.frames, *SHAPE))
    return made.astype(dtype)


def dump(mode: Mode, path: Path) -> None:
    """A series as the simulator reads it: each part behind its length."""
    each = mode.trigger in ("exte", "inte")
    config = {
        "trigger_mode": mode.trigger,
        "nimages": 1 if each else SCAN.frames,
        "ntrigger": SCAN.frames if each else 1,
        "bit_depth_image": 8 * np.dtype(mode.dtype).itemsize,
        "x_pixels_in_detector": SHAPE[1],
        "y_pixels_in_detector": SHAPE[0],
    }
    parts = legacy.encode_start(1, config)
    parts += [json.dumps(config).encode()] if len(parts) == 1 else []
    for number, image in enumerate(images(mode.dtype)):
        parts += legacy.encode_image(1, number, image, mode.algorithm)
    parts += legacy.encode_end(1)
    path.write_bytes(b"".join(len(p).to_bytes(8, "little") + p for p in parts))


@contextmanager
def simulator(python: str, mode: Mode, folder: Path) -> Iterator[tuple[int, int]]:
    """The simulator in its own process; the ports of its stream and of its SIMPLON."""
    path = folder / "series.dump"
    dump(mode, path)
    how = {
        "path": None if mode.mock else str(path),
        "mock": SCAN.frames if mode.mock else None,
        "dwell": mode.dwell_us,
        "python": mode.python,
    }
    words = [python, "-c", SERVE, json.dumps(how)]
    made = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # it has a process of its own for its SIMPLON
    )
    try:
        assert made.stdout is not None
        for line in made.stdout:
            if line.startswith("["):
                stream, control = json.loads(line)
                yield stream, control
                return
        raise SystemExit("the simulator did not start: run it by hand")
    finally:
        os.killpg(made.pid, signal.SIGKILL)
        made.communicate()


@dataclass
class Came:
    """What the adapter gave."""

    patterns: dict[int, NDArray[np.integer]] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def receive(mode: Mode, ports: tuple[int, int]) -> Came:
    """One series, armed through SIMPLON."""
    plugin = plugins.load("adapters", "dectris")
    table = {"data_port": ports[0], "control_port": ports[1], "scan": SCAN}
    table |= {"stream_format": "legacy", "idle_timeout_s": 5.0, "pause_timeout_s": 5.0}
    adapter = plugin.build(plugin.settings.model_validate(table))
    came, stop, pool = Came(), threading.Event(), BlockPool(1 << 24)

    def read() -> None:
        for item in adapter.read(pool, stop):
            if isinstance(item, FrameBlock):
                for probe, pattern in zip(item.probe.tolist(), item.patterns(), strict=True):
                    came.patterns[probe] = pattern.copy()
                item.release()
            elif isinstance(item, Ended):
                came.ends.append(item.reason)
            elif isinstance(item, Notice):
                came.notices.append(f"{item.kind}: {item.text}")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    end = time.monotonic() + WAIT_S
    while not came.notices and time.monotonic() < end:
        time.sleep(0.01)
    try:
        adapter.command("start", {})
    except CameraError as error:
        came.notices.append(f"start: {error}")
    while not came.ends and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    adapter.close()
    pool.close()
    thread.join(5.0)
    return came


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all modes; 1 where one of them did not give every image."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", required=True, help="of the simulator's environment")
    parser.add_argument("--only", default="", help="modes whose name contains this")
    args = parser.parse_args(arguments)
    failed = 0
    warm_up()  # the simulator waits for nobody's compiler
    for mode in (m for m in MODES if args.only in m.name):
        with (
            tempfile.TemporaryDirectory() as folder,
            simulator(args.python, mode, Path(folder)) as ports,
        ):
            came = receive(mode, ports)
        wrong = SCAN.frames - len(came.patterns)
        # images that are made up hold their own number
        expected = np.arange(SCAN.frames) if mode.mock else images(mode.dtype)
        wrong += sum(
            not np.all(expected[probe] == pattern) for probe, pattern in came.patterns.items()
        )
        failed += bool(wrong)
        said = f"{mode.name}: {len(came.patterns)} of {SCAN.frames} images, {wrong} wrong"
        sys.stdout.write(f"{said}, {came.ends}\n")
        for notice in came.notices:
            sys.stdout.write(f"    {notice}\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
