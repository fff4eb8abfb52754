"""Packages of somebody else, as pip leaves them: modules and a dist-info on the path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PLUGINS = '''
import json
import numpy as np
from pydantic import BaseModel, ConfigDict
from stemd.adapters.files import FilesAdapter, FilesSettings
from stemd.engines.sum import PLUGIN as SUM
from stemd.errors import StemdError
from stemd.events import Sink
from stemd.plugins import NoSettings, Plugin
from stemd.storage.files import hash_file
from stemd.storage.writers import Written


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str


class Lines(Sink):
    """Writes what it is told as lines of JSON."""

    def __init__(self, settings, host):
        self._file = open(settings.path, "a", buffering=1)
        self._host = host

    def _line(self, what, **more):
        self._file.write(json.dumps({"what": what, **more}) + "\\n")

    async def start(self):
        self._line("start", instrument=self._host.instrument)

    async def run(self):
        self._line("run")

    async def stop(self):
        self._line("stop")
        self._file.close()

    def on_daemon_state(self, state):
        self._line("daemon", sinks=state["sinks"])

    def on_health(self, health):
        self._line("health", sinks=health["sinks"])

    def on_state(self, pipeline, state):
        self._line("state", pipeline=pipeline, state=state["state"])

    def on_settings(self, pipeline, settings):
        self._line("settings", pipeline=pipeline, revision=settings["revision"])

    def on_snapshot(self, pipeline, snapshot):
        names = [result.name for result in snapshot.results]
        self._line("images", pipeline=pipeline, names=names, final=snapshot.final)

    def on_document(self, pipeline, document):
        self._line(document["event"], pipeline=pipeline, id=document["id"])


class Clumsy(Sink):
    """Does everything wrong that a sink can."""

    def __init__(self, settings, host):
        pass

    async def run(self):
        raise ValueError("no work")

    async def stop(self):
        raise ValueError("no end")

    def on_state(self, pipeline, state):
        raise ValueError("no state")

    def on_document(self, pipeline, document):
        raise StemdError("no document", "give up")


def no_start(settings, host):
    raise StemdError("the database is away", "bring it back")


class Npz:
    def __init__(self, settings):
        pass

    def write(self, folder, snapshot, settings):
        path = folder / "images.npz"
        np.savez(path, **{result.name: result.image for result in snapshot.results})
        return Written([hash_file(path)])


class Torn:
    def __init__(self, settings):
        pass

    def write(self, folder, snapshot, settings):
        raise RuntimeError("no ink")


def _plugin(name, settings, build, **more):
    summary = f"{name} of somebody else"
    return Plugin(name=name, summary=summary, settings=settings, build=build, **more)


def _hopeless():
    raise OSError("no driver")


ADAPTER = _plugin("my-files", FilesSettings, FilesAdapter)
ENGINE = _plugin("my_sum", SUM.settings, SUM.build)
LINES = _plugin("lines", Settings, Lines)
CLUMSY = _plugin("clumsy", NoSettings, Clumsy)
AWAY = _plugin("away", NoSettings, no_start)
RUSTY = _plugin("rusty", NoSettings, Clumsy, unavailable=lambda: "librust is not installed")
HOPELESS = _plugin("hopeless", NoSettings, Clumsy, unavailable=_hopeless)
NPZ = _plugin("npz", NoSettings, Npz, takes="images")
TORN = _plugin("torn", NoSettings, Torn, takes="images")
BACKEND = _plugin("abacus", NoSettings, None, unavailable=lambda: "beads are missing")
MQTT = _plugin("mqtt", NoSettings, Clumsy)
ALIAS = LINES
'''

GOOD = {
    "adapters": {"my-files": "ADAPTER"},
    "engines": {"my_sum": "ENGINE"},
    "sinks": {
        **{"lines": "LINES", "clumsy": "CLUMSY", "away": "AWAY", "rusty": "RUSTY"},
        **{"npz": "NPZ", "torn": "TORN", "hopeless": "HOPELESS"},
    },
    "backends": {"abacus": "BACKEND"},
}
BROKEN = {
    "adapters": {"lost": "not_a_module_at_all"},
    "engines": {"torn_file": "broken_syntax:PLUGIN", "leaver": "broken_exit:PLUGIN"},
    "sinks": {
        "thing": "somebody_elses_plugins:Settings",
        "mqtt": "somebody_elses_plugins:MQTT",
        "other": "somebody_elses_plugins:ALIAS",
    },
    "backends": {"wrong": "broken_import:PLUGIN"},
}
MODULES = {
    "broken_syntax": "def (:\n",
    "broken_exit": "raise SystemExit('goodbye')\n",
    "broken_import": "import numpyy\n",
    "somebody_elses_plugins": PLUGINS,
}


def install(folder: Path) -> dict[str, str]:
    """Two packages, `good-plugins` and `bad-plugins`; the environment in which they are there."""
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    good = {
        kind: {name: f"somebody_elses_plugins:{each}" for name, each in found.items()}
        for kind, found in GOOD.items()
    }
    _dist_info(folder, "good_plugins", good)
    _dist_info(folder, "bad_plugins", BROKEN)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def _dist_info(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    shown = name.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {shown}\nVersion: 1.0\n")
    lines = []
    for kind, found in groups.items():
        lines += [f"[stemd.{kind}]", *(f"{each} = {place}" for each, place in found.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
