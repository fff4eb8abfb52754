"""Live settings as the outside sees them: one JSON object, changed as a whole or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from stemd.acquisition import Optics, Scan
from stemd.config.image_names import clashes, missing_inputs, unknown_images
from stemd.config.problems import Problem, problems_of
from stemd.config.resolved import PipelineConfig
from stemd.config.tables import AboutTable, PublishTable, RecordTable
from stemd.documents import reply_error
from stemd.errors import ConfigError
from stemd.logs import get_logger
from stemd.settings import Settings

Json = dict[str, Any]

log = get_logger(__name__)


class RefusedError(ConfigError):
    """A change that is not made. `problem` names the key, what is wrong and what is allowed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.key}: {problem.message}", problem.remedy)
        self.problem = problem

    def as_json(self) -> Json:
        """The `error` of a reply."""
        problem = self.problem
        message = problem.message + (f" (got {problem.value})" if problem.value else "")
        return reply_error(problem.key, message, problem.remedy)


_NO_SETTINGS = ("id", "revision", "changed", "time", "time_ns")
"""Keys of the published document, and of requests, that are no settings."""


def sections_of(change: Mapping[str, Any]) -> dict[str, Any]:
    """A change by its sections, each a dict of its own unless it is no object."""
    sections: dict[str, Any] = {}
    for key, value in change.items():
        if key in _NO_SETTINGS:
            continue
        section, _, rest = key.partition(".")
        if rest:
            value = {rest: value}
        if isinstance(value, Mapping) and isinstance(sections.get(section), dict):
            sections[section].update(value)
        else:
            sections[section] = dict(value) if isinstance(value, Mapping) else value
    return sections


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Everything of a pipeline that can be changed while it runs, with a revision number.

    `given`: names of images that the adapter gives without an engine.
    """

    engines: Settings
    publish: PublishTable
    record: RecordTable
    given: tuple[str, ...] = ()
    about: AboutTable = field(default_factory=AboutTable)

    @classmethod
    def of(cls, config: PipelineConfig) -> LiveSettings:
        """The settings with which a pipeline starts."""
        given = config.adapter.outputs()
        return cls(config.settings(), config.publish, config.record, given, config.about)

    @classmethod
    def of_scan(
        cls, config: PipelineConfig, settings: Mapping[str, Any], without: Collection[str] = ()
    ) -> LiveSettings:
        """Those of a scan's scan.json, as far as the pipeline of today still knows them.

        The sections `without` stay as they are in the config, but for the names of published
        images: the scan may have had others.
        """
        live = cls.of(config)
        if "publish" in without:
            every = live.publish.model_copy(update={"images": None})
            live = dataclasses.replace(live, publish=every)
        for section, values in settings.items():
            if isinstance(values, Mapping) and section not in without:
                try:
                    live = live._merged({section: values})
                except RefusedError as error:
                    log.warning("a setting of the scan is no longer known", error=str(error))
        return live

    @property
    def revision(self) -> int:
        """Counts the changes since the pipeline was started, from 1."""
        return self.engines.revision

    def as_json(self) -> Json:
        """Sections `optics`, `scan`, `publish`, `record`, `about`, and one for each engine."""
        document: Json = {
            "revision": self.revision,
            "optics": self.engines.optics.model_dump(mode="json"),
            "scan": self.engines.scan.model_dump(mode="json") if self.engines.scan else None,
            "publish": self.publish.model_dump(mode="json"),
            "record": self.record.model_dump(mode="json"),
            "about": self.about.model_dump(mode="json"),
        }
        for name, engine in self.engines.engines.items():
            document[name] = engine.model_dump(mode="json", exclude={"name"})
        return document

    def differences(self, other: LiveSettings) -> Json:
        """Every setting that is not as in `other`, as {"section.key": value}."""
        theirs = other.as_json()
        found: Json = {}
        for section, values in self.as_json().items():
            if not isinstance(values, Mapping):
                continue
            of_other = theirs.get(section) or {}
            for key, value in values.items():
                if key not in of_other or of_other[key] != value:
                    found[f"{section}.{key}"] = value
        return found

    def as_far_as_allowed(
        self, change: Mapping[str, Any]
    ) -> tuple[LiveSettings, dict[str, RefusedError]]:
        """As `changed`, without what is refused; that is told by section or "section.key"."""
        try:
            return (self.changed(change) if change else self), {}
        except RefusedError as error:
            refused = error
        by_section: dict[str, Json] = {}
        for key, value in change.items():
            by_section.setdefault(key.partition(".")[0], {})[key] = value
        parts = list(by_section.values())
        if len(parts) == 1:
            parts = [{key: value} for key, value in change.items()]
        if len(parts) == 1:
            return self, {next(iter(change)): refused}
        live, errors = self, dict[str, RefusedError]()
        for part in parts:
            live, more = live.as_far_as_allowed(part)
            errors |= more
        return live, errors

    def changed(self, change: Mapping[str, Any]) -> LiveSettings:
        """New settings with the next revision. Raises RefusedError; nothing is changed then.

        `change` has the shape of `as_json`, any subset; "section.key" is accepted for a nested
        key. Tables such as `detectors` are replaced as a whole.
        """
        new = self._merged(change)
        self._refuse_worse(new)
        return new

    def for_maps_of(self, reduced: Settings) -> Settings:
        """The engines' settings for images made anew of a scan that was summed with `reduced`.

        Raises RefusedError where these would give a name twice or lack an image.
        """
        settings = self.engines.for_maps_of(reduced)
        every = self.publish.model_copy(update={"images": None})
        self._refuse_worse(dataclasses.replace(self, engines=settings, publish=every))
        return settings

    def _refuse_worse(self, new: LiveSettings) -> None:
        """Raises RefusedError for what is wrong with the names of `new`'s images only."""
        known = {(problem.path, problem.message) for problem in self._name_problems()}
        for problem in new._name_problems():
            if (problem.path, problem.message) not in known:
                raise RefusedError(problem)

    def _name_problems(self) -> list[Problem]:
        engines, optics = self.engines.engines, self.engines.optics
        unknown = unknown_images(self.publish.images or (), engines, self.given)
        return [
            *clashes(engines, optics, self.given),
            *missing_inputs(engines, self.given, live=True),
            *(
                Problem(("publish", "images"), f"no engine makes an image {image!r}", "", remedy)
                for image, remedy in unknown
            ),
        ]

    def _merged(self, change: Mapping[str, Any]) -> LiveSettings:
        sections = sections_of(change)
        known = {"optics", "scan", "publish", "record", "about", *self.engines.engines}
        for section in sections:
            if section not in known:
                allowed = f"sections: {', '.join(sorted(known))}"
                raise RefusedError(Problem((section,), "unknown setting", "", allowed))
        optics = self._merge("optics", Optics, self.engines.optics, sections)
        publish = self._merge("publish", PublishTable, self.publish, sections)
        record = self._merge("record", RecordTable, self.record, sections)
        about = self._merge("about", AboutTable, self.about, sections)
        scan = self.engines.scan
        if "scan" in sections:
            scan = self._merge("scan", Scan, scan, sections)
        engines = {
            name: self._merge(name, type(engine), engine, sections)
            for name, engine in self.engines.engines.items()
        }
        settings = Settings(optics, engines, scan, self.revision + 1)
        try:
            settings.masks()
        except ConfigError as error:
            raise RefusedError(Problem(("optics",), error.message, "", error.remedy)) from error
        return dataclasses.replace(
            self, engines=settings, publish=publish, record=record, about=about
        )

    def renumbered(self, revision: int) -> LiveSettings:
        """The same under another revision number."""
        return dataclasses.replace(
            self, engines=dataclasses.replace(self.engines, revision=revision)
        )

    @staticmethod
    def _merge(
        section: str, model: type[BaseModel], now: BaseModel | None, sections: Mapping[str, Any]
    ) -> Any:
        if section not in sections:
            return now
        change = sections[section]
        if not isinstance(change, dict):
            allowed = f"an object with any of: {', '.join(model.model_fields)}"
            raise RefusedError(Problem((section,), "must be an object", repr(change), allowed))
        if "name" in change:
            raise RefusedError(Problem((section, "name"), "cannot be changed while running"))
        table = (now.model_dump() if now is not None else {}) | change
        try:
            return model.model_validate(table)
        except ValidationError as error:
            first = problems_of(error, model, (section,))[0]
            remedy = first.remedy or f"see `stemd schema` for {section}"
            raise RefusedError(dataclasses.replace(first, remedy=remedy)) from error
