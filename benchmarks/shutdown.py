"""How long the daemon takes to end, at random moments of every state.

    python -m benchmarks.shutdown --count 100

Each trial starts a daemon, brings it into a state (just begun, compiling its kernels into an empty
cache, starting, waiting for a camera that is not there, connected and idle, in mid-scan, a camera
that fell silent in mid-scan, in mid-scan with a broker that is frozen), waits a random time and
sends SIGTERM. Prints how long the ends took and their exit statuses. Exit status 1 when one took
longer than the limit or did not end with status 0; one that is told to end before Python has read
a line of stemd ends by the signal itself, which a service manager takes for a clean end.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Any

from benchmarks.running import CONFIG, Broker, Daemon, free_port

DELAYS_S = {"just begun": 0.6, "compiling": 25.0}
"""The longest random time before SIGTERM; in all other states:"""
DELAY_S = 2.5
STATES = ("starting", "no camera", "idle", "acquiring", "silent", "broker frozen")
ALL_STATES = (*DELAYS_S, *STATES)
LIMIT_S = 2.0
COMPILING_LIMIT_S = 5.0
EARLY = ("just begun", "compiling", "starting")
"""States in which the daemon need not listen yet."""
TERMINATED = -signal.SIGTERM
"""The status of a process that is told to end before it listens: nothing had begun."""


def camera(port: int, state: str) -> subprocess.Popen[bytes] | None:
    """The virtual camera of a state."""
    if state in ("no camera", *DELAYS_S):
        return None
    command = [sys.executable, "-m", "stemd", "virtual", "merlin", "--scan", "48x48"]
    command += ["--detector", "64x64", "--port", str(port), "--control-port", "0", "--pool", "32"]
    command += ["--rate", "1500", "--gap", "0.1", "--json"]
    command += {"idle": ["--wait-for-start"], "silent": ["--stall-after", "700"]}.get(state, [])
    made = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert made.stdout is not None
    made.stdout.readline()  # it says that its ports are open
    return made


def trial(state: str, delay_s: float, folder: Path, broker: Broker) -> tuple[float, int]:
    """(seconds to end, exit status) of one daemon."""
    port = free_port()
    source = camera(port, state)
    mqtt = broker.table if Broker.available() else ""
    config = CONFIG.format(data=folder / "data", mqtt=mqtt, port=port, idle=30.0, ny=48, nx=48)
    cache = {"NUMBA_CACHE_DIR": str(folder / "cache")} if state == "compiling" else {}
    daemon = Daemon(folder, config, cache)
    try:
        if state not in EARLY:
            daemon.wait_ready()
        if state == "broker frozen":
            broker.send(signal.SIGSTOP)
        sleep(delay_s)
        return daemon.stop()
    finally:
        broker.send(signal.SIGCONT)
        if daemon.process.poll() is None:
            daemon.process.kill()
        if source is not None:
            source.kill()
            source.wait()
            assert source.stdout is not None
            source.stdout.close()
        shutil.rmtree(folder / "cache", ignore_errors=True)


def run(count: int, seed: int, states: Sequence[str] = STATES) -> dict[str, Any]:
    """`count` trials; the figures by state, and those that were not well."""
    pick = random.Random(seed)
    took: dict[str, list[float]] = defaultdict(list)
    ended: Counter[str] = Counter()
    bad = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder)
        if Broker.available():
            broker.start()
        try:
            for number in range(count):
                state = states[number % len(states)]
                delay = pick.uniform(0.0, DELAYS_S.get(state, DELAY_S))
                seconds, status = trial(state, delay, folder, broker)
                took[state].append(seconds)
                sys.stderr.write(f"{state}, {delay:.2f} s: {seconds:.2f} s, status {status}\n")
                ended[f"{state}: {status}"] += 1
                allowed = (0, TERMINATED) if state in EARLY else (0,)
                limit = COMPILING_LIMIT_S if state == "compiling" else LIMIT_S
                if seconds > limit or status not in allowed:
                    bad.append({"state": state, "delay_s": delay, "s": seconds, "status": status})
        finally:
            broker.stop()
    everything = sorted(value for values in took.values() for value in values)
    return {
        "trials": len(everything),
        "seed": seed,
        "median_s": round(statistics.median(everything), 3),
        "slowest_s": round(everything[-1], 3),
        "shares_below_s": {str(b): _share(everything, b) for b in (0.1, 0.3, 1.0, 2.0, 5.0)},
        "exit_statuses": dict(sorted(ended.items())),
        "slowest_by_state_s": {state: round(max(values), 3) for state, values in took.items()},
        "failed": bad,
    }


def _share(values: Sequence[float], bound: float) -> float:
    return round(sum(value < bound for value in values) / len(values), 3)


def main(argv: list[str] | None = None) -> int:
    """1 when a trial failed."""
    parser = argparse.ArgumentParser("benchmarks.shutdown", description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    args = parser.parse_args(argv)
    report = run(args.count, args.seed, ALL_STATES)
    print(json.dumps(report, indent=1))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
