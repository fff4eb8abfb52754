"""Who makes which image: names that two would give, and images that nobody makes.

Everything follows from what engines and adapters declare by their settings; paths of problems
begin with the engine's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from stemd.acquisition import Optics
from stemd.config.problems import ConfigProblemsError, Problem, nearest
from stemd.errors import ConfigError
from stemd.settings import EngineSettings, SlowEngineSettings, masks_of

Engines = Mapping[str, EngineSettings]
"""Settings by the engine's name, in the order of the config."""

SECTIONS = ("optics", "scan", "publish", "record", "about", "id", "revision", "changed")
"""What stands beside the engines' settings in live settings: no engine can be called so."""
OTHER_FILES = {"raw": "the camera's own record", "scan": "the scan's scan.json"}
CORRECTED = "stemd process --correct"
SHIFTS = ("shift_y", "shift_x")
SAVED = re.compile(r"(.+)_at_\d+")
IMAGE_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


def image_names(engines: Engines, given: Sequence[str] = ()) -> list[str]:
    """All images of a scan: those the adapter gives, then those of the engines."""
    made = (own.outputs(engine) for engine, own in engines.items())
    return [*given, *(image for images in made for image in images)]


def clashes(engines: Engines, optics: Optics, given: Sequence[str] = ()) -> list[Problem]:
    """Names that two would give to an image, or to what the reduction sums."""
    every = image_names(engines, given)
    owners = dict.fromkeys(SHIFTS, CORRECTED) | OTHER_FILES
    owners |= {
        f"{image}_corrected": CORRECTED
        for engine, own in engines.items()
        if own.needs == "positions"
        for image in own.outputs(engine)
    }
    owners |= dict.fromkeys(given, "the adapter")
    makers: dict[str, str] = {}
    problems: list[Problem] = []
    for engine, own in engines.items():
        if engine in SECTIONS:
            message = f"an engine cannot be called {engine!r}: other live settings are"
            problems.append(Problem((engine, "name"), message, "", "give it another name"))
        for image in own.outputs(engine):
            saved = SAVED.fullmatch(image)
            if not IMAGE_NAME.fullmatch(image):
                message = f"engine {engine!r} would make an image {image!r}, which is not a name"
                remedy = "images are named with lower-case letters, digits and _"
                problems.append(Problem(_path(engine, own, image), message, "", remedy))
            elif image in makers:
                path, first = _blamed(engines, makers[image], engine, image), makers[image]
                problems.append(_clash(path, image, f"engine {first!r}", engine))
            elif image in owners:
                path = _path(engine, own, image)
                problems.append(_clash(path, image, owners[image], engine))
            elif saved and saved[1] in every:
                path, command = _path(engine, own, image), f"the command save, of {saved[1]!r}"
                problems.append(_clash(path, image, command, engine))
            makers.setdefault(image, engine)
    return problems + _mask_clashes(engines, optics)


def _mask_clashes(engines: Engines, optics: Optics) -> list[Problem]:
    """Sums of one name that two engines ask for, unless both have images of that name."""
    askers: dict[str, str] = {}
    problems: list[Problem] = []
    for engine, own in engines.items():
        try:
            names = list(masks_of(engine, own, optics))
        except ConfigError:  # told where masks are made
            continue
        for name in names:
            first = askers.setdefault(name, engine)
            images = own.outputs(engine), engines[first].outputs(first)
            if first != engine and not all(name in each for each in images):
                message = f"the engines {first!r} and {engine!r} both have {name!r} summed for them"
                remedy = "change one of the two, or leave one out"
                problems.append(Problem(_path(engine, own, name), message, "", remedy))
    return problems


def missing_inputs(engines: Engines, given: Sequence[str] = (), *, live: bool) -> list[Problem]:
    """Images that engines need and no engine before them makes.

    Engines that work on images follow all others, in their order; beside a camera (`live`) the
    images of slow engines come only after them.
    """
    makers = {image: engine for engine, own in engines.items() for image in own.outputs(engine)}
    late = {
        engine for engine, own in engines.items() if live and isinstance(own, SlowEngineSettings)
    }
    ready = set(given)
    for engine, own in engines.items():
        if own.needs != "images" and engine not in late:
            ready.update(own.outputs(engine))
    problems: list[Problem] = []
    for engine, own in engines.items():
        for key, image in own.inputs().items():
            if image in ready:
                continue
            maker = makers.get(image)
            if maker is None:
                message = f"no engine makes the image {image!r} that engine {engine!r} needs"
                remedy = nearest(image, sorted(ready)) if ready else "add an engine that makes it"
            elif maker in late:
                message = (
                    f"beside a camera the slow engine {maker!r} finishes {image!r} after "
                    f"engine {engine!r} has run"
                )
                remedy = f"restore {image}.tif after the scan, or name an image of another engine"
            elif maker == engine:
                message = f"engine {engine!r} makes the image {image!r} itself"
                remedy = "name the image of another engine"
            else:
                message = (
                    f"the image {image!r} is made by engine {maker!r}, which comes after {engine!r}"
                )
                remedy = f"put engine {maker!r} before {engine!r}"
            problems.append(Problem((engine, key), message, "", remedy))
        ready.update(own.outputs(engine) if own.needs == "images" else ())
    return problems


def unknown_images(
    wanted: Iterable[str], engines: Engines, given: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Those of `wanted` that nobody makes, each with a remedy."""
    every = sorted(set(image_names(engines, given)))
    return [(image, nearest(image, every)) for image in wanted if image not in every]


def check_names(engines: Engines, optics: Optics, source: str, given: Sequence[str] = ()) -> None:
    """Raises ConfigProblemsError for engines over a recording whose names are not right."""
    problems = [*clashes(engines, optics, given), *missing_inputs(engines, given, live=False)]
    if problems:
        raise ConfigProblemsError(source, problems)


def _clash(path: tuple[str, ...], image: str, first: str, engine: str) -> Problem:
    message = f"the name {image!r} is given to two images: by {first} and by engine {engine!r}"
    return Problem(path, message, "", "change one of the two names, or leave one image out")


def _path(engine: str, own: EngineSettings, image: str) -> tuple[str, ...]:
    keys = own.key_of(image) or (("name",) if own.name is not None else ())
    return (engine, *keys)


def _blamed(engines: Engines, first: str, second: str, image: str) -> tuple[str, ...]:
    """Of two that give a name the setting by which somebody has chosen it: the second's if so."""
    paths = [_path(engine, engines[engine], image) for engine in (second, first)]
    return next((path for path in paths if len(path) > 1), paths[0])
