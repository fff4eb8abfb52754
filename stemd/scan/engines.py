"""The engines of one scan: built, called, and left out when they fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from stemd.acquisition import Acquisition
from stemd.blocks import Block, Notice
from stemd.engines.base import (
    Engine,
    FindingEngine,
    Gathered,
    ImageEngine,
    PositionMaps,
    SlowEngine,
)
from stemd.errors import StemdError
from stemd.logs import get_logger
from stemd.plugins import Plugin
from stemd.results import Result, checked_results
from stemd.settings import EngineSettings, OfRepeats, Settings, SlowEngineSettings

if TYPE_CHECKING:
    from stemd.scan.repeats import Repeats

log = get_logger(__name__)

Report = Callable[[str, StemdError], None]
"""(engine, error): an engine has failed for a reason that the user can do something about."""


class EngineChoice(Protocol):
    """A configured engine: its plugin and validated settings."""

    @property
    def plugin(self) -> Plugin:
        """Where the engine comes from."""
        ...

    @property
    def settings(self) -> EngineSettings:
        """Its settings in the config."""
        ...

    @property
    def name(self) -> str:
        """Its name: given, or its type."""
        ...


class ScanEngines:
    """The engines of one scan, in their order.

    An engine that fails is reported once and gets nothing more; the others go on. `failed` has
    the reasons by engine and is changed by `leave_out` alone, under its lock. `live`: a camera
    waits, so slow engines work beside the scan; `tell` gets what they have to say.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        settings: Settings,
        maps: PositionMaps,
        choices: Sequence[EngineChoice],
        *,
        live: bool,
        tell: Callable[[Notice], None],
        report: Report | None,
        repeats: Repeats | None = None,
    ) -> None:
        self.every: list[Engine] = []
        self.choices: list[EngineChoice] = []
        self.failed: dict[str, str] = {}
        self.slow: list[SlowEngine] = []
        """Those that work beside the scan."""
        self.acquisition, self._live, self._repeats = acquisition, live, repeats
        self._report = report
        self._lock = threading.Lock()
        for choice in choices:
            try:
                engine: Engine = choice.plugin.build(choice.settings)
                if isinstance(engine, SlowEngine):
                    engine.prepare(tell, beside=live)
                engine.start(acquisition, settings, self.maps_for(choice, maps))
            except (Exception, SystemExit) as error:  # an engine does not end the program
                self.leave_out(choice.name, error)
            else:
                self.every.append(engine)
                self.choices.append(choice)
        self.slow = [engine for engine in self.every if live and isinstance(engine, SlowEngine)]
        self.inline = self._that_need("patterns")
        self.positional = self._that_need("positions")
        self.imaging = cast(list[ImageEngine], self._that_need("images"))
        beside: list[Engine] = [*self.slow, *self.imaging]
        self.prompt = [engine for engine in self.every if engine not in beside]
        """Those whose images are there as soon as they are asked for."""

    def _that_need(self, what: str) -> list[Engine]:
        pairs = zip(self.choices, self.every, strict=True)
        return [engine for choice, engine in pairs if choice.settings.needs == what]

    def maps_for(self, choice: EngineChoice, maps: PositionMaps) -> PositionMaps:
        """The maps that go with what an engine is given."""
        if self._repeats is None or choice.settings.needs != "patterns":
            return maps
        return self._repeats.first() if self._given(choice) == "first" else maps

    def _given(self, choice: EngineChoice) -> OfRepeats:
        """Of a place that is scanned several times; a camera sends no pattern twice."""
        of = choice.settings.of_repeats
        return "first" if of == "placed" and self._live else of

    def given(self, block: Block) -> Mapping[str, Block | None]:
        """What the engines that need patterns get of a block, by name; None: nothing."""
        pairs = zip(self.choices, self.every, strict=True)
        of = {e.name: self._given(c) for c, e in pairs if c.settings.needs == "patterns"}
        repeats = self._repeats
        if repeats is None:
            return dict.fromkeys(of, block)
        kinds = set(of.values())
        parts: dict[OfRepeats, Block | None] = {"placed": None}
        parts["any"] = repeats.of_any(block) if "any" in kinds else None
        parts["first"] = repeats.of_first(block) if "first" in kinds else None
        return {name: parts[kind] for name, kind in of.items()}

    def take_in(self, block: Block) -> None:
        """Give a block to the engines that need patterns."""
        if not self.inline:
            return
        given = self.given(block)
        for engine in self.inline:
            if (part := given[engine.name]) is not None:
                self.guard(engine, engine.consume, part)

    @property
    def placed(self) -> list[Engine]:
        """Those that are given all patterns where they belong, once that is known."""
        if self._repeats is None:
            return []
        pairs = zip(self.choices, self.every, strict=True)
        return [
            e
            for c, e in pairs
            if c.settings.needs == "patterns" and self._given(c) == "placed" and self.works(e)
        ]

    @property
    def of_first(self) -> list[Engine]:
        """Those that are given the first frame alone of a place that is scanned several times."""
        if self._repeats is None:
            return []
        pairs = zip(self.choices, self.every, strict=True)
        return [e for c, e in pairs if c.settings.needs == "patterns" and self._given(c) == "first"]

    def first_only(self) -> Iterator[Notice]:
        """Which engines show the first frame alone of a place that is scanned several times."""
        shown = {engine.name: self.choices[self.every.index(engine)] for engine in self.of_first}
        later = [
            name
            for name, choice in shown.items()
            if isinstance(choice.settings, SlowEngineSettings)
            and choice.settings.of_repeats == "placed"
            and choice.settings.complete
        ]
        for_good = [name for name in shown if name not in later]
        what = f"only the first of {self._repeats.of} frames is shown by " if self._repeats else ""
        if for_good:
            yield Notice("first_frame_only", what + ", ".join(for_good), level="info")
        if later:
            text = what + ", ".join(later) + " until the images are completed from the record"
            yield Notice("first_frame_only", text, level="info")

    def works(self, engine: Engine) -> bool:
        """Whether the engine has not failed."""
        return engine.name not in self.failed

    def guard(self, engine: Engine, call: Callable[[Any], object], argument: Any) -> None:
        """Call an engine, unless it has failed; leave it out if it fails now."""
        if engine.name not in self.failed:
            try:
                call(argument)
            except (Exception, SystemExit) as error:
                self.leave_out(engine.name, error)

    def leave_out(self, engine: str, error: BaseException) -> None:
        """An engine has failed: it is reported once and gets nothing more. By any thread."""
        told = isinstance(error, StemdError)
        reason = str(error) if told else f"{type(error).__name__}: {error}"
        if not self.note_failure(engine, reason):
            return
        for each in self.slow:
            if each.name == engine:
                each.abandon()
        if not isinstance(error, StemdError):
            text = "an engine failed and is left out for the rest of the scan"
            log.exception(text, engine=engine, exc_info=error)
            text = f"it failed and is left out for the rest of the scan: {reason}"
            error = StemdError(text, "the next scan has it again; the log says where it failed")
        if self._report is not None:
            self._report(engine, error)

    def note_failure(self, engine: str, reason: str) -> bool:
        """Keep why an engine has failed, here or where a part was made; False if it is known."""
        with self._lock:
            if engine in self.failed:
                return False
            self.failed[engine] = reason
            return True

    def update(self, settings: Settings) -> None:
        """New settings from now on."""
        for engine in self.every:
            self.guard(engine, engine.update, settings)

    def finish(self) -> None:
        """No more blocks will come."""
        for engine in self.slow:
            engine.finish()

    def abandon(self, why: str) -> None:
        """Slow engines leave unfinished work undone."""
        for engine in self.slow:
            engine.abandon(why)

    def lacking(self, settings: Settings) -> dict[str, int]:
        """Positions by engine that images of slow engines lack and are to get from the record.

        Only those of engines whose settings ask for it.
        """
        found: dict[str, int] = {}
        for engine in self.slow:
            own = settings.engines.get(engine.name)
            if not isinstance(own, SlowEngineSettings) or not own.complete:
                continue
            if not self.works(engine):
                continue
            count = engine.lacking()
            if self._repeats is not None and own.of_repeats == "placed":
                count = self._repeats.positions  # it has had the first frame alone
            if count:
                found[engine.name] = count
        return found

    def _finding(self) -> list[FindingEngine]:
        return [each for each in self.every if isinstance(each, FindingEngine) and self.works(each)]

    def all_found(self, settings: Settings) -> bool:
        """Whether all engines know what they find out from the first patterns."""
        later = self.placed
        return all(
            engine.found() is not None or not engine.finds(settings)
            for engine in self._finding()
            if engine not in later
        )

    def found(self) -> dict[str, Gathered]:
        """What engines have found out from the first patterns."""
        return {engine.name: engine.found() or {} for engine in self._finding()}

    def follow(self, found: Mapping[str, Gathered]) -> None:
        """Be those of a later part of a scan whose first part has found this out."""
        for engine in self._finding():
            self.guard(engine, engine.follow, found.get(engine.name, {}))

    def finals_of(self, maps: PositionMaps, settings: Settings) -> list[Result]:
        """What the engines that need no more than maps make of others of the same scan."""
        results: list[Result] = []
        for choice, engine in zip(self.choices, self.every, strict=True):
            if choice.settings.needs == "positions" and self.works(engine):
                double: Engine = choice.plugin.build(choice.settings)
                double.start(self.acquisition, settings, maps)
                results += checked_results(choice.name, double.snapshot(final=True), results)
        return results
