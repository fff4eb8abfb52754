"""The rig of tests/daemon/rig.py as fixtures, also used by tests/faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Mosquitto, require
from tests.daemon.rig import MerlinRig, Rig, make_frames


@pytest.fixture(scope="session")
def rig_frames() -> list[bytes]:
    return make_frames()


@pytest.fixture
def make_rig(
    tmp_path: Path, mosquitto: Mosquitto, rig_frames: list[bytes]
) -> Iterator[Callable[..., Rig]]:
    """Makes a rig, its daemon not yet started."""
    rigs: list[Rig] = []

    def make(**config: Any) -> Rig:
        rig = Rig(tmp_path, mosquitto, MerlinRig(rig_frames), **config)
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture(scope="module")
def module_rig(tmp_path_factory: pytest.TempPathFactory, rig_frames: list[bytes]) -> Iterator[Rig]:
    """One running rig for the tests of a module."""
    require("mosquitto")
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    broker.start()
    made = Rig(tmp_path_factory.mktemp("rig"), broker, MerlinRig(rig_frames))
    made.start()
    yield made
    made.close()
    broker.stop()


@pytest.fixture
def rig(module_rig: Rig) -> Rig:
    """The module's rig as if it were new; what it has on disk stays."""
    module_rig.fresh()
    return module_rig
