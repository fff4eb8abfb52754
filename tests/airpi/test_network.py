"""Examples, training and export of AIRPI's network."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'training'")
pytest.importorskip("onnx", reason="training needs the extra 'training'")

from stemd.beam import Beam  # noqa: E402
from stemd.engines.airpi.features import GRID, SAMPLES, WINDOW, field_angstrom, inputs  # noqa: E402
from stemd.engines.probe import probe  # noqa: E402
from training.airpi import examples, export, samples, shards, train  # noqa: E402
from training.airpi.network import ExitWaveNetwork, Layout  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny_numbers_stay")
TINY = Layout(pattern=6, width=16, inner=24, blocks=2, told=5)
K = GRID.members.size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("shards")
    shards.make(made, shards.Recipe(seed=4, samples=96, phonons=1, specimens=6), range(1))
    return made


@pytest.fixture(scope="module")
def data(folder):
    return examples.examples(next(folder.glob("*.npz")))


def run_of(seed: int = 3) -> train.Run:
    return train.Run(train.Recipe(layout=TINY, seed=seed, batch=8))


def steps(run: train.Run, data: examples.Examples, count: int) -> None:
    for _ in range(count):
        rng = np.random.default_rng(run.step)
        chosen = rng.integers(0, len(data), 8)
        run.learn(train.tensors(examples.draw(data, chosen, np.full(8, 1e3), rng)))


def test_an_empty_specimen_binned_is_the_disc():
    beam = samples.conditions(np.random.default_rng(0)).beam
    what = samples.Conditions(beam, samples.REACH * beam.convergence_semi_angle_mrad, 0.2)
    pattern = (np.abs(samples.incident(what)) ** 2).astype(np.float32)
    # the sample's disc has an edge of half a grid pixel, the grid's none
    np.testing.assert_allclose(
        examples.on_grid(pattern), GRID.disc(), atol=0.35 * GRID.disc().max()
    )
    assert abs(float(examples.on_grid(pattern).sum()) - 1.0) < 1e-5


def test_the_window_of_the_label_is_the_engines():
    beam = Beam(300e3, 20.0, 17.0, 0.001)
    what = samples.Conditions(beam, samples.REACH * beam.convergence_semi_angle_mrad, 0.2)
    mine = np.abs(examples.real_space(samples.incident(what)))
    first = SAMPLES // 2 - WINDOW // 2
    kept = slice(first, first + WINDOW)
    theirs = np.abs(probe(beam, SAMPLES, field_angstrom(beam))[kept, kept])
    np.testing.assert_allclose(mine / mine.max(), theirs / theirs.max(), atol=0.03)


def test_examples_are_kept_ready(folder, data):
    again = examples.examples(next(folder.glob("*.npz")))
    for name in ("root", "change", "weight", "optics", "overlap"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name))


def test_a_turned_example_is_that_of_a_turned_specimen(data):
    pixels, places, inside = examples.symmetries()
    for turn in range(8):
        assert np.array_equal(np.sort(pixels[turn]), np.arange(K))
        assert np.array_equal(np.sort(places[turn]), np.arange(9))
        assert np.array_equal(np.sort(inside[turn]), np.arange(WINDOW**2))
    # a phase ramp to the right on the window, electrons to the right on the pattern, and the
    # right neighbour stay together whatever the turn
    y, x = np.divmod(np.arange(WINDOW**2), WINDOW)
    towards = np.stack([y, x], axis=1) - WINDOW // 2
    vectors = GRID.vectors
    nine = np.stack(np.divmod(np.arange(9), 3), axis=1) - 1
    for turn in range(8):
        moved = {}
        for name, table, order in (
            ("window", towards, inside[turn]),
            ("pattern", vectors, pixels[turn]),
            ("group", nine, places[turn]),
        ):
            # the same linear map takes old coordinates to new ones in all three
            solved, *_ = np.linalg.lstsq(table.astype(float), table[order], rcond=None)
            moved[name] = np.rint(solved)
            np.testing.assert_allclose(table @ moved[name], table[order], atol=1e-9)
        assert np.array_equal(moved["window"], moved["pattern"])
        assert np.array_equal(moved["window"], moved["group"])


def test_electrons_are_drawn_twice_from_the_same_patterns(data):
    rng = np.random.default_rng(2)
    chosen = np.arange(8)
    few = examples.draw(data, chosen, np.full(8, 50.0), rng, augment=False)[0]
    many = examples.draw(data, chosen, np.full(8, 1e9), rng, augment=False)[0]
    assert np.abs(few[0] - few[1]).mean() > 0.05
    assert np.abs(many[0] - many[1]).mean() < 0.02
    assert many.shape == (2, 8, inputs())


def test_drawn_counts_have_mean_and_variance_of_poisson():
    state, normal = np.array([5], np.uint64), examples.normal_quantiles()
    for mean in (0.0, 0.3, 3.9, 4.1, 17.0, 400.0):
        drawn = np.array([examples._poisson(mean, state, normal) for _ in range(20_000)])
        assert abs(drawn.mean() - mean) < 5 * np.sqrt(mean / 20_000) + 0.02
        assert abs(drawn.var() - mean) <= 0.06 * mean
        third = ((drawn - mean) ** 3).mean()
        assert abs(third - mean) <= 0.2 * mean + 0.2 * mean**1.5


def test_the_error_of_the_mean_of_many_patches_is_what_they_have_in_common():
    rng = np.random.default_rng(5)
    shape = (4000, 2, WINDOW, WINDOW)
    truth = torch.zeros(shape)
    weight = torch.full((4000, WINDOW, WINDOW), 1 / WINDOW**2)
    bias, noise = 0.1, 0.5
    one, other = (
        bias + noise * torch.from_numpy(rng.standard_normal(shape, np.float32)) for _ in "ab"
    )
    for overlap in (0.0, 9.0, 1e9):
        found = train.error(one, other, truth, weight, torch.full((4000,), overlap)).mean()
        expected = 2 * (bias**2 + noise**2 / (1 + overlap / train.ALIKE)) / train.FLOOR
        assert abs(float(found) / expected - 1) < 0.02


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, data):
    whole = run_of()
    steps(whole, data, 5)
    first = run_of()
    steps(first, data, 3)
    first.save(tmp_path / "state.pt")
    second = run_of(seed=9)
    second.restore(tmp_path / "state.pt")
    steps(second, data, 2)
    for name in ("network", "averaged"):
        expected = getattr(whole, name).state_dict()
        for key, values in getattr(second, name).state_dict().items():
            assert torch.equal(values, expected[key]), key


def test_training_makes_the_error_smaller(data):
    run = run_of()
    before = train.validate(run.averaged, data)
    steps(run, data, 60)
    after = train.validate(run.averaged, data)
    assert after["error_1e+09"] < 0.9 * before["error_1e+09"]


def test_the_command_trains_resumes_and_finishes(tmp_path, folder, monkeypatch):
    state, finished = tmp_path / "state.pt", tmp_path / "finished.pt"
    layout = [x for key, value in TINY.as_dict().items() for x in (f"--{key}", str(value))]
    common = ["train", "--folder", str(folder), "--batch", "4", *layout]
    for number in ("2", "3"):
        monkeypatch.setattr("sys.argv", [*common, "--state", str(state), "--steps", number])
        train.main()
    assert train.load_averaged(state)[1] == 3
    final = ["--state", str(finished), "--from", str(state), "--finish", "2"]
    monkeypatch.setattr("sys.argv", [*common, *final])
    train.main()
    assert train.load_averaged(finished)[1] == 5


def test_a_folder_without_shards_is_said(tmp_path):
    with pytest.raises(SystemExit, match="no shards"):
        train.Source(tmp_path, train.Recipe(layout=TINY), 0)


@pytest.mark.parametrize("layout", [TINY, Layout(pattern=8, width=32, inner=16, blocks=0, told=4)])
def test_the_exported_graph_computes_what_the_network_does(layout):
    torch.manual_seed(0)
    network = ExitWaveNetwork(layout)
    for values in network.parameters():
        values.data = (torch.randn_like(values) * 0.1).half().float()
    model = export.as_onnx(network, export.metadata_of(network, 7))
    scale = float(network(torch.randn(4, inputs())).detach().abs().max())
    assert export.largest_difference(model, network) < 1e-4 * max(1.0, scale)


def test_training_goes_on_from_a_shipped_file(tmp_path):
    torch.manual_seed(1)
    network = ExitWaveNetwork(TINY)
    for values in network.parameters():
        values.data = (torch.randn_like(values) * 0.1).half().float()
    export.onnx.save(export.as_onnx(network, export.metadata_of(network, 7)), tmp_path / "a.onnx")
    run = run_of()
    run.restore(tmp_path / "a.onnx")
    assert run.step == 7
    features = torch.randn(4, inputs())
    for got in (run.network, run.averaged):
        assert torch.allclose(got(features), network(features), atol=1e-5)


def test_a_camera_spreads_and_moves_patterns_but_loses_no_electrons(data):
    chosen, dose = np.arange(len(data)), np.full(len(data), 1e8)
    camera = examples.Camera.perfect(len(data))
    camera.taps[:] = [[0.0, 0.8, 0.2], [0.1, 0.8, 0.1]]
    worse = examples.Camera.drawn(400, np.random.default_rng(0))
    np.testing.assert_allclose(worse.taps.sum(axis=2), 1.0)
    assert 0.2 < np.mean(worse.taps[:, :, 1] < 1.0) < 0.8
    assert set(np.unique(worse.gain)) == {0.0, 1.0, 3.0}
    seen = []
    for each in (examples.Camera.perfect(len(data)), camera):
        rng = np.random.default_rng(1)
        seen.append(examples.draw(data, chosen, dose, rng, augment=False, camera=each)[0][0])
    y = GRID.vectors[:, 0]
    nine = [each[:, : 9 * K].reshape(-1, 9, K) for each in seen]
    # a pixel gets a fifth of the one after it: electrons beyond the disc's edge move up
    above, below = (y < -0.9) & (y > -1.4), (y > 0.9) & (y < 1.4)
    change = (nine[1] - nine[0]).mean(axis=(0, 1))
    assert change[above].mean() > 0.1 > 0.0 > change[below].mean()


def test_a_network_of_zeros_says_that_there_is_nothing():
    network = ExitWaveNetwork(TINY)
    for values in network.parameters():
        values.data.zero_()
    assert not network(torch.randn(2, inputs())).detach().any()
