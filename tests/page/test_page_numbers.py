"""The page's arithmetic (spectrum, percentiles, colour tables, profiles), run in the browser
and compared with NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, FLAGS, Served, require_browser

from stemd import image_frames
from stemd.engines.kernels.ricom import integrate, lines_of, ricom_kernel
from stemd.results import Result, Snapshot
from tests.conftest import an_acquisition

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """run(module, expression, argument): an expression in which `m` is the page's module."""
    require_browser()
    from playwright.sync_api import sync_playwright

    served = Served(tmp_path_factory.mktemp("data"))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page()
        tab.goto(f"{served.url}icon.svg")
        tab.goto(served.url)

        def call(module: str, expression: str, argument: Any = None) -> Any:
            source = f"async (a) => {{ const m = await import('/{module}'); return {expression}; }}"
            return tab.evaluate(source, argument)

        yield call
        browser.close()
    served.close()


@pytest.mark.parametrize("shape", [(8, 8), (16, 12), (33, 20)])
def test_the_power_spectrum_is_that_of_numpy(run: Any, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(3).normal(5, 1, shape).astype(np.float32)
    got = run(
        "fft.js",
        "(({n, power}) => ({n, power: [...power]}))"
        "(m.powerSpectrum(new Float32Array(a.data), a.w, a.h))",
        {"data": image.ravel().tolist(), "w": shape[1], "h": shape[0]},
    )
    h, w = shape
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n) for n in (h, w)]
    windowed = (image - image.mean(dtype=np.float64)) * hann[0][:, None] * hann[1]
    n = got["n"]
    assert n == 2 ** int(np.ceil(np.log2(max(shape))))
    expected = np.abs(np.fft.fftshift(np.fft.fft2(windowed, (n, n)))) ** 2
    power = np.array(got["power"]).reshape(n, n)
    np.testing.assert_allclose(power, expected, rtol=1e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize("percent", [0, 0.5, 37.3, 99.5, 100])
def test_percentiles_are_those_of_numpy_and_leave_out_what_is_not_scanned(
    run: Any, percent: float
) -> None:
    values = np.random.default_rng(4).normal(0, 1, 500).astype(np.float32)
    data = np.concatenate([values, np.zeros(300, np.float32)])
    meta = {"axes": "scan", "positions_done": 500, "positions_total": 800, "name": "x"}
    got = run(
        "contrast.js",
        "m.percentile("
        "m.sample({data: new Float32Array(a.data), w: 40, h: 20, meta: a.meta}, false), a.q)",
        {"data": data.tolist(), "meta": meta, "q": percent},
    )
    assert got == pytest.approx(np.percentile(values, percent), rel=1e-5)


PARTS = {
    "axes": "scan",
    "name": "x",
    "units": "",
    "scan_shape": [4, 3],
    "positions_total": 12,
    "final": False,
}


@pytest.mark.parametrize(
    ("meta", "visible"),
    [
        # 7 of 12 positions: two whole lines, one position of the third, nothing below
        ({"positions_done": 7}, [1, 0, 3, 4, 5, 0, 7]),
        # one more was passed but is missing: the beam is in the fourth line
        ({"positions_done": 9, "reached": 10}, [1, 0, 3, 4, 5, 0, 7, 0, 0, 99, 99]),
        # cut off: zeros after the count are blank, values there are kept
        ({"positions_done": 7, "final": True}, [1, 0, 3, 4, 5, 0, 7, 99, 99]),
        ({"positions_done": 12, "final": True}, [1, 0, 3, 4, 5, 0, 7, 0, 0, 0, 99, 99]),
    ],
)
def test_what_is_not_scanned_follows_the_beam_and_not_the_values(
    run: Any, meta: dict[str, Any], visible: list[int]
) -> None:
    # zeros above the beam are counts of none; 99 below it is what a kernel spreads ahead
    data = [1, 0, 3, 4, 5, 0, 7, 0, 0, 0, 99, 99]
    got = run(
        "contrast.js",
        "(() => { const f = {data: new Float32Array(a.data), w: 3, h: 4, meta: a.meta};"
        " const out = new Uint32Array(12).fill(7);"
        " m.colour(f, {lo: -1, hi: 100}, {map: 'gray', log: false}, out);"
        " return {sample: [...m.sample(f, false)], drawn: [...out].map((c) => c > 0)}; })()",
        {"data": data, "meta": PARTS | meta},
    )
    # of a scan that is over with holes, zeros are shown and do not choose the contrast
    holes = meta.get("final") and meta["positions_done"] < PARTS["positions_total"]
    assert got["sample"] == sorted(value for value in visible if value or not holes)
    assert sum(got["drawn"]) == len(visible)


def test_the_half_averaged_line_at_the_beam_of_a_thumbnail_is_left_out(run: Any) -> None:
    # four lines reduced to two; 10 of 12 positions: the second is in part an average with nothing
    meta = PARTS | {"positions_done": 10, "step": 2}
    got = run(
        "contrast.js",
        "[...m.sample({data: new Float32Array([5, 6, 7, 2, 0, 0]), w: 3, h: 2, meta: a}, false)]",
        meta,
    )
    assert got == [5, 6, 7]


@pytest.mark.parametrize(
    ("side", "wanted", "share", "extra", "final", "rows"),
    [
        # lines that are done, by the step of the reduction; a started one is left out
        (512, 128, 0.55, {}, False, 281 // 4),
        (1024, 128, 0.70, {}, False, 716 // 8),
        (1456, 128, 0.91, {}, False, 1324 // 16),
        (1456, 1024, 0.91, {}, False, 1324 // 2),
        (512, 512, 0.55, {}, False, 282),
        # a network that has come to line 200 so far
        (512, 128, 0.55, {"lines": 200}, False, 200 // 4),
        (512, 512, 0.55, {"lines": 200}, False, 200),
        # over, with holes: what there is of it is everywhere
        (512, 128, 0.99, {}, True, 128),
        (512, 128, 0.99, {"lines": 200}, True, 128),
    ],
)
def test_a_reduced_image_shows_as_much_of_the_scan_as_a_whole_one(
    run: Any, side: int, wanted: int, share: float, extra: dict[str, Any], final: bool, rows: int
) -> None:
    shape, total = (side, side), side * side
    result = Result("adf", np.ones(shape, np.float32), "counts", extra=extra)
    acquisition = an_acquisition(shape)
    snapshot = Snapshot(acquisition, [result], int(share * total), total, final, 1, 10**18, 1)
    step = image_frames.reduction(shape, wanted)
    meta = image_frames.image_meta("merlin", snapshot, result, step)
    h, w = meta["shape"]
    drawn = run(
        "contrast.js",
        "(() => { const out = new Uint32Array(a.w * a.h);"
        " const f = {data: new Float32Array(out.length).fill(1), w: a.w, h: a.h, meta: a.meta};"
        " m.colour(f, {lo: 0, hi: 1}, {map: 'gray', log: false}, out);"
        " return out.filter((c) => c > 0).length; })()",
        {"meta": meta, "w": w, "h": h},
    )
    assert drawn == rows * w


def test_zeros_of_a_finished_image_are_values_like_others(run: Any) -> None:
    meta = {"axes": "scan", "positions_done": 4, "positions_total": 4, "name": "x"}
    got = run(
        "contrast.js",
        "[...m.sample({data: new Float32Array([0, 0, 1, 2]), w: 2, h: 2, meta: a}, false)]",
        meta,
    )
    assert got == [0, 0, 1, 2]


def oklab_lightness(rgb: np.ndarray) -> np.ndarray:
    """OKLab L of sRGB 0..255 (n, 3); matrices of Ottosson 2020, by rows."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    cone = (
        linear
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    return np.cbrt(cone) @ np.array([0.2104542553, 0.7936177850, -0.0040720468])


def table(run: Any, name: str) -> np.ndarray:
    words = np.array(run("colormap.js", "[...m.lut(a)]", name), np.int64)
    assert words.shape == (256,)
    assert (words >> 24 == 255).all()
    return np.stack([words & 255, (words >> 8) & 255, (words >> 16) & 255], axis=1)


@pytest.mark.parametrize("name", ["viridis", "inferno", "magma", "cividis"])
def test_sequential_maps_grow_lighter_in_even_steps(run: Any, name: str) -> None:
    light = oklab_lightness(table(run, name))
    even = np.linspace(light[0], light[-1], 256)
    assert np.abs(light - even).max() < 0.03
    assert light[-1] - light[0] > 0.5


def test_gray_is_the_screens_own_gray(run: Any) -> None:
    np.testing.assert_array_equal(table(run, "gray"), np.arange(256)[:, None].repeat(3, axis=1))


@pytest.mark.parametrize(
    ("name", "anchors"),
    [
        ("viridis", {0: "440154", 127: "21918c", 255: "fde725"}),
        ("inferno", {0: "000004", 127: "bc3754", 255: "fcffa4"}),
        ("magma", {0: "000004", 127: "b73779", 255: "fcfdbf"}),
        ("cividis", {0: "00224e", 127: "7d7c78", 255: "fee838"}),
    ],
)
def test_maps_of_a_known_name_have_its_colours(
    run: Any, name: str, anchors: dict[int, str]
) -> None:
    colours = table(run, name)
    for place, text in anchors.items():
        wanted = np.frombuffer(bytes.fromhex(text), np.uint8).astype(int)
        assert np.abs(colours[place] - wanted).max() < 26, (place, colours[place], wanted)


@pytest.mark.parametrize("name", ["ice-ember", "blue-red"])
def test_diverging_maps_are_equally_light_at_equal_distance_from_the_middle(
    run: Any, name: str
) -> None:
    colours = table(run, name)
    light = oklab_lightness(colours)
    assert np.abs(light - light[::-1]).max() < 0.03
    assert np.ptp(colours[127]) < 12
    assert np.abs(colours[0] - colours[255]).max() > 60


def test_the_cyclic_map_closes_and_is_equally_light_all_round(run: Any) -> None:
    colours = table(run, "hue wheel")
    steps = np.abs(np.diff(np.vstack([colours, colours[:1]]), axis=0)).max(axis=1)
    assert steps.max() <= 6
    assert np.ptp(oklab_lightness(colours)) < 0.02


def test_a_profile_across_a_ramp_is_a_straight_line(run: Any) -> None:
    y, x = np.mgrid[0:20, 0:30]
    ramp = (2.0 * x + 3.0 * y).astype(np.float32)
    got = run(
        "profile.js",
        "[...m.sampleLine({data: new Float32Array(a.data), w: 30, h: 20,"
        " meta: {axes: 'scan'}}, a.from, a.to).values]",
        {
            "data": ramp.ravel().tolist(),
            "from": {"x": 5.5 / 30, "y": 4.5 / 20},
            "to": {"x": 25.5 / 30, "y": 14.5 / 20},
        },
    )
    np.testing.assert_allclose(
        got, np.linspace(2 * 5 + 3 * 4, 2 * 25 + 3 * 14, len(got)), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("m.number(0)", "0"),
        ("m.number(1234567)", "1.23e6"),
        ("m.number(-0.000123)", "−1.23e−4"),
        ("m.number(3.14159)", "3.142"),
        ("m.count(1234567)", "1\u202f234\u202f567"),
        ("m.bytes(5 * 1024 ** 3)", "5 GiB"),
        ("m.length(25)", "2.5 nm"),
        ("m.length(0.5)", "50 pm"),
        ("m.duration(200)", "3 min 20 s"),
        ("m.ticks(-1, 1, 4).join()", "-1,-0.5,0,0.5,1"),
        ("m.niceBelow(7)", 5),
        ("m.title('adf_restored')", "ADF restored"),
    ],
)
def test_numbers_are_written_as_people_write_them(run: Any, expression: str, text: Any) -> None:
    assert run("format.js", expression) == text


def test_the_page_reads_frames_as_the_server_writes_them(run: Any) -> None:
    from stemd.image_frames import encode_image

    image = np.array([[1.5, -2.0, 3.25]], np.float32)
    data = encode_image({"shape": [1, 3], "name": "µ"}, image, final=True)
    got = run(
        "link.js",
        "(({meta, w, h, data}) => ({meta, w, h, data: [...data]}))"
        "(m.decode(new Uint8Array(a).buffer))",
        list(data),
    )
    expected = {"meta": {"shape": [1, 3], "name": "µ"}, "w": 3, "h": 1, "data": [1.5, -2, 3.25]}
    assert got == expected


def test_the_page_reads_every_frame_of_a_bundle(run: Any) -> None:
    from stemd.image_frames import encode_image

    images = {"a": np.array([[1.5, -2.0]], np.float32), "µb": np.array([[3.0], [4.0]], np.float32)}
    data = b"".join(
        encode_image({"shape": list(image.shape), "name": name}, image, final=False)
        for name, image in images.items()
    )
    got = run(
        "link.js",
        "[...m.frames(new Uint8Array(a).buffer)].map("
        "({meta, w, h, data}) => [meta.name, h, w, [...data]])",
        list(data),
    )
    assert got == [["a", 1, 2, [1.5, -2]], ["µb", 2, 1, [3, 4]]]


def test_static_files_are_all_reachable_modules(run: Any) -> None:
    static = Path(__file__).parents[2] / "stemd/page/static"
    pure = {"app.js", "fft-worker.js", "stage.js", "lenses.js"}  # these need the whole page
    for path in static.glob("*.js"):
        if path.name not in pure:
            assert run(path.name, "Object.keys(m).length") > 0, path.name


@pytest.mark.parametrize("size", [3, 21, 61])
@pytest.mark.parametrize("band", [None, (4.0, 20.0), (0.0, 50.0)])
def test_the_transfer_curve_is_what_the_kernel_does_to_a_wave(
    run: Any, size: int, band: tuple[float, float] | None
) -> None:
    waves = np.array([2, 7, 12, 25, 40])  # in an image of 256 pixels
    got = run(
        "transfer.js",
        "m.transfer(a.n, a.band, 256, a.k)",
        {"n": size, "band": band, "k": (waves / 256).tolist()},
    )
    kernel = ricom_kernel(size, band, 256)
    x = np.arange(256 + 2 * size) / 256
    inside = slice(size, -size)
    for wave, part in zip(waves, got, strict=True):
        phase = 2 * np.pi * wave * x
        gradient = np.tile(-2 * np.pi * wave / 256 * np.sin(phase), (2 * size + 9, 1))
        row = integrate(*lines_of(np.zeros_like(gradient), gradient), *kernel)[size + 4, inside]
        amplitude = 2 * (row * np.cos(phase[inside])).mean()
        assert part == pytest.approx(amplitude, abs=2e-3)
