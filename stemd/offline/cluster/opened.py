"""A file as a worker has it open, and what tells it from another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from stemd.adapters.base import Recording
from stemd.adapters.files import open_joined, open_recording
from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.remote import RemoteBytes
from stemd.adapters.scan_choice import chosen_scan
from stemd.offline.cluster.recipe import Recipe

EDGE_BYTES = 64 * 1024
"""Bytes at either end of a file that tell it from another of the same size."""


def identity_of(path: RecordingPath) -> dict[str, Any]:
    """What tells a file from another, or from itself after a change, at the cost of two reads."""
    if isinstance(path, RemoteFile):
        source = RemoteBytes(path)
        edges = source.read(0, min(EDGE_BYTES, source.size))
        edges += source.read(max(0, source.size - EDGE_BYTES), source.size)
        tags = {"bytes": source.size, **source.tags}
        return {**tags, "edges": hashlib.sha256(edges).hexdigest()}
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(EDGE_BYTES))
        file.seek(max(0, status.st_size - EDGE_BYTES))
        digest.update(file.read(EDGE_BYTES))
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "edges": digest.hexdigest()}


def identity_of_all(paths: Sequence[RecordingPath]) -> dict[str, Any]:
    """The same of files that are read as one."""
    if len(paths) == 1:
        return identity_of(paths[0])
    files = [identity_of(path) for path in paths]
    return {"bytes": sum(each["bytes"] for each in files), "files": files}


def has_changed(paths: Sequence[RecordingPath], identity: dict[str, Any]) -> bool:
    """Whether a file is not what it was; of a remote one its tags tell, where it has any."""
    path = paths[0]
    if len(paths) > 1:
        return identity_of_all(paths) != identity
    if isinstance(path, RemoteFile):
        source = RemoteBytes(path)
        if source.tags:  # the ends cost two requests for each part, and tell no more
            known = {key: value for key, value in identity.items() if key != "edges"}
            return {"bytes": source.size, **source.tags} != known
    return identity_of(path) != identity


class OpenRecordings:
    """The last recording of this process whose opening read all over the file, or from afar.

    A file with holes would else be read through for each of its parts, and a remote one be
    waited for. All others are opened for each part anew, and what was mapped of them is let go.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[str, Recording] | None = None

    @contextlib.contextmanager
    def open(self, recipe: Recipe, identity: dict[str, Any]) -> Iterator[Recording]:
        """The recording of a recipe, for a while; `identity` is what it must be."""
        said = [each.model_dump_json() if each else "" for each in (recipe.scan, recipe.camera)]
        key = json.dumps([repr(recipe.path), identity, said, recipe.dataset, recipe.part])
        with self._lock:
            kept = self._kept
        if kept is not None and kept[0] == key:
            yield kept[1]
            return
        if recipe.joined:
            recording = open_joined(recipe.paths, recipe.scan)
        else:
            recording = open_recording(recipe.path, recipe.scan, recipe.camera, recipe.dataset)
        keep = False
        try:
            scan = chosen_scan(recording, recipe.path, recipe.scan_number)
            keep = isinstance(recipe.path, RemoteFile) or getattr(scan, "has_table", False)
            yield scan
        finally:
            if keep:
                with self._lock:
                    self._kept = key, scan  # the one before is closed with its last user
            else:
                recording.close()
