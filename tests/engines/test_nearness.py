"""Which processors are asked for memory in which way."""

from __future__ import annotations

import pytest

from stemd.engines.kernels import nearness


@pytest.mark.parametrize(
    ("vendor", "family", "expected"),
    [
        ("AuthenticAMD", "23", nearness.ONCE),
        ("AuthenticAMD", "25", nearness.SECOND),
        ("GenuineIntel", "6", nearness.SECOND),
        ("", "", nearness.SECOND),
    ],
)
def test_only_the_first_epycs_forget_what_is_needed_once_late_enough(
    monkeypatch: pytest.MonkeyPatch, vendor: str, family: str, expected: int
) -> None:
    told = {"vendor_id": vendor, "cpu family": family}
    monkeypatch.setattr(nearness, "processor_says", lambda key: told.get(key, ""))
    assert nearness.nearness_once.__wrapped__() == expected
