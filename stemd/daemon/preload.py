"""Reads at the start all code that a running daemon may need later: an update may replace it.

Libraries of others are left out where they are imported only on use; they are large, and each is
consistent in itself.
"""

from __future__ import annotations

import importlib
import pkgutil

import stemd
from stemd import installation, plugins
from stemd.logs import get_logger
from stemd.storage.folder import versions

NEVER_NEEDED = (
    "stemd.__main__",
    "stemd.api",
    "stemd.cli",
    "stemd.client",
    "stemd.virtual",
    "stemd.offline.cluster",
)
"""Commands, and what only they use."""

log = get_logger(__name__)


def preload() -> None:
    """Import every module of stemd that a daemon can come to need, and every plugin."""
    installation.at_start()
    versions()
    for found in pkgutil.walk_packages(stemd.__path__, "stemd.", onerror=lambda name: None):
        name = found.name
        if name.startswith(NEVER_NEEDED) or name.endswith("__main__"):
            continue
        try:
            importlib.import_module(name)
        except ImportError as error:
            log.debug("a module is missing", module=name, error=str(error))
        except OSError as error:  # no descriptor is left: who needs it later reads it then
            log.warning("a module cannot be read", module=name, error=str(error))
    for kind in plugins.KINDS:
        try:
            plugins.catalogue(kind)
        except OSError as error:
            log.warning("plugins cannot be read", kind=kind, error=str(error))
