"""Training itself: it goes on where it was stopped, and what is exported is what was trained."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'training'")
pytest.importorskip("onnx", reason="training needs the extra 'training'")

from stemd.engines.restoration.estimate.channels import stacked  # noqa: E402
from training.restoration import export, pool, shipped, train  # noqa: E402
from training.restoration.losses import restoration_loss  # noqa: E402
from training.restoration.network import INPUTS, Layout, RestorationNetwork, mixed  # noqa: E402
from training.restoration.optimiser import orthogonal  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny_numbers_stay")
TINY = Layout((8, 12), (1, 1), (1,))


def recipe() -> train.Recipe:
    return train.Recipe(layout=TINY, seed=3, size=32, batch=2, learning_rate=1e-3)


def steps(run: train.Run, count: int) -> None:
    for _ in range(count):
        source = train.Source()
        run.learn(*source.batch(run.recipe.seed, run.step, run.recipe.batch, run.recipe.size))


def scrambled(layout: Layout) -> RestorationNetwork:
    """A network none of whose layers is the identity."""
    torch.manual_seed(0)
    network = RestorationNetwork(layout)
    for values in network.parameters():
        values.data = torch.randn_like(values) * 0.1
    return network.eval()


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    whole = train.Run(recipe())
    steps(whole, 6)
    first = train.Run(recipe())
    steps(first, 4)
    first.save(tmp_path / "state.pt")
    second = train.Run(recipe())
    second.restore(tmp_path / "state.pt")
    assert second.step == 4
    steps(second, 2)
    for name in ("network", "averaged"):
        expected = getattr(whole, name).state_dict()
        for key, values in getattr(second, name).state_dict().items():
            assert torch.equal(values, expected[key]), key


def test_training_makes_the_loss_smaller():
    run = train.Run(recipe())
    channels, truth = train.Source().batch(1, 0, 4, 32)
    losses = [run.learn(channels, truth) for _ in range(150)]
    assert losses[-1] < losses[0] - 0.3


def test_the_command_resumes_and_finishes(tmp_path, monkeypatch):
    state, finished = tmp_path / "state.pt", tmp_path / "finished.pt"
    common = ["train", "--size", "32", "--batch", "1"]
    monkeypatch.setattr(train, "validate", partial(train.validate, count=2, size=64))
    monkeypatch.setattr("sys.argv", [*common, "--state", str(state), "--steps", "2"])
    train.main()
    monkeypatch.setattr("sys.argv", [*common, "--state", str(state), "--steps", "3"])
    train.main()
    assert train.load_averaged(state)[1] == 3
    final = ["--state", str(finished), "--from", str(state), "--finish", "2"]
    monkeypatch.setattr("sys.argv", [*common, *final])
    train.main()
    assert train.load_averaged(finished)[1] == 5


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    plain = train.Recipe()
    assert plain.fraction(0) < plain.fraction(100) < plain.fraction(10_000) == 1.0
    last = train.Recipe(finish_at=1000, finish_steps=200)
    assert last.fraction(800) == 1.0
    assert last.fraction(900) == 0.5
    assert last.fraction(1000) == 0.0


def test_muon_turns_every_direction_about_equally_far():
    torch.manual_seed(0)
    for shape in ((12, 30), (30, 12)):
        turned = orthogonal(torch.randn(shape))
        values = torch.linalg.svdvals(turned)
        assert 0.5 < values.min() < values.max() < 1.4


def test_a_broken_pair_ends_the_training_instead_of_stalling_it(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("no such pair")

    monkeypatch.setattr(train, "drawn", broken)
    with pytest.raises(RuntimeError, match="pair could not be made"):
        train.train(train.Run(recipe()), train.Source(), tmp_path / "s.pt", 3, 60.0, 60.0)


def test_the_truth_has_the_smallest_loss():
    _, truth = train.Source().batch(2, 0, 3, 32)
    best = restoration_loss(truth, truth)
    for worse in (truth + 0.05, truth * 0.9, truth.roll(1, -1)):
        assert restoration_loss(worse, truth) > best + 0.1


@pytest.mark.parametrize("layout", [TINY, Layout((8, 8, 8), (0, 1, 2), (2, 0)), Layout()])
def test_the_exported_graph_computes_what_the_network_does(layout):
    pytest.importorskip("onnxruntime")
    network = scrambled(layout)
    for values in network.parameters():
        values.data = values.data.half().float()
    model = export.as_onnx(network, {"stemd.multiple": str(layout.multiple)})
    scale = float(network(torch.randn(1, INPUTS, 64, 64)).detach().abs().max())
    assert export.largest_difference(model, network) < 1e-4 * max(1.0, scale)


def test_every_multiple_of_the_layouts_multiple_is_a_size_that_works():
    network = scrambled(TINY)
    assert TINY.multiple == 4
    for shape in ((4, 4), (8, 20), (36, 12)):
        assert network(torch.zeros(1, INPUTS, *shape)).shape == (1, 1, *shape)


def test_a_new_network_lets_no_wild_values_out():
    channels = torch.randn(1, INPUTS, 64, 64)
    channels[:, 4:6] *= 100.0
    out = RestorationNetwork(Layout())(channels).detach().numpy()
    assert np.isfinite(out).all()
    largest = float(channels[:, 4:6].abs().max() * torch.exp(channels[:, 6]).max())
    assert np.abs(out).max() < largest


def test_the_output_is_what_the_candidates_weigh():
    rng = np.random.default_rng(0)
    image, waves, shown, aligned = rng.normal(size=(4, 8, 12)).astype(np.float32)
    spread = np.exp(rng.normal(size=(8, 12))).astype(np.float32)
    given = torch.from_numpy(stacked(image, waves, shown, aligned, spread)[None])
    features = rng.normal(size=(6, 8, 12)).astype(np.float32)
    weights = np.exp(features[2:])
    weights /= weights.sum(axis=0)
    expected = features[1] * spread
    for weight, candidate in zip(weights, (features[0], shown, waves, aligned), strict=True):
        expected = expected + weight * candidate
    found = given[0, 3] + mixed(given, torch.from_numpy(features[None]))[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_a_pool_is_cut_the_same_way_each_time_and_holds_what_was_drawn(tmp_path):
    pool.fill(tmp_path, seed=5, first=0, count=2, size=64, images=2)
    kept = np.load(pool.path_of(tmp_path, 0))
    np.testing.assert_array_equal(kept[1], pool.drawn(5, 1, 64))
    before = pool.path_of(tmp_path, 0).stat().st_mtime_ns
    pool.fill(tmp_path, seed=5, first=0, count=2, size=64, images=2)
    assert pool.path_of(tmp_path, 0).stat().st_mtime_ns == before
    source = train.Source(tmp_path, 2)
    channels, truth = source.batch(1, 3, 4, 32)
    again, _ = source.batch(1, 3, 4, 32)
    assert channels.shape == (4, INPUTS, 32, 32)
    assert truth.shape == (4, 1, 32, 32)
    assert torch.equal(channels, again)
    assert not torch.equal(channels, source.batch(1, 4, 4, 32)[0])


def test_a_training_goes_on_from_what_was_shipped(tmp_path: Path) -> None:
    network = scrambled(TINY)
    metadata = {"stemd.layout": json.dumps(TINY.as_dict()), "stemd.steps": "41"}
    path = tmp_path / "shipped.onnx"
    export.onnx.save(export.as_onnx(network, metadata), path)
    again, step = shipped.load_shipped(path)
    assert step == 41
    image = torch.randn((1, INPUTS, 32, 48), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(again(image), network(image), atol=5e-2, rtol=1e-2)
    run = train.Run(recipe())
    run.restore(path)
    assert run.step == 0
    for mine, theirs in zip(run.network.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    steps(run, 1)
