"""No two images of one name, no image that nobody makes: in configs, live, and on recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemd import api
from stemd.acquisition import Optics
from stemd.cli.main import main
from stemd.config.file import parse
from stemd.config.image_names import clashes
from stemd.config.live import LiveSettings, RefusedError
from stemd.config.problems import ConfigProblemsError
from stemd.settings import EngineSettings

HEAD = """
[[pipeline]]
name = "merlin"
adapter = { type = "merlin", host = "127.0.0.1", scan = { shape = [4, 5] } }
optics = { pixel_size_mrad = 0.5, energy_ev = 300e3, convergence_semi_angle_mrad = 20.0 }
"""


def table(kind: str, **settings: str) -> str:
    lines = [f"{key} = {value}" for key, value in settings.items()]
    return "\n".join(["[[pipeline.engine]]", f'type = "{kind}"', *lines, ""])


def problems(*engines: str, more: str = "") -> dict[str, tuple[str, str]]:
    """Message and remedy by key, with the line that the key's text stands in."""
    text = HEAD + "".join(engines) + more
    with pytest.raises(ConfigProblemsError) as caught:
        parse(text, "test.toml")
    for problem in caught.value.problems:
        assert problem.line is not None
        keys = [key for key in problem.path if isinstance(key, str)]
        line = text.splitlines()[problem.line - 1]
        assert any(key in line for key in keys), (line, problem)
    return {problem.key: (problem.message, problem.remedy) for problem in caught.value.problems}


def detectors(*names: str, name: str | None = None) -> str:
    inside = ", ".join(f"{each} = [0.0, 9.0]" for each in names)
    more = {"name": f'"{name}"'} if name else {}
    return table("virtual_detector", detectors=f"{{ {inside} }}", **more)


COM, RICOM, SUM = table("com"), table("ricom"), table("sum")


def restoring(image: str, name: str = "restoration") -> str:
    return table("restoration", name=f'"{name}"', input=f'"{image}"')


@pytest.mark.parametrize(
    ("engines", "key", "owners"),
    [
        (
            (detectors("adf"), detectors("adf", name="more")),
            "engine[1].detectors.adf",
            ("'virtual_detector'", "'more'"),
        ),
        ((table("sum", name='"com_y"'), COM), "engine[0].name", ("'com_y'", "'com'")),
        ((COM, table("com", name='"again"')), "engine[1].name", ("'com'", "'again'")),
        (
            (detectors("airpi_phase"), table("airpi")),
            "engine[0].detectors.airpi_phase",
            ("'virtual_detector'", "'airpi'"),
        ),
        (
            (table("ssb"), detectors("ssb_phase")),
            "engine[1].detectors.ssb_phase",
            ("'ssb'", "'virtual_detector'"),
        ),
        (
            (RICOM, restoring("ricom"), detectors("ricom_restored")),
            "engine[2].detectors.ricom_restored",
            ("'restoration'", "'virtual_detector'"),
        ),
        (
            (SUM, restoring("sum"), restoring("sum", "again")),
            "engine[2].input",
            ("'restoration'", "'again'"),
        ),
        ((detectors("raw"),), "engine[0].detectors.raw", ("record", "'virtual_detector'")),
        ((detectors("scan"),), "engine[0].detectors.scan", ("scan.json", "'virtual_detector'")),
        ((detectors("shift_y"),), "engine[0].detectors.shift_y", ("--correct", "detector")),
        (
            (SUM, detectors("sum_corrected")),
            "engine[1].detectors.sum_corrected",
            ("--correct", "'virtual_detector'"),
        ),
        (
            (detectors("bf", "bf_at_12"),),
            "engine[0].detectors.bf_at_12",
            ("save", "'virtual_detector'"),
        ),
        ((table("sum", name='"optics"'),), "engine[0].name", ("'optics'", "settings")),
    ],
)
def test_a_name_of_two_images_is_refused_with_both_owners(
    engines: tuple[str, ...], key: str, owners: tuple[str, str]
) -> None:
    ((found, (message, remedy)),) = problems(*engines).items()
    assert found == f"pipeline[0].{key}"
    assert all(owner in message for owner in owners), message
    assert remedy


def test_names_that_only_look_like_others_are_allowed() -> None:
    parse(HEAD + SUM + detectors("sum_adf", "adf_corrected", "bf_at_12", "phase", "shift"))


@pytest.mark.parametrize(
    ("engines", "words"),
    [
        ((detectors("adf", "bf"), restoring("abf")), ("'abf'", "did you mean 'bf'?", "known: ")),
        (
            (SUM, restoring("sum_restored", "late"), restoring("sum")),
            ("comes after 'late'", "put engine 'restoration' before 'late'"),
        ),
        ((table("ssb"), restoring("ssb_phase")), ("'ssb'", "after", "restore ssb_phase.tif")),
        ((restoring("x_restored"),), ("'x_restored'",)),
    ],
)
def test_an_image_that_no_engine_makes_in_time_is_refused(
    engines: tuple[str, ...], words: tuple[str, ...]
) -> None:
    ((key, texts),) = problems(*engines).items()
    number = next(i for i, text in enumerate(engines) if "input" in text)
    assert key == f"pipeline[0].engine[{number}].input"
    assert all(word in " ".join(texts) for word in words), texts


def test_the_image_of_an_engine_further_down_in_the_file_is_there_in_time() -> None:
    parse(HEAD + restoring("adf") + detectors("adf") + restoring("adf_restored", "twice"))


def test_an_image_that_is_published_must_be_made() -> None:
    more = '[pipeline.publish]\nimages = ["ricom", "fb"]\n'
    found = problems(RICOM, detectors("bf"), more=more)
    assert found == {
        "pipeline[0].publish.images[1]": (
            "no engine makes this image",
            "did you mean 'bf'? known: bf, ricom",
        )
    }


def test_clashes_are_told_beside_other_errors_and_missing_images_only_without() -> None:
    found = problems(SUM, table("ricom", kernel_size="4"), table("pacbed", name='"sum"'))
    assert set(found) == {
        "pipeline[0].engine[1].kernel_size",
        "pipeline[0].engine[2].name",
    }
    found = problems(table("ricom", kernel_size="4"), restoring("ricom"))
    assert set(found) == {"pipeline[0].engine[0].kernel_size"}


def test_the_image_of_a_source_of_images_is_known_by_its_name() -> None:
    head = '[[pipeline]]\nname = "i"\nadapter = { type = "images", image = "photo" }\n'
    publish = '[pipeline.publish]\nimages = ["photo", "photo_restored"]\n'
    config = parse(head + restoring("photo") + publish)
    live = LiveSettings.of(config.pipelines[0])
    assert live.changed({"publish": {"images": ["photo"]}}).publish.images == ("photo",)
    for text, key in (
        (head + restoring("image"), "pipeline[0].engine[0].input"),
        (head.replace("photo", "raw"), "pipeline[0].adapter"),
    ):
        with pytest.raises(ConfigProblemsError) as caught:
            parse(text)
        assert [problem.key for problem in caught.value.problems] == [key]


@pytest.fixture
def live() -> LiveSettings:
    engines = COM + SUM + detectors("adf", "bf") + restoring("adf")
    publish = '[pipeline.publish]\nimages = ["sum", "bf"]\n'
    return LiveSettings.of(parse(HEAD + engines + publish).pipelines[0])


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (
            {"virtual_detector": {"detectors": {"adf": [1, 2], "bf": [0, 1], "com_y": [1, 2]}}},
            "virtual_detector.detectors.com_y",
            ("'com'", "'virtual_detector'"),
        ),
        (
            {"virtual_detector.detectors": {"adf": [0, 9], "bf": [0, 9], "adf_restored": [0, 9]}},
            "restoration.input",
            ("'virtual_detector'", "'restoration'"),
        ),
        ({"virtual_detector.detectors": {"bf": [0, 9]}}, "restoration.input", ("'adf'", "bf")),
        ({"restoration": {"input": "haadf"}}, "restoration.input", ("did you mean 'adf'",)),
        ({"publish": {"images": ["adff"]}}, "publish.images", ("did you mean 'adf'",)),
        ({"virtual_detector.detectors": {"adf": [0, 9]}}, "publish.images", ("'bf'",)),
    ],
)
def test_a_live_change_of_names_is_refused_whole(
    live: LiveSettings, change: dict[str, Any], key: str, words: tuple[str, ...]
) -> None:
    before = live.as_json()
    with pytest.raises(RefusedError) as caught:
        live.changed(change)
    error = caught.value.as_json()
    assert error["key"] == key
    assert error["allowed"]
    assert all(word in error["message"] + error["allowed"] for word in words), error
    assert live.as_json() == before


def test_names_that_depend_on_each_other_are_changed_together(live: LiveSettings) -> None:
    new = live.changed(
        {
            "virtual_detector": {"detectors": {"haadf": [9.0, 20.0]}},
            "restoration.input": "haadf",
            "publish": {"images": ["haadf_restored"]},
        }
    )
    assert new.publish.images == ("haadf_restored",)


def test_images_are_made_anew_only_with_names_that_the_scan_has(live: LiveSettings) -> None:
    reduced = live.engines
    names = {"virtual_detector": {"detectors": {"haadf": [9.0, 20.0]}}, "publish.images": None}
    changed = live.changed({**names, "restoration.input": "haadf"})
    with pytest.raises(RefusedError) as caught:
        changed.for_maps_of(reduced)
    assert caught.value.as_json()["key"] == "restoration.input"
    assert "adf" in caught.value.as_json()["allowed"]
    kept = live.changed({**names, "restoration.input": "sum"}).for_maps_of(reduced)
    assert kept.engines["virtual_detector"] == reduced.engines["virtual_detector"]


def test_a_scan_of_other_names_is_taken_up_with_its_own(live: LiveSettings) -> None:
    engines = COM + SUM + detectors("haadf") + restoring("haadf")
    publish = '[pipeline.publish]\nimages = ["haadf"]\n'
    today = parse(HEAD + engines + publish).pipelines[0]
    old = LiveSettings.of_scan(today, live.as_json(), without=("publish", "record"))
    assert old.engines.engines == live.engines.engines
    assert old.publish.images is None
    assert old.changed({"optics.rotation_deg": 3.0}).engines.optics.rotation_deg == 3.0


def test_what_was_wrong_before_a_change_does_not_refuse_it() -> None:
    today = parse(HEAD + SUM + detectors("haadf") + restoring("haadf")).pipelines[0]
    old = {"virtual_detector": {"detectors": {"adf": [9.0, 20.0]}}}  # no restoration in those days
    live = LiveSettings.of_scan(today, old)
    assert live.changed({"optics.rotation_deg": 3.0}).engines.optics.rotation_deg == 3.0
    with pytest.raises(RefusedError, match="'bf'"):
        live.changed({"restoration.input": "bf"})


@pytest.mark.parametrize(
    ("engines", "words"),
    [
        (("sum:name=com_y", "com"), ("com_y.name", "'com_y'", "'com'")),
        (("ricom", "virtual_detector:detectors_px={ricom=[0,4]}"), ("detectors_px.ricom",)),
        (("sum", "restoration:input=adf"), ("restoration.input", "'adf'", "known: sum")),
        (("sum:name=optics",), ("'optics'",)),
    ],
)
def test_process_refuses_them_before_it_reads_anything(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    engines: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, np.ones((2, 3, 8, 8), np.uint16))
    options = [option for text in engines for option in ("--engine", text)]
    assert main(["process", str(path), "--out", str(tmp_path / "out"), *options]) == 2
    text = capsys.readouterr().err
    assert all(word in text for word in ("--engine", *words)), text
    assert not (tmp_path / "out").exists()


def test_a_sweep_is_refused_where_one_of_its_points_has_no_such_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, np.ones((2, 3, 8, 8), np.uint16))
    options = ["--cluster", "local:1", "--sweep", "restoration.input=sum,smu"]
    engines = ["--engine", "sum", "--engine", "restoration:input=sum"]
    assert main(["process", str(path), "--out", str(tmp_path / "out"), *engines, *options]) == 2
    assert "did you mean 'sum'" in capsys.readouterr().err


class _Foreign(EngineSettings):
    """An engine that names things as it likes."""

    images: tuple[str, ...] = ("mine",)
    sums: tuple[str, ...] = ()

    def outputs(self, engine: str) -> tuple[str, ...]:
        """As told."""
        return self.images

    def masks(self, optics: Optics) -> dict[str, tuple[float, float]]:
        """As told."""
        return dict.fromkeys(self.sums, (0.0, 3.0))


def test_engines_of_others_are_held_to_names_too() -> None:
    bad = clashes({"theirs": _Foreign(images=("Über/../x",))}, Optics())
    assert [(problem.path, "not a name" in problem.message) for problem in bad] == [
        (("theirs",), True)
    ]
    twice = clashes({"theirs": _Foreign(images=("one", "one"))}, Optics())
    assert len(twice) == 1


def test_sums_of_one_name_for_two_engines_are_refused_with_both() -> None:
    engines = {
        "first": _Foreign(images=("a",), sums=("disc",)),
        "second": _Foreign(images=("b",), sums=("disc", "ring")),
    }
    (problem,) = clashes(engines, Optics())
    assert problem.path == ("second",)
    assert all(word in problem.message for word in ("'first'", "'second'", "'disc'"))
    own = {"theirs": _Foreign(sums=("bf",)), "vd": _Foreign(images=("bf",), sums=("bf",))}
    assert len(clashes(own, Optics())) == 1


def test_the_api_refuses_them_like_the_command_line() -> None:
    data = np.ones((2, 3, 8, 8), np.uint16)
    with pytest.raises(ConfigProblemsError, match="com_y"):
        api.process(data, [{"type": "sum", "name": "com_y"}, "com"])
