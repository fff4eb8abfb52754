"""The networks that are installed: those shipped with stemd, and those a user has imported."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from stemd.errors import ModelError

SUFFIX = ".onnx"


@dataclass(frozen=True, slots=True)
class Installed:
    """A network by its name; `shipped` if it is part of stemd."""

    name: str
    path: Path
    shipped: bool


def user_folder() -> Path:
    """Where imported networks are kept.

    `$STEMD_MODELS`, else `models` in systemd's state directory, else in the user's data folder.
    """
    if chosen := os.environ.get("STEMD_MODELS"):
        return Path(chosen)
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0]) / "models"
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "stemd" / "models"


def shipped_folder() -> Path:
    """The networks that came with stemd."""
    return Path(str(resources.files("stemd.models")))


def installed() -> list[Installed]:
    """Every network by name; an imported one hides a shipped one of the same name."""
    found: dict[str, Installed] = {}
    for folder, shipped in ((shipped_folder(), True), (user_folder(), False)):
        if folder.is_dir():
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                found[path.stem] = Installed(path.stem, path, shipped)
    return sorted(found.values(), key=lambda each: each.name)


def find(name: str) -> Path:
    """The file of a network: by its name, or by a path that ends in .onnx.

    Raises ModelError with the nearest known name.
    """
    if name.endswith(SUFFIX) or "/" in name:
        path = Path(name).expanduser()
        if not os.path.isfile(path):  # noqa: PTH113 (Path's raises for a name that is too long)
            raise ModelError(f"model {name}: there is no such file", "check the path")
        return path
    known = {each.name: each.path for each in installed()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}? " if near else ""
    remedy += f"installed: {', '.join(known) or 'none'}; folder: {user_folder()}"
    if name.startswith("r-em-"):
        remedy = f"import it from the package tk_r_em: stemd models import r-em FILE; {remedy}"
    raise ModelError(f"model {name} is not installed", remedy)
