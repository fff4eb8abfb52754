"""What all trainings keep: checkpoints that are never half, weights that are averaged."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'training'")

from training import checkpoints  # noqa: E402


def test_a_checkpoint_is_read_as_it_was_written_and_leaves_nothing_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state" / "run.pt"
    for step in (3, 7):
        checkpoints.write({"step": step, "weights": torch.full((2,), float(step))}, path)
    assert checkpoints.step_of(path) == 7
    assert checkpoints.read(path)["weights"].tolist() == [7.0, 7.0]
    assert [entry.name for entry in path.parent.iterdir()] == ["run.pt"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    checkpoints.write({"step": 1}, path)
    with pytest.raises(AttributeError):  # a function of a function cannot be stored
        checkpoints.write({"step": 2, "bad": lambda: None}, path)
    assert checkpoints.step_of(path) == 1


def test_averaged_weights_follow_quickly_at_first_and_slowly_later() -> None:
    averaged, network = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    averaged.weight.data.fill_(0.0)
    network.weight.data.fill_(1.0)
    checkpoints.follow(averaged, network, 1, 0.999)
    assert averaged.weight.item() == pytest.approx(1.0 - 2.0 / 11.0)
    averaged.weight.data.fill_(0.0)
    checkpoints.follow(averaged, network, 1_000_000, 0.999)
    assert averaged.weight.item() == pytest.approx(0.001, rel=1e-3)
