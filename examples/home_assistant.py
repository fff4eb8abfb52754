"""Show stemd in Home Assistant: state, defocus, dose, problems and images, by MQTT discovery.

    python examples/home_assistant.py titan merlin ricom adf | while read -r topic message; do
        mosquitto_pub -r -t "$topic" -m "$message"; done

The images (here ricom and adf) are there where stemd's config has them as pictures:

    [pipeline.publish]
    preview = true

Each line is a topic and a message, to be published retained on the broker that Home Assistant
and stemd share. Nothing runs afterwards: Home Assistant reads stemd's own topics.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def sensors(instrument: str, pipeline: str) -> dict[str, dict[str, Any]]:
    """Discovery messages by their topics."""
    base = f"stemd/{instrument}/{pipeline}"
    measured = "{{{{ value_json.{key}.value if value_json.{key} else None }}}}"
    found: dict[str, dict[str, Any]] = {
        "state": {"state_topic": f"{base}/state", "value_template": "{{ value_json.state }}"},
        "positions": {
            "state_topic": f"{base}/state",
            "value_template": "{{ value_json.positions_done }}",
        },
        "problem": {
            "state_topic": f"{base}/state",
            "value_template": "{{ value_json.last_error.message if value_json.last_error "
            "else 'none' }}",
        },
        "defocus": {
            "state_topic": f"{base}/optics",
            "value_template": measured.format(key="defocus_nm"),
            "unit_of_measurement": "nm",
        },
        "dose": {
            "state_topic": f"{base}/optics",
            "value_template": measured.format(key="dose_e_per_square_angstrom"),
            "unit_of_measurement": "e/Å²",
        },
    }
    return _discovered("sensor", instrument, pipeline, found)


def cameras(instrument: str, pipeline: str, images: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Discovery messages of images, by their topics."""
    base = f"stemd/{instrument}/{pipeline}/image"
    found: dict[str, dict[str, Any]] = {
        name: {"topic": f"{base}/{name}/preview"} for name in images
    }
    return _discovered("camera", instrument, pipeline, found)


def _discovered(
    kind: str, instrument: str, pipeline: str, found: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    device = {"identifiers": [f"stemd-{instrument}-{pipeline}"], "name": f"{instrument} {pipeline}"}
    common = {
        "availability_topic": f"stemd/{instrument}/availability",
        "payload_available": "online",
        "payload_not_available": "offline",
        "device": device,
    }
    home = f"homeassistant/{kind}/stemd_{instrument}_{pipeline}"
    prefix = f"stemd_{instrument}_{pipeline}"
    return {
        f"{home}/{name}/config": {
            **one,
            "name": name,
            "unique_id": f"{prefix}_{name}" if kind == "sensor" else f"{prefix}_{kind}_{name}",
            **common,
        }
        for name, one in found.items()
    }


if __name__ == "__main__":
    instrument, pipeline, *images = sys.argv[1:]
    told = sensors(instrument, pipeline) | cameras(instrument, pipeline, images)
    for topic, message in told.items():
        print(topic, json.dumps(message))
