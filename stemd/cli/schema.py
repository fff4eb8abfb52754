"""`stemd schema`: the config file as JSON Schema, for editors that complete and check."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

EXAMPLE = "stemd schema --example merlin > merlin.toml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--markdown", action="store_true", help="a page for people, with every key and an example"
    )
    parser.add_argument(
        "--example",
        metavar="CAMERA",
        help="a config to begin with: merlin, dectris, timepix3, images, replay, airpi",
    )


def run(args: argparse.Namespace) -> int:
    """Print the schema, or what else was asked for. Raises UsageError."""
    if args.example is not None:
        from stemd.cli.example_configs import text_of

        sys.stdout.write(text_of(args.example))
        return 0
    if args.markdown:
        from stemd.cli.reference import markdown

        sys.stdout.write(markdown())
        return 0
    sys.stdout.write(json.dumps(config_schema(), indent=2) + "\n")
    return 0


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the config file, with every installed plugin."""
    from stemd import plugins
    from stemd.acquisition import Optics
    from stemd.config.keys import keys_of
    from stemd.config.mqtt import MqttSettings
    from stemd.config.page import PageSettings
    from stemd.config.resolved import foreign_sinks
    from stemd.config.session_plan import SessionPlan
    from stemd.config.tables import AboutTable, DaemonTable, PublishTable, RecordTable

    definitions: dict[str, Any] = {}

    def table(model: Any, kind: str | None = None, summary: str = "") -> dict[str, Any]:
        schema: dict[str, Any] = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(schema.pop("$defs", {}))
        for key in keys_of(model):
            if key.words:
                schema["properties"][key.name]["description"] = key.words
        if kind is not None:
            schema["properties"] = {"type": {"const": kind}, **schema.get("properties", {})}
            schema["required"] = ["type", *schema.get("required", [])]
            schema["description"] = summary
        return schema

    def choice(found: list[plugins.Plugin]) -> dict[str, Any]:
        return {"oneOf": [table(plugin.settings, plugin.name, plugin.summary) for plugin in found]}

    sinks = choice(foreign_sinks())

    pipeline = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "adapter"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"},
            "adapter": choice(plugins.catalogue("adapters")),
            "optics": table(Optics),
            "engine": {"type": "array", "items": choice(plugins.catalogue("engines"))},
            "publish": table(PublishTable),
            "record": table(RecordTable),
            "about": table(AboutTable),
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "stemd config",
        "type": "object",
        "additionalProperties": False,
        "required": ["pipeline"],
        "properties": {
            "daemon": table(DaemonTable),
            "mqtt": table(MqttSettings),
            "page": table(PageSettings),
            "sink": {"type": "array", "items": sinks} if sinks["oneOf"] else {"maxItems": 0},
            "pipeline": {"type": "array", "minItems": 1, "items": pipeline},
            "session": {"type": "array", "items": table(SessionPlan)},
        },
        "$defs": definitions,
    }
