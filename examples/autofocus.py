"""Focus and stigmate a microscope with what stemd measures in its scans.

    stemd demo --defocus-nm 15
    python examples/autofocus.py --broker 127.0.0.1 --port 1883

The microscope here is the virtual one of the demo. For a real one write another `Drives`: stemd
tells what is wrong, your software moves the lens.
"""

from __future__ import annotations

import argparse
import json
import math
import queue
import sys
import time
from typing import Any

import paho.mqtt.client as mqtt

FOCUSED_NM, ROUND_NM = 1.0, 0.7
"""Defocus and astigmatism that need no correction."""


class Drives:
    """Moves the lens of the virtual microscope, in nm, by as much as is asked for."""

    def __init__(self, client: mqtt.Client, topic: str = "virtual-microscope/move") -> None:
        self.client, self.topic = client, topic

    def move(self, defocus_nm: float, x_nm: float, y_nm: float) -> None:
        """Focus and both stigmators."""
        move = {"defocus_nm": defocus_nm, "stigmator_x_nm": x_nm, "stigmator_y_nm": y_nm}
        self.client.publish(self.topic, json.dumps(move), 1).wait_for_publish(5.0)


def components(entry: dict[str, Any]) -> tuple[float, float]:
    """An astigmatism along x and y of the stigmators, in nm."""
    twice = math.radians(2.0 * entry["angle_deg"])
    return entry["value"] * math.cos(twice), entry["value"] * math.sin(twice)


def focus(
    documents: queue.Queue[dict[str, Any]], drives: Drives, scans: int, patience_s: float = 120.0
) -> bool:
    """Correct after every scan until all is well; whether it was within so many scans."""
    moved_ns = 0
    for _ in range(scans):
        optics = documents.get(timeout=patience_s)
        # of a part of a scan, or of one that began before the last correction
        while optics["preliminary"] or optics["started_ns"] < moved_ns:
            optics = documents.get(timeout=patience_s)
        defocus, astigmatism = optics["defocus_nm"], optics["astigmatism_nm"]
        if optics["engine"] is None:
            print("the scan was not measured: there was no time before the next ones")
            continue
        if defocus is None:
            print("the data do not show the lens: more dose or more detail is needed")
            continue
        x, y = components(astigmatism)
        print(
            f"scan {optics['scan']}: defocus {defocus['value']:+.2f} +- {defocus['sigma']:.2f} nm, "
            f"astigmatism {x:+.2f}, {y:+.2f} +- {astigmatism['sigma']:.2f} nm"
        )
        if abs(defocus["value"]) < FOCUSED_NM and math.hypot(x, y) < ROUND_NM:
            print("in focus")
            return True
        drives.move(-defocus["value"], -x, -y)
        moved_ns = time.time_ns()
    return False


def connect(host: str, port: int, topic: str) -> tuple[mqtt.Client, queue.Queue[dict[str, Any]]]:
    """A client, and what is measured from now on."""
    documents: queue.Queue[dict[str, Any]] = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.on_message = lambda *heard: documents.put(json.loads(heard[2].payload))
    client.connect(host, port)
    client.loop_start()
    return client, documents


def main() -> int:
    """Focus the microscope."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--topic", default="stemd/demo/virtual/optics")
    parser.add_argument("--scans", type=int, default=8)
    args = parser.parse_args()
    client, documents = connect(args.broker, args.port, args.topic)
    done = focus(documents, Drives(client), args.scans)
    client.disconnect()
    client.loop_stop()
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
