"""The config file: what is right is resolved, what is wrong is named with its line and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import tomli

from stemd.adapters.recordings.scan_times import of_stemd
from stemd.cli.main import main
from stemd.cli.schema import config_schema
from stemd.config.file import load, parse
from stemd.config.live import LiveSettings, RefusedError
from stemd.config.pairs import parse_value
from stemd.config.problems import ConfigProblemsError
from stemd.config.toml_lines import key_lines
from stemd.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("*.toml"))

GOOD = """
[daemon]
instrument = "titan-x"

[[pipeline]]
name = "merlin"

[pipeline.adapter]
type = "merlin"
host = "127.0.0.1"
scan = { shape = [4, 5], flyback = 1 }

[pipeline.optics]
pixel_size_mrad = 0.5

[[pipeline.engine]]
type = "ricom"
kernel_size = 21

[[pipeline.engine]]
type = "virtual_detector"
detectors = { bf = [0.0, 20.0] }
"""


def problems(text: str) -> dict[str, tuple[int | None, str, str]]:
    with pytest.raises(ConfigProblemsError) as caught:
        parse(text, "test.toml")
    return {p.key: (p.line, p.message, p.remedy) for p in caught.value.problems}


@pytest.mark.parametrize(
    ("table", "key"),
    [("daemon", "data_dir"), ("pipeline.optics", "mask"), ("pipeline.adapter", "mask_file")],
)
def test_a_text_with_the_character_of_number_0_is_named_before_a_file_is_looked_for(
    table: str, key: str
) -> None:
    text = GOOD.replace(f"[{table}]\n", f'[{table}]\n{key} = "a\\u0000b"\n')
    ((found, (line, message, remedy)),) = problems(text).items()
    assert found == f"{table}.{key}".replace("pipeline", "pipeline[0]")
    assert text.splitlines()[(line or 0) - 1].startswith(key)
    assert (message, remedy) == ("holds the character \\u0000", "remove it")
    live = LiveSettings.of(parse(GOOD).pipelines[0])
    with pytest.raises(RefusedError, match=r"optics\.mask: holds the character"):
        live.changed({"optics": {"mask": "a\0b"}})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_is_valid_and_fits_the_schema(path: Path) -> None:
    load(path)
    jsonschema.validate(tomli.loads(path.read_text()), config_schema())


def test_a_good_config_is_resolved_with_defaults() -> None:
    config = parse(GOOD)
    pipeline = config.pipelines[0]
    assert config.daemon.instrument == "titan-x"
    assert [engine.name for engine in pipeline.engines] == ["ricom", "virtual_detector"]
    assert pipeline.adapter.scan is not None
    assert pipeline.adapter.scan.shape == (4, 5)
    assert pipeline.publish.rate_hz == 10.0


def test_all_errors_are_listed_at_once_with_line_and_remedy() -> None:
    text = (
        GOOD.replace("kernel_size = 21", "kernal_size = 20")
        .replace("pixel_size_mrad = 0.5", "pixel_size_mrad = -1")
        .replace('instrument = "titan-x"', 'instrument = "Titan X"\npassword = "secret"')
    )
    found = problems(text)
    assert found["daemon.instrument"][0] == 3
    assert "password_file" in found["daemon.password"][2]
    line, message, remedy = found["pipeline[0].engine[0].kernal_size"]
    assert (line, message) == (19, "unknown key")
    assert "did you mean 'kernel_size'" in remedy
    assert found["pipeline[0].optics.pixel_size_mrad"][0] == 15


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('host = "127.0.0.1"', 'host = ""', "pipeline[0].adapter.host", "a name or an IP"),
        ('host = "127.0.0.1"', 'host = "my camera"', "pipeline[0].adapter.host", "a name or"),
        ('host = "127.0.0.1"', 'host = "cam:6342"', "pipeline[0].adapter.host", "without a port"),
        ("[daemon]", '[daemon]\ndata_dir = "~/x"', "daemon.data_dir", "'~' is not replaced"),
        ("[daemon]", '[daemon]\ndata_dir = ""', "daemon.data_dir", "must name a folder"),
        (
            "pixel_size_mrad = 0.5",
            'pixel_size_mrad = 0.5\ncenter = "middle"',
            "pipeline[0].optics.center",
            "'auto', or input should be a valid array",
        ),
    ],
)
def test_what_can_be_no_host_folder_or_centre_is_refused(
    old: str, new: str, key: str, words: str
) -> None:
    found = problems(GOOD.replace(old, new))
    assert list(found) == [key]
    assert words in found[key][1]


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "cam-1.lab.example", "camera_2"])
def test_names_and_addresses_of_cameras_are_taken(host: str) -> None:
    parse(GOOD.replace("127.0.0.1", host))


def test_a_config_in_another_encoding_is_a_config_to_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cam.toml"
    path.write_bytes(GOOD.replace("titan", "µ").encode("latin-1"))
    assert main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert "is no UTF-8" in said
    assert "save it as UTF-8" in said


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "{a=" * 5000, "a." * 5000 + "a=1"])
@pytest.mark.parametrize("words", [["check"], ["run"], ["scans", "list", "--config"]])
def test_a_config_that_is_nested_too_deep_is_named(
    words: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cam.toml"
    path.write_text(text)
    assert main([*words, str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{path}: is not TOML: it is nested too deep" in said
    assert "remedy: write the values plainly" in said


def test_brackets_in_brackets_on_a_command_line_are_a_word() -> None:
    assert parse_value("[" * 5000) == "[" * 5000


def test_times_of_a_scan_that_are_nested_too_deep_are_not_known() -> None:
    assert of_stemd("[" * 200_000, (4, 5)) is None


def test_an_unknown_adapter_names_the_nearest_one() -> None:
    found = problems(GOOD.replace('type = "merlin"', 'type = "merlinn"'))
    assert "did you mean 'merlin'" in found["pipeline[0].adapter.type"][2]


def test_an_even_kernel_is_refused_with_an_odd_one() -> None:
    found = problems(GOOD.replace("kernel_size = 21", "kernel_size = 20"))
    assert "21" in found["pipeline[0].engine[0].kernel_size"][1]


def test_detectors_in_mrad_need_the_pixel_size() -> None:
    found = problems(GOOD.replace("pixel_size_mrad = 0.5", ""))
    assert "detectors_px" in found["pipeline[0].engine[1].detectors"][2]


def test_two_engines_or_pipelines_of_one_name_are_refused() -> None:
    found = problems(GOOD + '\n[[pipeline.engine]]\ntype = "ricom"\n')
    assert "pipeline[0].engine[2].name" in found
    twice = GOOD + '\n[[pipeline]]\nname = "merlin"\nadapter = { type = "merlin", host = "h" }\n'
    assert "pipeline[1].name" in problems(twice)


def test_a_file_without_pipeline_says_so() -> None:
    assert "pipeline" in problems("[daemon]\n")


def test_text_that_is_not_toml_names_the_place() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        parse("[daemon]\ninstrument = \n")


def test_lines_are_found_in_nested_array_tables() -> None:
    lines = key_lines(GOOD)
    assert lines["pipeline", 0, "engine", 1, "type"] == 21
    assert lines["pipeline", 0, "adapter", "host"] == 10


def test_check_prints_problems_and_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(GOOD.replace("kernel_size = 21", "kernel_size = 20"))
    assert main(["check", str(path)]) == 2
    assert f"{path}:18:" in capsys.readouterr().err
    assert main(["check", "--json", str(path)]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["problems"][0]["line"] == 18


def test_check_prints_the_resolved_pipelines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    assert main(["check", "--json", str(path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["pipelines"][0]["engines"][0]["kernel_size"] == 21
    assert main(["check", str(path)]) == 0
    assert "kernel_size = 21" in capsys.readouterr().out


def test_a_config_that_is_not_there_is_one_readable_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tmp_path / "none.toml")]) == 2
    assert "there is no such file" in capsys.readouterr().err
