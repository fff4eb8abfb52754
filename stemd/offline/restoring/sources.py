"""Which images are to be restored, and which of them are frames of one place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stemd.adapters.recordings.pictures import IMAGE_SUFFIXES, Picture, read_images
from stemd.errors import FormatError, UsageError

MOST_FRAMES = 4096


@dataclass(frozen=True, slots=True)
class Series:
    """Images of one place in the order of their scans, and the file or folder they come from.

    `name` tells it from other series of its source: "image", "HAADF".
    """

    source: Path
    name: str
    pictures: tuple[Picture, ...]


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and all images in folders that are named, by their numbers.

    Raises UsageError for a folder without images, and FormatError for what no reader takes.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in path.iterdir() if _is_image(p) and not p.name.startswith(".")]
            if not inside:
                raise UsageError(f"{path} is a folder without images", f"name a file ({_known()})")
            files += sorted(inside, key=_by_number)
        elif not _is_image(path):
            raise FormatError(f"{path} is no image that can be restored", f"give one of {_known()}")
        else:
            files.append(path)
    return files


def each_alone(path: Path) -> Iterator[Series]:
    """Every image of a file as a series of its own. Raises FormatError."""
    for picture in read_images(path):
        yield Series(path, plain(picture.name), (picture,))


def together(paths: Iterable[Path]) -> list[Series]:
    """The images of all files as frames: a stack is a series, single images make one together.

    Images of other names (HAADF, BF) are series of their own. Raises FormatError for what cannot
    be read, UsageError for too many frames.
    """
    found: dict[tuple[Path | None, str], list[Picture]] = {}
    sources: dict[tuple[Path | None, str], Path] = {}
    for path in paths:
        for picture in read_images(path):
            stack, _, number = picture.name.partition("[")
            name = plain(stack)
            key = (path if number else None, name)
            found.setdefault(key, []).append(picture)
            sources.setdefault(key, path)
            if len(found[key]) > MOST_FRAMES:
                raise UsageError(
                    f"{path}: more than {MOST_FRAMES} frames", "restore them in several parts"
                )
    return [Series(sources[key], key[1], tuple(frames)) for key, frames in found.items()]


def plain(name: str) -> str:
    """The name of an image as a part of a file's: letters, digits and lines."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:60]
    return text or "image"


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _known() -> str:
    return ", ".join(IMAGE_SUFFIXES)


def _by_number(path: Path) -> list[tuple[int, str]]:
    """frame_9 comes before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
