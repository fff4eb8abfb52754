"""The configs to begin with, one for each kind of camera: those of the folder `config`."""

from __future__ import annotations

from pathlib import Path

from stemd.errors import UsageError

_PACKAGED = Path(__file__).parents[1] / "config" / "examples"
_IN_THE_SOURCE = Path(__file__).parents[2] / "config"


def names() -> list[str]:
    """Of all of them."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def text_of(name: str) -> str:
    """The config of this name, with its comments. Raises UsageError where there is none."""
    if name not in names():
        raise UsageError(f"there is no example {name!r}", f"one of: {', '.join(names())}")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def _folder() -> Path:
    return _PACKAGED if _PACKAGED.is_dir() else _IN_THE_SOURCE
