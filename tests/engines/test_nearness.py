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


VECTORS = "fpu avx2 avx512f avx512bw avx512_vnni"


@pytest.mark.parametrize(
    ("vendor", "flags", "settings", "expected"),
    [
        ("AuthenticAMD", VECTORS, {}, True),
        ("AuthenticAMD", VECTORS, {"NUMBA_CPU_NAME": "generic"}, False),
        ("AuthenticAMD", VECTORS, {"NUMBA_CPU_FEATURES": "+avx2"}, False),
        ("AuthenticAMD", "fpu avx2", {}, False),
        ("GenuineIntel", VECTORS, {}, False),
        ("", "", {}, False),
    ],
)
def test_rows_are_read_in_order_where_that_was_measured_and_can_be_compiled(
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
    flags: str,
    settings: dict[str, str],
    expected: bool,
) -> None:
    told = {"vendor_id": vendor, "flags": flags}
    monkeypatch.setattr(nearness, "processor_says", lambda key: told.get(key, ""))
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(nearness, "multiplies_bytes", nearness.multiplies_bytes.__wrapped__)
    assert nearness.reads_in_order.__wrapped__() == expected
