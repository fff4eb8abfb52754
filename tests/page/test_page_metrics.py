"""What /metrics says of the measured optics."""

from __future__ import annotations

from stemd.page.metrics import metrics_text


def test_measured_optics_are_numbers_with_their_errors() -> None:
    optics = {
        "numbers": {
            "defocus_nm": {"value": 12.1, "sigma": 0.2},
            "masked_pixels": {"value": 3, "sigma": None},
        },
        "agrees": False,
        "quality": 0.98,
    }
    pipelines = {"cam": {"optics": optics}, "other": {"optics": None}}
    text = metrics_text(lambda: {"cpu_seconds": None, "pipelines": pipelines})().decode()
    assert 'stemd_measured_optics{pipeline="cam",quantity="defocus_nm"} 12.1' in text
    assert 'stemd_measured_optics_sigma{pipeline="cam",quantity="defocus_nm"} 0.2' in text
    assert 'stemd_measured_optics{pipeline="cam",quantity="masked_pixels"} 3.0' in text
    assert 'stemd_optics_agree{pipeline="cam"} 0.0' in text
    assert 'pipeline="other",quantity' not in text
