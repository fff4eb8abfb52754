"""Every key of a config file stands in the reference, with words and an example that holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from stemd.cli.reference import markdown
from stemd.cli.schema import config_schema
from stemd.config.keys import _written, check_example, keys_of, tables

PAGE = Path(__file__).parents[2] / "docs/reference/keys.md"
OURS = [(heading, model) for heading, _, model in tables() if model.__module__[:6] == "stemd."]


def test_the_page_of_all_keys_is_the_one_that_stemd_schema_makes() -> None:
    assert PAGE.read_text() == markdown(), "run: stemd schema --markdown > docs/reference/keys.md"


@pytest.mark.parametrize(("heading", "model"), OURS, ids=[heading for heading, _ in OURS])
def test_every_key_has_words_and_an_example_that_is_accepted(
    heading: str, model: type[BaseModel]
) -> None:
    for key in keys_of(model):
        assert key.words, f"{heading} {key.name} stands nowhere: describe it in keys.toml"
        assert key.example, f"{heading} {key.name} has no example"
        check_example(model, key)
        assert (
            f"| `{key.name}` |" in PAGE.read_text().split(f"## `{heading}`\n")[1].split("\n## ")[0]
        )


def test_the_reference_describes_no_key_that_is_gone() -> None:
    every = {each for _, _, model in tables() for each in model.__mro__}
    known = {each.__name__: each for each in every if hasattr(each, "model_fields")}
    inner = {"ColumnCorrection"}
    for name, keys in _written().items():
        if name not in inner:
            assert set(keys) <= set(known[name].model_fields), name


def test_an_editor_shows_what_a_key_is() -> None:
    schema = config_schema()["properties"]["pipeline"]["items"]["properties"]
    assert "electrons" in schema["optics"]["properties"]["energy_ev"]["description"]
    (merlin,) = [
        each
        for each in schema["adapter"]["oneOf"]
        if each["properties"]["type"]["const"] == "merlin"
    ]
    assert "listens" in merlin["properties"]["control_port"]["description"]


def test_units_ranges_and_defaults_come_from_the_settings_themselves() -> None:
    from stemd.acquisition import Optics
    from stemd.config.tables import PublishTable
    from stemd.engines.airpi.setup import AirpiSettings

    optics = {key.name: key for key in keys_of(Optics)}
    assert (optics["energy_ev"].unit, optics["energy_ev"].allowed) == (
        *("eV", "a number > 0 and <= 1,000,000,000"),
    )
    assert optics["measured"].allowed == '"off", "report", "use"'
    assert optics["defocus_nm"].default == "0.0"
    rate, *_ = keys_of(PublishTable)
    assert (rate.unit, rate.allowed) == ("Hz", "a number >= 0.001 and <= 100")
    airpi = {key.name: key for key in keys_of(AirpiSettings)}
    assert airpi["every"].allowed == '"auto", or a whole number >= 1 and <= 64'
