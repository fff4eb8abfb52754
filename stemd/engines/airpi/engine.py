"""AIRPI: a live phase image from a network, one probe position and its neighbours at a time.

T. Friedrich et al., Microsc. Microanal. 29 (2023) 395, doi 10.1093/micmic/ozac002; thesis
chapter 4. The method is the subject of patent application EP4075126A1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stemd.engines.airpi.model import find_model
from stemd.engines.airpi.object import ExitWaveObject
from stemd.engines.airpi.scan import AirpiScan
from stemd.engines.airpi.setup import AirpiSettings, described
from stemd.engines.airpi.showing import shown
from stemd.engines.airpi.slopes import slopes_of
from stemd.engines.base import Gathered
from stemd.engines.first_patterns import Found
from stemd.errors import ModelError, StemdError
from stemd.plugins import Plugin
from stemd.results import Result
from stemd.settings import Settings


class AirpiEngine(AirpiScan):
    """`airpi_phase` and `airpi_weight`. Implements base.SlowEngine and base.FindingEngine."""

    # engines.base.Engine

    def snapshot(self, *, final: bool) -> Sequence[Result]:
        """Phase and weight, float32, of the object's own size. Raises what has gone wrong."""
        if self._beside is not None:
            self._beside.check()
        elif final:
            self._complete(self._make_ready)
            if self._object is not None:
                self._network.load()  # parts may all have been made elsewhere: what ran is told
        thing = self._object
        if thing is None or not (final or thing.lines.made.any()):
            return []  # rather than an empty picture
        of, slopes = thing.geometry, None
        if self._own.use_centre_of_mass:
            slopes = slopes_of(
                self._maps, self._settings.optics, self._acquisition.detector.shape,
                of.beam, of.pixels_per_angle, of.step_size_angstrom,
            )  # fmt: skip
        # a part of a scan that was summed elsewhere has no maps here
        seen = bool(self._maps.total.any() or not self._maps.done.any())
        results = shown(
            thing, self._own.outputs(self.name), self._own.least_transfer, slopes,
            self._evidence() if final and seen else (), self._about(thing), self._warnings,
        )  # fmt: skip
        if seen:
            return results
        # the network says something of no electrons, too; the scan itself tells that there are none
        return [replace(each, image=np.zeros_like(each.image)) for each in results]

    # engines.base.FindingEngine

    def found(self) -> Gathered | None:
        """What the first patterns have told; None until then."""
        return None if self._found is None else {"found": self._found.as_array()}

    def follow(self, found: Gathered) -> None:
        """See base.FindingEngine: use what the first part of the scan has found."""
        self._begins = False
        if self._object is not None:
            self._object.lines.begins = False
        elif "found" in found:
            self._settle(Found.of(found["found"]))

    # engines.base.SpreadEngine

    def gathers_by(self, settings: Settings) -> Mapping[str, Any]:
        """All settings but how the network is run and how the image is made, and all optics."""
        own = self._settings_in(settings).model_dump(
            mode="json",
            exclude={
                "threads",
                "device",
                "least_transfer",
                "use_centre_of_mass",
                "use_bright_field",
                "complete",
            },
        )
        return {"optics": settings.optics.model_dump(mode="json"), **own}

    def gathered(self) -> Gathered:
        """The object's sums, the lines at the rim, what was found out."""
        self._settle_with_what_there_is()
        if self._object is None or self._found is None or not self._any:
            return {}
        events = np.array([self._of_events])
        return {
            "found": self._found.as_array(),
            "events": events,
            **self._object.gathered(),
            **self._keeper.gathered(),
        }

    def restore(self, gathered: Gathered) -> None:
        """Take over what `gathered` has given."""
        if gathered:
            if self._object is None:
                self._settle(Found.of(gathered["found"]))
            assert self._object is not None
            self._object.restore(gathered)
            self._keeper.restore(gathered)
            self._begins, self._any = self._object.lines.begins, True
            self._of_events = bool(gathered["events"][0])

    def merge(self, other: AirpiEngine) -> None:
        """Add a later part of the same scan, and make the lines between the two.

        Raises StemdError for parts of an event stream.
        """
        other._settle_with_what_there_is()
        if other._object is None or not other._any:
            return
        if self._any and (self._of_events or other._of_events):
            # a position may be complete in one part and have had its hits in another
            raise StemdError(
                f"{self.name} cannot be put together from parts of an event stream",
                "process the file without --cluster",
            )
        if self._object is None and other._found is not None and not self._any:
            self._settle(other._found)
        self._settle_with_what_there_is()
        assert self._object is not None
        self._object.merge(other._object)
        self._keeper.merge(other._keeper)
        self._any, self._of_events = True, other._of_events
        self._make_ready()

    def _about(self, thing: ExitWaveObject) -> dict[str, Any]:
        ran = {"model_sha256": self._network.sha256, "backend": self._network.about}
        return {"model": self._own.model, **ran, **described(thing), "left_out": self._lost}


def _doubt(settings: AirpiSettings) -> str | None:
    try:
        find_model(settings.model)
    except ModelError as error:
        return f"{error.message}; {error.remedy}"
    return None


PLUGIN = Plugin(
    name="airpi",
    summary="phase of the specimen from a network, live: dose-efficient, super-resolved (AIRPI)",
    settings=AirpiSettings,
    build=AirpiEngine,
    doubt=_doubt,
)
