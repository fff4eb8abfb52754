"""What the state document counts while the reader goes on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stemd.daemon.pipeline.report import passed_over


@given(st.lists(st.booleans(), max_size=40), st.data())
def test_missing_are_the_positions_without_data_before_the_newest_one(
    marks: list[bool], data: st.DataObject
) -> None:
    done = np.array(marks, np.bool_)
    newest = max((index + 1 for index, mark in enumerate(marks) if mark), default=0)
    known = data.draw(st.integers(0, sum(marks)))
    assert passed_over(done, known) == newest - sum(marks)


def test_positions_that_are_marked_after_they_were_counted_are_not_missing() -> None:
    # the counter is read first: the reader has marked 25 more since
    done = np.zeros(100, np.bool_)
    done[:75] = True
    assert passed_over(done, 50) == 0
