"""abTEM takes seconds to import: done for the tests that use it, not for all that are collected."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def abtem() -> None:
    """Skip where it is missing; what it warns of, as it is imported, is not ours."""
    pytest.importorskip("abtem", reason="training needs the extra 'training'")
