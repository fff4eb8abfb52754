"""A network that shows next to nothing of what the data see is not believed."""

from __future__ import annotations

import numpy as np
import pytest

from stemd.engines.airpi.claims import belief
from tests.engines.test_joined import CLEAR, FAINT, TRUTH, evidence_of


@pytest.mark.parametrize("transfer", [FAINT, CLEAR])
@pytest.mark.parametrize(("strength", "believed"), [(0.1, 0.0), (0.5, 1.0), (1.0, 1.0), (2.0, 1.0)])
def test_a_network_is_believed_by_how_much_it_shows_of_what_is_there(
    transfer: float, strength: float, believed: float
) -> None:
    assert belief(strength * TRUTH, evidence_of(TRUTH, transfer)) == believed


def test_a_network_that_shows_next_to_nothing_is_not_believed_where_the_data_see_nothing() -> None:
    nothing = evidence_of(0.0 * TRUTH, FAINT / 100.0)
    assert belief(0.01 * TRUTH, nothing) == 0.0
    assert belief(TRUTH, nothing) == 1.0


def test_without_a_bright_field_the_network_is_believed() -> None:
    evidence = evidence_of(TRUTH, 1.0)
    evidence.linear.numerator[:], evidence.linear.denominator[:] = 0.0, 0.0
    assert belief(TRUTH, evidence) == 1.0


def test_between_the_two_it_counts_in_part() -> None:
    evidence = evidence_of(TRUTH, CLEAR)
    parts = [belief(np.sqrt(part) * TRUTH, evidence) for part in (0.03, 0.045, 0.06)]
    assert parts == pytest.approx([0.0, 0.5, 1.0], abs=0.1)
