"""What images of the benchmarks are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.direct.cases import Case, truth_of


def test_a_coarse_step_folds_nothing_into_the_truth_that_no_electron_tells_of() -> None:
    """The bright field of 5 mrad ends at 1 / 1.97 angstrom, steps of 0.9 angstrom hold all of it:
    they show the same as steps of a third."""
    coarse = truth_of(Case("mos2", side=14, step=0.9, angle_mrad=5.0))
    fine = truth_of(Case("mos2", side=40, step=0.3, angle_mrad=5.0))[::3, ::3]
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.98
    assert coarse.std() == pytest.approx(fine.std(), rel=0.1)
