"""Fuzzes every decoder: damaged, cut and invented input; no crash, hang or large allocation.

    python -m benchmarks.fuzz                          # every target for a minute in all
    python -m benchmarks.fuzz --minutes 60
    python -m benchmarks.fuzz --only tpx3 csr --inputs 1000000
    python -m benchmarks.fuzz --only tpx3 --replay fuzz-findings/tpx3-1a2b3c4d.bin

Each target runs in a process of its own, so that a fault in a compiled kernel is a finding too,
and not the end. Inputs are valid messages that are mutated and joined; where atheris is installed
(`pip install atheris`) it guides the decoders that are Python alone, for half of the time.
Every 64th input is run with its allocations traced. A finding is written to `--out`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import mmap
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fuzz_targets import TARGETS, Target
from stemd.errors import StemdError

MAX_INPUT = 1 << 16
HANG_S = 20.0
MEMORY_LIMIT = 4 << 30
"""Address space beyond what a worker has when it begins: a length that lies runs into it."""
TRACE_EVERY = 64
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1)
_STATE = struct.Struct("<QQQQQ")  # inputs, refused, largest traced, peak RSS (kB), input's length


class Mutator:
    """Valid inputs, damaged: the same seed gives the same inputs."""

    def __init__(self, seeds: list[bytes], seed: int) -> None:
        self._seeds = seeds
        self._random = random.Random(seed)

    def next(self) -> bytes:
        """Another input of at most MAX_INPUT bytes."""
        pick = self._random
        data = bytearray(pick.choice(self._seeds))
        for _ in range(pick.choice((0, 1, 1, 1, 2, 3, 8, 30))):
            pick.choice(_MUTATIONS)(self, data)
        return bytes(data[:MAX_INPUT])

    def _at(self, data: bytearray) -> int:
        # the beginning holds the headers: half of all damage is done there
        most = len(data) if self._random.random() < 0.5 else min(len(data), 96)
        return self._random.randrange(max(1, most))

    def flip(self, data: bytearray) -> None:
        """One bit."""
        if data:
            data[self._at(data)] ^= 1 << self._random.randrange(8)

    def overwrite(self, data: bytearray) -> None:
        """Some bytes with noise."""
        at = self._at(data)
        data[at : at + self._random.choice((1, 2, 8, 100))] = self._random.randbytes(
            self._random.choice((1, 2, 8, 100))
        )

    def integer(self, data: bytearray) -> None:
        """A number with one at the edge of its range."""
        size, order = self._random.choice((1, 2, 4, 8)), self._random.choice(("little", "big"))
        value = (self._random.choice(EDGES) + self._random.randint(-1, 1)) % (1 << 8 * size)
        at = self._at(data)
        data[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]

    def digits(self, data: bytearray) -> None:
        """Digits of a text with others."""
        at = self._at(data)
        for index in range(at, min(len(data), at + 400)):
            if 48 <= data[index] <= 57:
                end = index
                while end < len(data) and 48 <= data[end] <= 57:
                    end += 1
                new = self._random.choice((b"0", b"1", b"9" * (end - index), b"-1", b"9" * 30))
                keep = self._random.random() < 0.5
                data[index:end] = new[: end - index].rjust(end - index, b"0") if keep else new
                return

    def cut(self, data: bytearray) -> None:
        """A piece out."""
        at = self._at(data)
        del data[at : at + self._random.choice((1, 7, 64, 1000, MAX_INPUT))]

    def repeat(self, data: bytearray) -> None:
        """A piece again, elsewhere."""
        at, size = self._at(data), self._random.choice((1, 8, 64, 1000))
        piece = data[at : at + size]
        to = self._at(data)
        data[to:to] = piece

    def splice(self, data: bytearray) -> None:
        """The rest of another seed."""
        other = self._random.choice(self._seeds)
        data[self._at(data) :] = other[self._random.randrange(max(1, len(other))) :]


_MUTATIONS = (
    *(Mutator.flip, Mutator.overwrite, Mutator.integer, Mutator.digits),
    *(Mutator.cut, Mutator.repeat, Mutator.splice),
)


class Watched:
    """Runs inputs where the parent sees which one it is, should the process die in it."""

    def __init__(self, target: Target, state: Path) -> None:
        self._target = target
        self._file = state.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), _STATE.size + MAX_INPUT)
        self.inputs = self.refused = self.largest = 0

    def __call__(self, data: bytes) -> None:
        """One input; what is not a refusal is raised."""
        data = data[:MAX_INPUT]
        self._map[_STATE.size : _STATE.size + len(data)] = data
        self._tell(len(data))
        traced = self.inputs % TRACE_EVERY == 0
        if traced:
            tracemalloc.start()
        try:
            self._target.run(data)
        except StemdError:
            self.refused += 1
        finally:
            if traced:
                gc.collect()  # a pool and its blocks refer to each other
                self.largest = max(self.largest, tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        self.inputs += 1

    def _tell(self, length: int) -> None:
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _STATE.pack_into(self._map, 0, self.inputs, self.refused, self.largest, rss, length)

    def close(self) -> None:
        """The last numbers."""
        self._tell(0)


def work(args: argparse.Namespace) -> int:
    """The worker: one target until its time or its inputs are used up."""
    target = TARGETS[args.worker]
    seeds = target.seeds()
    for data in seeds:  # compiles kernels, before anything is measured or limited
        with contextlib.suppress(StemdError):
            target.run(data)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watched = Watched(target, args.state)
    if args.guided:
        return guided(args, target, seeds, watched)
    mutator = Mutator(seeds, args.seed)
    end = time.monotonic() + args.seconds
    for data in seeds:
        watched(data)
    while watched.inputs < args.inputs and (args.seconds <= 0 or time.monotonic() < end):
        watched(mutator.next())
    watched.close()
    return 0


def guided(args: argparse.Namespace, target: Target, seeds: list[bytes], watched: Watched) -> int:
    """The same, led by atheris to inputs that reach new branches."""
    import atheris

    for name in target.pure:
        module = sys.modules[name]
        for holder in (module, *(v for v in vars(module).values() if isinstance(v, type))):
            for key, value in list(vars(holder).items()):
                if getattr(value, "__module__", "") == name and hasattr(value, "__code__"):
                    setattr(holder, key, atheris.instrument_func(value))
    with tempfile.TemporaryDirectory() as corpus:
        for index, data in enumerate(seeds):
            (Path(corpus) / str(index)).write_bytes(data)
        options = [f"-max_total_time={max(1, int(args.seconds))}", f"-max_len={MAX_INPUT}"]
        options += [f"-seed={args.seed}", "-verbosity=0", "-print_final_stats=0"]
        options += ["-rss_limit_mb=0", f"-timeout={int(HANG_S)}"]
        if args.inputs < 1 << 62:
            options.append(f"-runs={args.inputs}")
        atheris.Setup([sys.argv[0], corpus, *options], watched)
        atheris.Fuzz()  # leaves through os._exit
    return 0


def runs(names: list[str], minutes: float) -> Iterator[tuple[str, bool, float]]:
    """(target, guided, seconds) of each run."""
    try:
        import atheris  # noqa: F401

        has = True
    except ImportError:
        has = False
    share = minutes * 60.0 / len(names)
    for name in names:
        both = has and bool(TARGETS[name].pure)
        yield name, False, share / 2 if both else share
        if both:
            yield name, True, share / 2


def run_one(name: str, led: bool, seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """One worker process, watched; its figures and, where it failed, the input."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(_STATE.size + MAX_INPUT)
        command = [sys.executable, "-m", "benchmarks.fuzz", "--worker", name, "--state", file.name]
        command += ["--seconds", str(seconds), "--seed", str(args.seed)]
        command += ["--inputs", str(args.inputs or 1 << 62)] + ["--guided"] * led
        began = time.monotonic()
        worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
        seen, since, hung = -1, time.monotonic(), False
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(0.5)
                break
            now = _STATE.unpack_from(Path(file.name).read_bytes())[0]
            # the first inputs wait for kernels to be compiled
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() > since + (HANG_S if seen > 0 else 180.0):
                hung = True
                worker.kill()
                worker.wait()
                break
        assert worker.stderr is not None
        with worker.stderr as stderr:
            said = stderr.read()
        state = Path(file.name).read_bytes()
    inputs, refused, largest, rss, length = _STATE.unpack_from(state)
    took = time.monotonic() - began
    row: dict[str, Any] = {"target": name, "guided": led, "inputs": inputs, "refused": refused}
    row |= {"inputs_per_second": round(inputs / took, 1), "seconds": round(took, 1)}
    row |= {"largest_allocation_mb": round(largest / 2**20, 1), "rss_mb": round(rss / 1024, 1)}
    if hung or worker.returncode != 0:
        data = state[_STATE.size : _STATE.size + length]
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"{name}-{zlib.crc32(data):08x}.bin"
        path.write_bytes(data)
        row["finding"] = "hang" if hung else f"crash ({worker.returncode})"
        row |= {"input": str(path), "said": said[-3000:]}
    return row


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for all targets together")
    parser.add_argument("--inputs", type=int, default=0, help="a run, instead of --minutes")
    parser.add_argument("--only", nargs="+", choices=sorted(TARGETS), default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 31))
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--replay", type=Path, help="run one input in this process, and end")
    parser.add_argument("--json", action="store_true")
    for hidden, kind in (("--worker", str), ("--state", Path), ("--seconds", float)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """1 when there is a finding."""
    args = parse(argv)
    if args.worker:
        return work(args)
    if args.replay:
        for name in args.only:
            try:
                TARGETS[name].run(args.replay.read_bytes())
            except StemdError as error:
                print(f"{name}: refused: {error}")
            except Exception:
                traceback.print_exc()
                return 1
        return 0
    rows = []
    for name, led, seconds in runs(args.only, 0.0 if args.inputs else args.minutes):
        row = run_one(name, led, -1.0 if args.inputs and not led else seconds, args)
        rows.append(row)
        if args.json:
            continue
        kind = "atheris" if led else "mutation"
        print(
            f"{name:16} {kind:9} {row['inputs']:>10} inputs {row['inputs_per_second']:>9}/s"
            f" {row['refused']:>9} refused  largest {row['largest_allocation_mb']:>6} MB"
            f"  rss {row['rss_mb']:>6} MB  {row.get('finding', '')}",
            flush=True,
        )
        if "finding" in row:
            print(f"    {row['input']}\n    " + row["said"].replace("\n", "\n    "))
    findings = [row for row in rows if "finding" in row]
    total = sum(row["inputs"] for row in rows)
    summary = {"inputs": total, "findings": len(findings), "seed": args.seed}
    print(json.dumps({"runs": rows, **summary}) if args.json else f"{summary}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
