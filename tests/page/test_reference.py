"""The references of metrics and commands have each one that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stemd.daemon.pipeline.commands import ARGUMENTS
from stemd.page.metrics import metrics_text

REFERENCE = Path(__file__).parents[2] / "docs/reference"
OPTICS = {"agrees": True, "numbers": {"defocus_nm": {"value": 1.0, "sigma": 0.1}}}
PIPELINE: dict[str, Any] = {
    **{"state": "waiting", "optics": OPTICS, "counts": {"lost": 1}, "threads_age_s": {"reader": 0}},
    **dict.fromkeys(
        (
            *("positions_per_second", "pool_free", "record_queue", "last_frame_age_s"),
            *("camera_connected", "adapter_failures", "scans_being_written", "positions"),
            *("scans_finished", "scans_not_complete", "scans_not_recorded", "record_waits"),
            "snapshots_replaced",
        ),
        1,
    ),
}
HEALTH: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("uptime_s", "memory_bytes", "open_files", "threads", "disk_free_bytes"),
            *("mqtt_connected", "viewers", "cpu_seconds"),
        ),
        1,
    ),
    "task_failures": {"disk": 1},
    "disk": {
        "total_bytes": 1,
        "low": False,
        "error": None,
        "documents_owed": 0,
        "scans_deleted": 0,
    },
    "completions": {"done": 1},
    "broker": dict.fromkeys(
        (
            *("connects", "images_sent", "images_replaced", "images_refused", "finals_dropped"),
            *("documents_dropped", "requests_refused"),
        ),
        1,
    ),
    "pipelines": {"cam": PIPELINE},
}


def families() -> dict[str, tuple[str, tuple[str, ...]]]:
    """(help, labels) of every metric by its name as it is scraped."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    helps: dict[str, str] = {}
    for line in metrics_text(lambda: HEALTH)().decode().splitlines():
        if line.startswith("# HELP "):
            name, text = line[7:].split(" ", 1)
            helps[name] = text
        elif not line.startswith("#"):
            name, labels, _ = re.fullmatch(r"(\w+)(\{.*\})? (.*)", line).groups()  # type: ignore[union-attr]
            if not name.endswith("_created"):
                found[name] = helps[name], tuple(re.findall(r'(\w+)="', labels or ""))
    return found


def test_every_metric_stands_in_the_reference_with_its_labels() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", (REFERENCE / "metrics.md").read_text(), re.M
    )
    told = {name: (text, tuple(re.findall(r"`(\w+)`", labels))) for name, labels, text in rows}
    assert told == families()


def test_every_command_stands_in_the_reference_with_its_arguments() -> None:
    text = (REFERENCE / "mqtt.md").read_text().split("## Commands\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .* \|$", text, re.M)
    told = {name: tuple(re.findall(r"`(\w+)`", words)) for name, words in rows}
    wanted = {name: tuple(words) for name, words in ARGUMENTS.items()}
    assert told == wanted
