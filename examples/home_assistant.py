"""Show stemd in Home Assistant: state, defocus, dose and problems, found by MQTT discovery.

    python examples/home_assistant.py titan merlin | while read -r topic message; do
        mosquitto_pub -r -t "$topic" -m "$message"; done

Each line is a topic and a message, to be published retained on the broker that Home Assistant
and stemd share. Nothing runs afterwards: Home Assistant reads stemd's own topics.
"""

from __future__ import annotations

import json
import sys
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
    device = {"identifiers": [f"stemd-{instrument}-{pipeline}"], "name": f"{instrument} {pipeline}"}
    for name, sensor in found.items():
        sensor |= {
            "name": name,
            "unique_id": f"stemd_{instrument}_{pipeline}_{name}",
            "availability_topic": f"stemd/{instrument}/availability",
            "payload_available": "online",
            "payload_not_available": "offline",
            "device": device,
        }
    home = f"homeassistant/sensor/stemd_{instrument}_{pipeline}"
    return {f"{home}/{name}/config": sensor for name, sensor in found.items()}


if __name__ == "__main__":
    for topic, message in sensors(*sys.argv[1:3]).items():
        print(topic, json.dumps(message))
