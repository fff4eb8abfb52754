"""Live settings: any subset, all or nothing, with the key and the remedy when refused."""

from __future__ import annotations

from typing import Any

import pytest

from stemd.config.file import parse
from stemd.config.live import LiveSettings, RefusedError
from tests.daemon.test_config import GOOD


@pytest.fixture
def live() -> LiveSettings:
    return LiveSettings.of(parse(GOOD).pipelines[0])


def test_the_document_has_every_section_and_a_revision(live: LiveSettings) -> None:
    document = live.as_json()
    assert document["revision"] == 1
    assert document["ricom"] == {"kernel_size": 21, "band_pass": None}
    assert document["scan"]["shape"] == [4, 5]
    assert set(document) >= {"optics", "publish", "record", "virtual_detector"}


def test_a_change_touches_only_what_it_names(live: LiveSettings) -> None:
    new = live.changed({"id": "7", "ricom": {"kernel_size": 61}, "optics.rotation_deg": 12.5})
    assert new.revision == 2
    before, after = live.as_json(), new.as_json()
    assert after["ricom"]["kernel_size"] == 61
    assert after["optics"]["rotation_deg"] == 12.5
    assert after["optics"]["pixel_size_mrad"] == 0.5
    for section in ("scan", "publish", "record", "virtual_detector"):
        assert before[section] == after[section]
    assert live.as_json() == before


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"ricom": {"kernel_size": 20}}, "ricom.kernel_size"),
        ({"ricom": {"kernel": 21}}, "ricom.kernel"),
        ({"rikom": {"kernel_size": 21}}, "rikom"),
        ({"optics": {"rotation_deg": "x"}}, "optics.rotation_deg"),
        ({"optics": {"rotation_deg": float("nan")}}, "optics.rotation_deg"),
        ({"optics": 3}, "optics"),
        ({"ricom": {"kernel_size": 31}, "publish": {"rate_hz": 0}}, "publish.rate_hz"),
        ({"virtual_detector": {"detectors": {"bf": [5, 1]}}}, "virtual_detector"),
        ({"optics": {"pixel_size_mrad": None}}, "optics"),
        ({"ricom": {"name": "other"}}, "ricom.name"),
    ],
)
def test_a_bad_change_is_refused_whole_with_its_key(
    live: LiveSettings, change: dict[str, Any], key: str
) -> None:
    before = live.as_json()
    with pytest.raises(RefusedError) as caught:
        live.changed(change)
    error = caught.value.as_json()
    assert error["key"].startswith(key)
    assert error["message"]
    assert live.as_json() == before
