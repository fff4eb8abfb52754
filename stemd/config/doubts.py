"""What a config allows and can hardly be meant so, all of it."""

from __future__ import annotations

from stemd.config import amounts, physics, places
from stemd.config.resolved import Config


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
