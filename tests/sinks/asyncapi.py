"""docs/asyncapi.yaml as an oracle: which message may stand on which topic, and what it holds."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import PIL.Image
import tifffile
import yaml

PATH = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


@cache
def specification() -> dict[str, Any]:
    return dict(yaml.safe_load(PATH.read_text()))


def resolve(reference: str) -> Any:
    found: Any = specification()
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": specification()["components"]}
    return jsonschema.Draft202012Validator(schema)


def channel_of(topic: str) -> str:
    """The one channel whose address fits; fails if there is none or more than one."""
    fitting = []
    for name, channel in specification()["channels"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(channel["address"]))
        if re.fullmatch(pattern, topic):
            fitting.append((pattern.count("[^/]+"), name))
    assert fitting, f"{topic} is not described"
    # daemon/state also looks like the state of a pipeline called daemon: the narrower one counts
    return min(fitting)[1]


def check(topic: str, payload: bytes) -> str:
    """Validate a message against its channel's schema; returns the channel."""
    channel = channel_of(topic)
    (reference,) = specification()["channels"][channel]["messages"].values()
    message = resolve(reference["$ref"])
    kind = message.get("contentType", specification()["defaultContentType"])
    if kind == "image/tiff":
        with tifffile.TiffFile(io.BytesIO(payload)) as file:
            validator("imageDescription").validate(json.loads(file.pages.first.description))
        return channel
    if kind == "image/png":
        picture = PIL.Image.open(io.BytesIO(payload))
        about = json.loads(picture.text["Description"])  # type: ignore[attr-defined]
        validator("imageDescription").validate(about)
        return channel
    value = payload.decode() if kind == "text/plain" else json.loads(payload)
    validator(message["payload"]["$ref"].rsplit("/", 1)[1]).validate(value)
    return channel
