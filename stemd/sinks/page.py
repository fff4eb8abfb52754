"""The sink of `[page]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemd.config.page import PageSettings
from stemd.plugins import Plugin

if TYPE_CHECKING:
    from stemd.events import Host, Sink


def _build(settings: PageSettings, host: Host) -> Sink:
    from stemd.page.metrics import metrics_text
    from stemd.page.server import Page

    return Page(
        settings,
        host.hub,
        host.instrument,
        host.data_dir,
        host.healthy,
        metrics_text(lambda: host.healthy()[1]),
        host.config_of,
    )


PLUGIN = Plugin(
    name="page",
    summary="the live page, /healthz and /metrics",
    settings=PageSettings,
    build=_build,
)
