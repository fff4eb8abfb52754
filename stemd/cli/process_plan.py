"""How `stemd process` makes images: the command line, then the config, then scan.json."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.cli.scan_arguments import scan_of
from stemd.config.pairs import parse_pairs
from stemd.engines import DEFAULT_ENGINES
from stemd.errors import UsageError

if TYPE_CHECKING:
    from stemd.acquisition import Optics, Scan
    from stemd.adapters.base import AdapterSettings
    from stemd.adapters.recordings.address import RecordingPath
    from stemd.config.resolved import EngineConfig, PipelineConfig
    from stemd.settings import Settings
    from stemd.storage.recorded import RecordedScan


@dataclass(frozen=True, slots=True)
class Plan:
    """How one recording is read and what is made of it."""

    settings: Settings
    engines: list[EngineConfig]
    camera: AdapterSettings | None

    @property
    def camera_table(self) -> dict[str, Any] | None:
        """The camera as it stands in scan.json."""
        from stemd import plugins
        from stemd.config.resolved import camera_table

        if self.camera is None:
            return None
        every = plugins.catalogue("adapters")
        kind = next((each.name for each in every if each.settings is type(self.camera)), "")
        return camera_table(kind, self.camera)


@dataclass(frozen=True, slots=True)
class Task:
    """A recording, the folder for its images, and how they are made.

    `joined`: the files that follow it in the same series of frames; `frames`: those that show the
    same place again.
    """

    path: RecordingPath
    target: Path
    plan: Plan
    joined: tuple[RecordingPath, ...] = ()
    frames: tuple[RecordingPath, ...] = ()


class Planner:
    """Knows the command line and the config; what these leave open a recording's scan.json says.

    Raises UsageError and ConfigError for what is wrong with the two.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._optics = parse_pairs(args.optics, "--optics")
        self._pipeline = _pipeline(args)

    def plan(self, known: RecordedScan | None, path: RecordingPath | None = None) -> Plan:
        """For a recording with this in its scan.json; no `path`: of any file."""
        from stemd.config.image_names import check_names
        from stemd.settings import Settings

        engines = self._engines(known)
        by_name = {engine.name: engine.settings for engine in engines}
        if len(by_name) != len(engines):
            names = [engine.name for engine in engines]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(
                f"two engines have the name {twice!r}",
                f"leave one of them out, or give one a name of its own: --engine {twice}:name=...",
            )
        camera = self._camera_of(known)
        scan = self._scan_of(known, path, camera)
        settings = Settings(optics=self._optics_of(known), engines=by_name, scan=scan)
        settings.masks()
        check_names(settings.engines, settings.optics, "--engine")
        return Plan(settings, engines, camera)

    def _camera_of(self, known: RecordedScan | None) -> AdapterSettings | None:
        """The config's camera, unless a camera of another kind has made the record."""
        of_record = known.camera if known else None
        if self._pipeline is None:
            return of_record
        given = self._pipeline.adapter
        return given if of_record is None or type(given) is type(of_record) else of_record

    def _engines(self, known: RecordedScan | None) -> list[EngineConfig]:
        from stemd.config.resolved import EngineConfig

        engines = list(self._pipeline.engines) if self._pipeline else []
        specs = self._args.engine or ([] if engines else None)
        if specs is None:
            engines = list(known.engines) if known else []
            images = {image for each in engines for image in each.settings.outputs(each.name)}
            kinds = {each.plugin.name for each in engines}
            for name in DEFAULT_ENGINES:
                made = EngineConfig.of(name, {})
                if name not in kinds and not images & set(made.settings.outputs(made.name)):
                    engines.append(made)
        for spec in specs or ():
            name, _, pairs = spec.partition(":")
            engines.append(EngineConfig.of(name, parse_pairs(pairs, f"--engine {name}")))
        return engines

    def _optics_of(self, known: RecordedScan | None) -> Optics:
        from pydantic import ValidationError

        from stemd.acquisition import Optics
        from stemd.config.problems import ConfigProblemsError, problems_of

        table = known.optics.model_dump(exclude_unset=True) if known else {}
        if self._pipeline:
            table |= self._pipeline.optics.model_dump(exclude_unset=True)
        try:
            return Optics.model_validate(table | self._optics)
        except ValidationError as error:
            raise ConfigProblemsError("--optics", problems_of(error, Optics, ())) from error

    def _scan_of(
        self, known: RecordedScan | None, path: RecordingPath | None, camera: AdapterSettings | None
    ) -> Scan | None:
        from stemd.acquisition import Scan
        from stemd.adapters.files import open_recording

        def of_file() -> Scan:
            if path is None:
                return Scan(shape=(2, 1))  # it is asked again for each file
            with contextlib.closing(open_recording(path, None, camera, self._args.dataset)) as file:
                return file.acquisition.scan

        from_config = self._pipeline.adapter.scan if self._pipeline else None
        of_record = known.scan.model_dump(exclude_none=True) if known else {}
        table = of_record | (from_config.model_dump(exclude_unset=True) if from_config else {})
        return scan_of(self._args, table, of_file)


def _pipeline(args: argparse.Namespace) -> PipelineConfig | None:
    if args.config is None:
        return None
    from stemd.config.file import load

    config = load(args.config)
    names = [pipeline.name for pipeline in config.pipelines]
    wanted = args.pipeline or (names[0] if len(names) == 1 else None)
    if wanted not in names:
        raise UsageError(
            f"--pipeline {args.pipeline or ''} does not name a pipeline of {args.config}",
            f"one of: {', '.join(names)}",
        )
    return config.pipelines[names.index(wanted)]
