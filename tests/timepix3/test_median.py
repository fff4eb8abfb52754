"""The median of a few numbers is that of NumPy, to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stemd.adapters.events.pulses.median import median
from stemd.adapters.events.pulses.state import STATE, WAITING

NUMBERS = st.one_of(st.sampled_from([0.0, 1.0, 2.5]), st.floats(-1e12, 1e12))


@given(st.lists(NUMBERS, min_size=1, max_size=WAITING))
def test_the_median_is_numpys_and_the_numbers_stay(numbers: list[float]) -> None:
    state = np.zeros(1, STATE)
    state["room"][0, : len(numbers)] = numbers
    state["room"][0, len(numbers) :] = -1e300
    assert median(state[0], len(numbers)) == np.median(numbers)
    assert state["room"][0, : len(numbers)].tolist() == numbers
