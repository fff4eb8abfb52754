"""Blocks of few records, so that what is written here is many of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stemd.adapters.events import landing, placing, recording

RECORDS = 16384


@pytest.fixture(autouse=True, scope="module")
def short_blocks() -> Iterator[None]:
    """Files and streams are decoded in steps of RECORDS, a quarter of their steps."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (landing, recording):
            patch.setattr(module, "BLOCK_RECORDS", RECORDS)
        for module in (landing, placing):
            patch.setattr(module, "OUTPUT_HITS", RECORDS + 64)
        yield
