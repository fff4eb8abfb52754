"""The live page: what the beam sees, in any browser, from the daemon itself."""

from stemd.daemon.page.server import Page
from stemd.daemon.page.settings import PageSettings

__all__ = ["Page", "PageSettings"]
