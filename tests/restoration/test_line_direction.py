"""Which way the beam ran is seen in an image's noise."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.restoration.defects import scenes
from benchmarks.restoration.truthful import CONDITIONS, fresh_seed
from stemd.engines.restoration.distortions import Distortions, Jitter, Tail, distort
from stemd.engines.restoration.line_direction import along_y

MOVED = {
    "displaced": Distortions(jitter=Jitter(0.3, 1.0, 0.5)),
    "slow": Distortions(tail=Tail("exponential", 1.0)),
    "both": Distortions(jitter=Jitter(0.3, 0.7, 0.3), tail=Tail("box", 2.0)),
}


@pytest.mark.parametrize(
    ("kind", "dose"),
    [("slow", 2e3), ("slow", 1e5), ("both", 2e3), ("both", 1e5), ("displaced", 1e6)],
)
def test_images_that_lie_on_their_side_are_known(kind: str, dose: float) -> None:
    found = []
    for number, scene in enumerate(scenes(fresh_seed(90))):
        rng = np.random.default_rng([fresh_seed(91), number, int(dose)])
        image = distort(scene.electrons(dose), MOVED[kind], rng)
        assert not along_y([image]), scene.name
        found.append(along_y([np.ascontiguousarray(image.T)]))
        # displaced lines show where there are shapes, and where they are more than the noise
        assert found[-1] or scene.name == "nothing" or kind == "displaced", scene.name
    assert np.mean(found) >= 0.5


@pytest.mark.parametrize("dose", [5e2, 2e4])
def test_still_images_are_left_as_they_lie(dose: float) -> None:
    for number, scene in enumerate(scenes(fresh_seed(92))):
        rng = np.random.default_rng([fresh_seed(93), number, int(dose)])
        image = distort(scene.electrons(dose), CONDITIONS["still"], rng)
        assert not along_y([image]), scene.name
        assert not along_y([np.ascontiguousarray(image.T)]), scene.name


def test_frames_are_asked_together_and_small_ones_not_at_all() -> None:
    truth = scenes(fresh_seed(94))[1].electrons(500.0)
    rng = np.random.default_rng(fresh_seed(95))
    frames = [distort(truth, MOVED["both"], rng).T.copy() for _ in range(12)]
    assert along_y(frames)
    assert not along_y([frame[:32, :32].copy() for frame in frames])
