"""What every key of a config file is: its words and example, its unit, range and default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, get_args

import tomli
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from stemd import plugins
from stemd.acquisition import Optics, Scan
from stemd.config.mqtt import MqttSettings
from stemd.config.page import PageSettings
from stemd.config.resolved import foreign_sinks
from stemd.config.session_plan import EndConditions, SessionPlan
from stemd.config.tables import AboutTable, DaemonTable, PublishTable, RecordTable, RetentionTable

UNITS = {
    **{"angstrom": "Å", "mrad": "mrad", "deg": "°", "nm": "nm", "mm": "mm", "ev": "eV"},
    **{"us": "µs", "ns": "ns", "ms": "ms", "s": "s", "hz": "Hz", "gb": "GB", "mb": "MB"},
    **{"days": "days", "px": "pixels", "mib": "MiB"},
}
"""By the last word of a key's name."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table.

    `default` is as it stands in a file, "required", or "" where nothing is set; `allowed` are
    values or bounds, in words; `words` and `example` are "" where nobody has written them.
    """

    name: str
    unit: str
    default: str
    allowed: str
    words: str
    example: str


def tables() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """(heading, summary, settings class) of every table of a config file, in a file's order."""
    yield "[daemon]", "", DaemonTable
    yield "[daemon.retention]", "", RetentionTable
    yield "[mqtt]", "", MqttSettings
    yield "[page]", "", PageSettings
    for plugin in foreign_sinks():
        yield f'[[sink]] type = "{plugin.name}"', plugin.summary, plugin.settings
    for plugin in plugins.catalogue("adapters"):
        yield f'[pipeline.adapter] type = "{plugin.name}"', plugin.summary, plugin.settings
        for key, field in plugin.settings.model_fields.items():
            for part in _models(field.annotation):
                if part is not Scan:
                    yield f'[pipeline.adapter.{key}] of "{plugin.name}"', "", part
    yield "[pipeline.adapter.scan]", "", Scan
    yield "[pipeline.optics]", "", Optics
    for plugin in plugins.catalogue("engines"):
        yield f'[[pipeline.engine]] type = "{plugin.name}"', plugin.summary, plugin.settings
    yield "[pipeline.publish]", "", PublishTable
    yield "[pipeline.record]", "", RecordTable
    yield "[pipeline.about]", "", AboutTable
    yield "[[session]]", "", SessionPlan
    yield "[session.end]", "", EndConditions


def keys_of(model: type[BaseModel]) -> list[Key]:
    """Every key of a table."""
    schema = model.model_json_schema()
    found = []
    for name, field in model.model_fields.items():
        words, example = words_of(model, name)
        default = "required" if field.is_required() else _default(field.get_default())
        if field.default_factory is not None:
            default = "{}"
        unit = UNITS.get(name.rsplit("_", 1)[-1], "") if "_" in name else ""
        allowed = _allowed(schema["properties"][name], schema.get("$defs", {}))
        found.append(Key(name, unit, default, allowed, words or field.description or "", example))
    return found


def words_of(model: type[BaseModel], key: str) -> tuple[str, str]:
    """(words, example) of a key, ("", "") where there are none."""
    for each in model.__mro__:
        if found := _written().get(each.__name__, {}).get(key):
            return found[0], found[1]
    return "", ""


def check_example(model: type[BaseModel], key: Key) -> None:
    """Raises ValueError where the example is no value of the key."""
    field = model.model_fields[key.name]
    value = tomli.loads(f"x = {key.example}")["x"]
    kind: Any = field.annotation
    if field.metadata:
        kind = Annotated[(kind, *field.metadata)]
    TypeAdapter(kind).validate_python(value)


@cache
def _written() -> Mapping[str, Mapping[str, tuple[str, str]]]:
    return tomli.loads((resources.files("stemd.config") / "keys.toml").read_text("utf-8"))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes in a type such as `ClusterSettings | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, default=str, ensure_ascii=False)


def _allowed(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Values or bounds of a JSON Schema in words, "" where anything of its type goes."""
    parts = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    words = [text for each in parts if (text := _of_part(each, definitions))]
    return ", or ".join(dict.fromkeys(words))


_TYPES = {
    **{"string": "text", "integer": "a whole number", "number": "a number"},
    **{"boolean": "true, false", "array": "a list", "object": "a table"},
}


def _of_part(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "a table"
    if "enum" in schema or "const" in schema:
        return ", ".join(json.dumps(each) for each in schema.get("enum", [schema.get("const")]))
    kind = _TYPES.get(schema.get("type", ""), "")
    if schema.get("type") == "array":
        inner = schema.get("prefixItems") or [schema.get("items", {})]
        of = _of_part(inner[0], definitions)
        count = f" of {schema['minItems']}" if "prefixItems" in schema else ""
        return f"a list{count}: {of}" if of else f"a list{count}"
    bounds = [
        f"{sign} {schema[key]:g}" if abs(schema[key]) < 1e6 else f"{sign} {schema[key]:,.0f}"
        for key, sign in _BOUNDS.items()
        if key in schema
    ]
    if bounds:
        return f"{kind} {' and '.join(bounds)}"
    return f"`{schema['pattern']}`" if "pattern" in schema else kind


_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
