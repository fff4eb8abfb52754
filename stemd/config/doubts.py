"""What a config allows and can hardly be meant so, all of it."""

from __future__ import annotations

from stemd.adapters.recordings.mask_file import read_mask
from stemd.config import amounts, physics, places
from stemd.config.problems import Problem
from stemd.config.resolved import Config
from stemd.errors import ConfigError
from stemd.scan.given_mask import path_of


def refused(config: Config) -> list[Problem]:
    """What cannot work and only the disk tells: the mask files that hold no mask; they are read."""
    problems = []
    for index, pipeline in enumerate(config.pipelines):
        if (path := path_of(pipeline.optics)) is None:
            continue
        try:
            read_mask(path)
        except ConfigError as error:
            text = error.message.removeprefix("optics.mask: ")
            key = ("pipeline", index, "optics", "mask")
            problems.append(Problem(key, text, "", error.remedy))
    return problems


def doubts(config: Config) -> list[str]:
    """Sentences for whoever has written it, each with its remedy; they read the disk."""
    found = places.doubts(config)
    for pipeline in config.pipelines:
        sentences = [*physics.doubts(pipeline), *amounts.doubts(pipeline)]
        found += [f"pipeline {pipeline.name}: {doubt}" for doubt in sentences]
        found += [
            f"pipeline {pipeline.name}, engine {engine.name}: {doubt}"
            for engine in pipeline.engines
            if (doubt := engine.plugin.doubt(engine.settings))
        ]
    return found
