"""The camera of somebody else, installed for real: a distribution with an entry point."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemd import entry_points
from tests.adapters import quicksilver


def _forget() -> None:
    """Entry points are looked for once in a process."""
    entry_points.entries.cache_clear()


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and what an installer writes beside it."""
    folder = tmp_path_factory.mktemp("site")
    code = Path(quicksilver.__file__).read_text()
    (folder / "quicksilver_camera.py").write_text(code)
    info = folder / "quicksilver_camera-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: quicksilver-camera\nVersion: 1.0\n"
    )
    entry = f"{quicksilver.NAME} = quicksilver_camera:PLUGIN"
    (info / "entry_points.txt").write_text(f"[stemd.adapters]\n{entry}\n")
    return folder


@pytest.fixture
def foreign(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package can be imported here and in processes that are started."""
    monkeypatch.syspath_prepend(str(package))
    paths = [str(package), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    _forget()
    yield
    sys.modules.pop("quicksilver_camera", None)
    _forget()
