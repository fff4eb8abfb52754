"""Mistakes of a plugin's author: told with the plugin's name, what is wrong and the remedy."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import numpy as np
import pytest
import structlog.testing
from pydantic import BaseModel, Field, ValidationError

from stemd import plugins
from stemd.acquisition import Optics
from stemd.adapters.frames.binary import BinaryFormat, BinarySettings, frame_camera
from stemd.adapters.frames.format import plain_layout
from stemd.config.resolved import EngineConfig
from stemd.errors import ConfigError, FormatError, StemdError
from stemd.events import Hub, Sink
from stemd.plugins import Plugin
from stemd.results import Result, checked_results
from stemd.scan.run import ScanRun
from stemd.settings import EngineSettings, Settings
from tests.adapters.quicksilver import CAMERA, QuicksilverSettings
from tests.engines.scenes import acquisition_of, blocks_of, engine, settings_of

IMAGE = np.ones((4, 4), np.float32)


@pytest.mark.parametrize(
    "made",
    [
        None,
        Result("wrong", IMAGE, "counts"),
        [IMAGE],
        [Result("wrong", IMAGE.ravel(), "counts")],
        [Result("wrong", IMAGE.astype(np.complex64), "counts")],
        [Result("wrong", IMAGE, "counts", "scna")],  # type: ignore[arg-type]
        [Result("sum", IMAGE, "counts")],
    ],
)
def test_an_engine_whose_images_are_none_is_left_out_and_the_others_go_on(made: Any) -> None:
    patterns = np.ones((16, 8, 8), np.uint16)
    acquisition = acquisition_of(patterns, (4, 4))
    usual = engine("sum")
    plugin = Plugin("wrong", "", EngineSettings, lambda settings: Engine(made))
    engines = [usual, EngineConfig(plugin, EngineSettings())]
    run = ScanRun(acquisition, settings_of(engines, Optics()), engines)
    for block in blocks_of(acquisition, patterns, (16,)):
        run.reduce(block)
    run.end("complete")
    final = run.serve(lambda snapshot: None, lambda: 100.0)
    assert [result.name for result in final.results] == ["sum"]
    assert "snapshot of 'wrong'" in run.failed["wrong"]


class Engine:
    """Gives what it is told to."""

    name = "wrong"

    def __init__(self, made: Any) -> None:
        self._made = made

    def start(self, *scan: Any) -> None:
        """Nothing."""

    update = consume = start

    def snapshot(self, *, final: bool) -> Any:
        """As told."""
        return self._made


def test_images_of_other_numbers_become_float32() -> None:
    image: Any = IMAGE.astype(np.int64)
    (result,) = checked_results("wrong", [Result("wrong", image, "counts")])
    assert result.image.dtype == np.float32


class NoEngineSettings(BaseModel):
    """Not derived from EngineSettings."""


class UnknownNeed(EngineSettings):
    """Needs what there is not."""

    needs: ClassVar[Any] = "pattern"


class Raising(EngineSettings):
    """Cannot say its images."""

    def outputs(self, engine: str) -> tuple[str, ...]:
        raise ValueError("boom")


class OneName(EngineSettings):
    """A name instead of a tuple of names."""

    def outputs(self, engine: str) -> Any:
        return "abc"


class BadDefault(EngineSettings):
    """A default that the field does not allow."""

    size: int = Field(default=-1, gt=0)


@pytest.mark.parametrize("settings", [NoEngineSettings, UnknownNeed, Raising, OneName, BadDefault])
def test_an_engine_that_declares_nonsense_is_told_by_its_name(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = Plugin("wrong", "", settings, Engine)
    monkeypatch.setattr(plugins, "load", lambda kind, name: plugin)
    with pytest.raises(ConfigError, match="wrong"):
        EngineConfig.of("wrong", {})


@pytest.mark.parametrize("masks", [[(0.0, 2.0)], {"m": 2.0}, {"m": (9.0, 2.0)}, None])
def test_masks_that_are_no_rings_are_told_by_the_engines_name(masks: Any) -> None:
    class Masks(EngineSettings):
        def masks(self, optics: Optics) -> Any:
            return masks

    with pytest.raises(ConfigError, match="wrong"):
        Settings(engines={"wrong": Masks()}).masks()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("header", [("number", "<u4")]),
        ("magic", "QSF1"),
        ("magic", b""),
        ("number", "nummer"),
        ("number", "magic"),
        ("varies", "time_ns"),
        ("varies", ("time",)),
        ("suffix", "qsf"),
        ("suffix", (".qsf",)),
    ],
)
def test_a_camera_that_cannot_be_read_says_which_field_is_wrong(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"camera quicksilver: {key}"):
        replace(CAMERA, **{key: value})


def boom(*what: Any) -> Any:
    """Raises what nobody expects."""
    raise KeyError(12)


@pytest.mark.parametrize(
    "layout",
    [
        boom,
        lambda header: None,
        lambda header: (8, 8),
        lambda header: plain_layout(8, (8, 8), "u2", depth=16, big_endian=False),
        lambda header: replace(
            plain_layout(32, (8, 8), "u2", depth=16, big_endian=False), packed=True
        ),
    ],
)
def test_whatever_a_layout_does_wrong_is_an_error_of_the_format(layout: Any) -> None:
    message = CAMERA.encode(np.zeros((8, 8), np.uint16), 0)
    with pytest.raises(FormatError, match="camera quicksilver"):
        BinaryFormat(replace(CAMERA, layout=layout)).file_frame(message)


def test_a_layout_may_be_given_the_fields_of_a_header_as_they_are() -> None:
    side = np.uint16(300)
    made: Any = (side, side)
    layout = plain_layout(32, made, "u2", depth=16, big_endian=False)
    assert layout.pixel_bytes == 300 * 300 * 2


@pytest.mark.parametrize(
    "encode",
    [
        lambda pattern, index: "text",
        lambda pattern, index: CAMERA.encode(pattern, index)[:-3],
        lambda pattern, index: CAMERA.encode(pattern, index + 1),
        lambda pattern, index: CAMERA.encode(pattern[1:], index),
        lambda pattern, index: b"FSQ1" + CAMERA.encode(pattern, index)[4:],
    ],
)
def test_an_encoder_whose_messages_are_not_understood_is_told_at_its_first(encode: Any) -> None:
    plugin = frame_camera(replace(CAMERA, encode=encode), QuicksilverSettings, "")
    assert plugin.encode is not None
    with pytest.raises(ConfigError, match="encode of the camera quicksilver"):
        plugin.encode(np.zeros((8, 8), np.uint16), 0)


def test_a_camera_whose_settings_are_no_cameras_is_refused() -> None:
    wrong: Any = NoEngineSettings
    with pytest.raises(ConfigError, match="BinarySettings"):
        frame_camera(CAMERA, wrong, "")


def test_a_port_that_is_none_is_told_though_it_is_the_default() -> None:
    class BadPort(BinarySettings):
        port: int = Field(default=99999, le=65535)

    with pytest.raises(ValidationError, match="65535"):
        BadPort()


@pytest.mark.parametrize("change", [{"settings": dict}, {"suffixes": ((".a",),)}])
def test_a_plugin_that_would_harm_others_is_broken(
    change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = replace(frame_camera(CAMERA, QuicksilverSettings, ""), **change)
    entry = EntryPoint("quicksilver", "here:PLUGIN", "stemd.adapters")
    monkeypatch.setattr(EntryPoint, "load", lambda entry: plugin)
    monkeypatch.setattr(plugins, "_foreign", lambda kind: (entry,))
    plugins._read.cache_clear()
    try:
        (broken,) = plugins.broken("adapters")
    finally:
        plugins._read.cache_clear()
    assert "here:PLUGIN: " in broken.why


def test_a_sink_whose_method_is_async_is_told_that_it_does_nothing() -> None:
    class Waiting(Sink):
        async def on_state(self, *what: Any) -> None:  # type: ignore[override]
            """Never comes here."""

    hub = Hub()
    hub.add(Waiting(), "waiting")
    hub.state("cam", {"state": "waiting"})
    assert "on_state is 'async def'" in hub.sinks()["waiting"]["error"]["message"]


def test_what_a_sink_says_with_a_remedy_is_told_without_a_traceback() -> None:
    class Full(Sink):
        error: Exception = StemdError("full", "empty it")

        def on_state(self, *what: Any) -> None:
            raise self.error

    hub, sink = Hub(), Full()
    hub.add(sink, "full")
    with structlog.testing.capture_logs() as said:
        hub.state("cam", {})
        sink.error = ValueError("boom")
        hub.state("cam", {})
    assert [line["exc_info"] for line in said] == [None, sink.error]
