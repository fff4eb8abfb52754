"""stemd: live 4D-STEM images from the camera's socket to MQTT, disk and a page."""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """`stemd.api` without an import of its own; commands that do not need it do not wait for it."""
    if name == "api":
        return importlib.import_module("stemd.api")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
