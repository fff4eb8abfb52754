"""Documents from outside, each wrong in some way: the same seed gives the same documents."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Literal

Kind = Literal["settings", "command", "page", "scan", "session", "kept", "config"]
SHARES: dict[Kind, int] = {
    "settings": 30,
    "command": 20,
    "page": 25,
    "scan": 10,
    "session": 5,
    "kept": 9,
    "config": 1,
}
NASTY: tuple[Any, ...] = (
    *(
        "\ud800",
        "a\udcfc.tif",
        "",
        "\0",
        "../../etc/passwd",
        "__proto__",
        "é€\U0001f600",
        "x" * 300,
    ),
    *(10**40, -(2**63) - 1, 2**63, 0, -1, 1, 7, 1e308, -0.0, 1e-320, True, False, None),
    *([], {}, [[]], {"": {}}, [None], float("nan"), float("inf")),
)
SETTINGS: dict[str, Any] = {
    "id": "1",
    "optics": {"energy_ev": 3e5, "rotation_deg": 12.0, "flip": True, "center": [1.0, 2.0]},
    "scan": {"shape": [6, 8], "flyback": None, "leading": 0, "serpentine": False},
    "publish": {"rate_hz": 10.0, "images": ["ricom"]},
    "record": {"raw": False, "results": ["tiff"]},
    "ricom": {"kernel_size": 5, "band_pass": [0.0, 3.0]},
    "virtual_detector": {"detectors": {"bf": [0.0, 20.0]}},
}
PLAN: dict[str, Any] = {
    "name": "night",
    "scans": 2,
    "until": "2026-03-02T06:00:00Z",
    "settings": {"ricom": {"kernel_size": 7}},
    "each": [{"optics": {"flip": True}}],
    "start": False,
    "pause_s": 0.0,
    "end": {"failed_scans": 2, "lost_dose": 0.5, "silence_s": 0.1},
}
COMMANDS: tuple[dict[str, Any], ...] = (
    {
        "command": "start",
        "args": {"scans": 2, "scan": {"shape": [2, 2]}, "settings": {"optics": {}}},
    },
    {"command": "stop", "args": {}},
    {"command": "abort"},
    {"command": "reconnect"},
    {"command": "record", "args": {"raw": False}},
    {"command": "save"},
    {"command": "save_settings"},
    {"command": "recompute", "args": {"settings": {"ricom": {"kernel_size": 3}}, "write": True}},
    {"command": "estimate_rotation"},
    {"command": "reset"},
    {"command": "restore", "args": {"tiff": "AAAA"}},
    {"command": "session", "args": PLAN},
    {"command": "session", "args": {"stop": True}},
)
SAID: tuple[dict[str, Any], ...] = (
    {"type": "watch", "images": {"cam": {"ricom": 256}}, "bundle": True, "short": False},
    {"type": "drawn", "pipeline": "cam", "name": ["ricom", "com_y"]},
    {"type": "token", "token": "secret"},
    {"type": "request", "pipeline": "cam", "kind": "settings", "request": SETTINGS},
    {
        "type": "request",
        "pipeline": "cam",
        "kind": "command",
        "request": {"id": "1", **COMMANDS[0]},
    },
    {"type": "replay", "action": "start", "scan": "20261129T101010123Z-00ff", "seconds": 5.0},
)
SCAN: dict[str, Any] = {
    "id": "20261129T101010123Z-00ff",
    "status": "complete",
    "pipeline": "cam",
    "instrument": "fuzz",
    "started_ns": 1_796_000_000 * 10**9,
    "finished_ns": None,
    "scan": {"shape": [2, 3]},
    "positions_done": 6,
    "missing": 0,
    "completion": {"status": "outstanding", "lacking": {"airpi": 3}, "sequence": 4},
    "notes": ["note"],
    "session": None,
    "files": [{"name": "raw.mib", "bytes": 5, "sha256": "ab", "complete": True}],
}
SESSION: dict[str, Any] = {
    "id": "20261129T101010123Z-00ff",
    "name": "night",
    "pipeline": "cam",
    "instrument": "fuzz",
    "from_config": True,
    "status": "running",
    "reason": "",
    "withdrawn": False,
    "stopping": "",
    "started": "2026-11-29T10:10:10.000000Z",
    "started_ns": 1_796_000_000 * 10**9,
    "seen_ns": 1_796_000_000 * 10**9,
    "suspended_ns": None,
    "plan": PLAN,
    "scans": [{"id": "a", "status": "complete", "counts_per_position": 1.5, "missing": 0}],
    "current": "b",
    "unfinished": ["b"],
    "events": [{"time": "", "time_ns": 1, "level": "info", "message": "m"}],
    "events_dropped": 0,
    "gone": {"camera": 1_796_000_000 * 10**9},
    "outages": [{"what": "broker", "from_ns": 1, "to_ns": 2, "seconds": 1e-9}],
    "outages_dropped": 0,
    "outage_seconds": {"broker": 1.0},
}
CONFIG = """[daemon]
instrument = "fuzz"
[[session]]
name = "night"
settings = { ricom = { kernel_size = 7 } }
[[pipeline]]
name = "cam"
[pipeline.adapter]
type = "merlin"
host = "h"
scan = { shape = [6, 8] }
[[pipeline.engine]]
type = "ricom"
kernel_size = 5
"""


class Documents:
    """Makes one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._kinds, self._weights = list(SHARES), list(SHARES.values())
        self._number = 0

    def next(self) -> tuple[Kind, bytes]:
        """Its kind, and the bytes of it."""
        pick = self._random
        self._number += 1
        (kind,) = pick.choices(self._kinds, self._weights)
        if kind == "config":
            return kind, self._torn(CONFIG.encode())
        document = self._document(kind)
        for _ in range(pick.choice((0, 1, 1, 2, 3))):
            document = self._spoilt(document)
        data = json.dumps(document, ensure_ascii=pick.random() < 0.9).encode(
            "utf-8", "surrogatepass"
        )
        return kind, self._torn(data) if pick.random() < 0.05 else data

    def _document(self, kind: Kind) -> Any:
        pick = self._random
        if kind in ("settings", "kept"):
            keys = pick.sample(sorted(SETTINGS), pick.randint(1, 3))
            chosen = {key: SETTINGS[key] for key in keys if kind == "settings" or key != "id"}
            document = copy.deepcopy(chosen)
        elif kind == "command":
            document = copy.deepcopy({"id": "1", **pick.choice(COMMANDS)})
        elif kind == "page":
            document = copy.deepcopy(pick.choice(SAID))
        else:
            document = copy.deepcopy(SCAN if kind == "scan" else SESSION)
        for inner in (document, document.get("request")):
            if isinstance(inner, dict) and inner.get("id") == "1":
                inner["id"] = f"{self._number}"
        return document

    def _spoilt(self, document: Any) -> Any:
        """One value in it is another now, at any depth, is gone, or has a neighbour."""
        pick = self._random
        if not isinstance(document, (dict, list)) or not document:
            return pick.choice(NASTY)
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = pick.choice(keys)
            inner = place[key]
            if not (isinstance(inner, (dict, list)) and inner and pick.random() < 0.6):
                break
            place = inner
        what = pick.random()
        if what < 0.65:
            place[key] = copy.deepcopy(pick.choice(NASTY))
        elif what < 0.8:
            del place[key]
        elif isinstance(place, dict):
            place[self._text()] = copy.deepcopy(pick.choice(NASTY))
        else:
            place.append(copy.deepcopy(pick.choice(NASTY)))
        return document

    def _text(self) -> str:
        pick = self._random
        return "".join(chr(pick.randrange(0x11000)) for _ in range(pick.randint(0, 12)))

    def _torn(self, data: bytes) -> bytes:
        """Cut, with other bytes, or nested."""
        pick = self._random
        if not data or pick.random() < 0.1:
            return b"[" * pick.choice((10, 100, 5000))
        at = pick.randrange(len(data))
        if pick.random() < 0.5:
            return data[:at] + pick.randbytes(pick.randint(0, 4)) + data[at + 1 :]
        return data[:at]
