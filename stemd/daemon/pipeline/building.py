"""An adapter that hangs, as its driver does, while it is built or later: told, until it is well."""

from __future__ import annotations

import asyncio

from stemd.daemon.pipeline.adapter_in_use import AdapterInUse
from stemd.daemon.pipeline.status import Status
from stemd.daemon.pipeline.troubles import Troubles

BUILD_S = 60.0
"""An adapter that has not been built after so long is not waited for: as long as an engine that
does not get ready."""
LOOK_S = 0.5
KIND, OF, CALLS = "adapter", "build", "calls"


async def watch_building(
    adapter: AdapterInUse, kind: str, status: Status, troubles: Troubles
) -> None:
    """Tell of an adapter of this kind that does not get built, or hangs, until it is well.

    The daemon gets ready without its pipeline, which begins should the adapter come after all.
    """
    while True:
        await asyncio.sleep(LOOK_S)
        late = adapter.building_s > BUILD_S
        if late and troubles.message(KIND, OF) is None:
            troubles.tell(
                "error",
                f"the adapter {kind} of {adapter.pipeline} was not ready within {BUILD_S:g} s: "
                "the pipeline is left out",
                "its driver or device may hang: see its own documentation, then restart stemd; "
                "if the adapter gets ready later, the pipeline begins",
                KIND,
                of=OF,
                fault=True,
            )
            status.ready.set()
            status.update()
        elif not late and troubles.over(KIND, of=OF):
            status.update()
        _tell_calls(adapter, status, troubles)


def _tell_calls(adapter: AdapterInUse, status: Status, troubles: Troubles) -> None:
    """Tell of calls from which the adapter does not return."""
    if late := adapter.asking.late:
        text, remedy = adapter.asking.hangs(late)
        if troubles.message(KIND, CALLS) != text:
            troubles.tell("error", text, remedy, KIND, of=CALLS)
            status.update()
    elif troubles.over(KIND, of=CALLS):
        status.update()
