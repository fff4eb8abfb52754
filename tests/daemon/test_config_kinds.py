"""Values of a config or a message are of the kind that is asked for, and numbers can be meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from stemd.acquisition import Optics, Scan
from stemd.cli.schema import config_schema
from stemd.config.file import parse
from stemd.config.keys import tables
from stemd.config.live import LiveSettings, RefusedError
from stemd.config.problems import ConfigProblemsError

CONFIG = """
[daemon]
data_dir = "/tmp/nowhere"

[[pipeline]]
name = "cam"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
scan = { shape = [8, 8], step_size_angstrom = 0.2 }

[pipeline.optics]
energy_ev = 300e3
rotation_deg = 0.0

[[pipeline.engine]]
type = "ricom"
kernel_size = 5

[pipeline.record]
raw = false
"""


def _numbers(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if node.get("type") in ("number", "integer"):
            yield path, node
        for key, value in node.items():
            yield from _numbers(value, f"{path}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _numbers(value, f"{path}.{number}")


def test_every_number_of_a_config_has_bounds() -> None:
    free = {
        path
        for path, node in _numbers(config_schema())
        if not (
            {"maximum", "exclusiveMaximum"} & set(node)
            and {"minimum", "exclusiveMinimum"} & set(node)
        )
        # registers of the camera's own, which it judges itself
        and ".properties.camera.additionalProperties." not in path
        and not {"enum", "const"} & set(node)
    }
    assert not free


MODELS = [(where, model) for where, _, model in tables()]
FLAGS = [
    (where, model, name)
    for where, model in MODELS
    for name, field in model.model_fields.items()
    if field.annotation is bool
]


def test_there_are_booleans_to_be_tried() -> None:
    assert {"raw", "flip", "serpentine", "preview", "start"} <= {name for _, _, name in FLAGS}


@pytest.mark.parametrize("value", ["yes", "true", "1", 1, 0, 1.0, None])
@pytest.mark.parametrize(("where", "model", "name"), FLAGS)
def test_a_boolean_is_true_or_false_only(
    where: str, model: type[BaseModel], name: str, value: Any
) -> None:
    assert name in _refused(model, {name: value}), where
    assert name not in _refused(model, {name: True}), where


def _refused(model: type[BaseModel], values: dict[str, Any]) -> set[str]:
    """The keys of which validation complains."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return {str(item["loc"][0]) for item in error.errors() if item["loc"]}
    return set()


@pytest.mark.parametrize(
    "name", ["energy_ev", "rotation_deg", "defocus_nm", "astigmatism_nm", "cs_mm"]
)
@pytest.mark.parametrize("value", ["1", True, math.nan, math.inf, 1e308, -1e308])
def test_a_number_is_a_number_that_can_be_meant(name: str, value: Any) -> None:
    assert _refused(Optics, {name: value}) == {name}


def test_what_is_too_small_to_be_meant_is_refused_and_whole_numbers_may_have_a_point() -> None:
    assert _refused(Optics, {"energy_ev": 1e-300}) == {"energy_ev"}
    assert _refused(Scan, {"shape": ["8", 8]}) == {"shape"}
    assert _refused(Scan, {"shape": [True, 8]}) == {"shape"}
    assert Scan.model_validate({"shape": [8.0, 8], "step_size_angstrom": 1}).shape == (8, 8)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("record", {"raw": "yes"}),
        ("record", {"raw": 1}),
        ("optics", {"rotation_deg": 1e308}),
        ("optics", {"flip": "false"}),
        ("ricom", {"kernel_size": "61"}),
        ("publish", {"rate_hz": "10"}),
    ],
)
def test_a_live_setting_of_another_kind_is_refused_with_key_and_value(
    section: str, change: dict[str, Any]
) -> None:
    live = LiveSettings.of(parse(CONFIG, "test.toml").pipelines[0])
    with pytest.raises(RefusedError) as refused:
        live.changed({section: change})
    ((key, value),) = change.items()
    assert refused.value.as_json()["key"] == f"{section}.{key}"
    assert repr(value) in refused.value.as_json()["message"]


def test_a_config_with_such_values_names_the_line() -> None:
    text = CONFIG.replace("raw = false", 'raw = "yes"').replace(
        "rotation_deg = 0.0", "rotation_deg = 1e308"
    )
    with pytest.raises(ConfigProblemsError) as wrong:
        parse(text, "test.toml")
    said = [(problem.key, problem.line) for problem in wrong.value.problems]
    assert said == [("pipeline[0].optics.rotation_deg", 15), ("pipeline[0].record.raw", 22)]
