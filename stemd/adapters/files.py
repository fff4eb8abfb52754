"""Recordings of any kind, opened by their content, and in the place of a camera."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stemd import plugins
from stemd.acquisition import Scan
from stemd.adapters.base import AdapterSettings, Recording
from stemd.adapters.recordings.address import RecordingPath, RemoteFile
from stemd.adapters.recordings.kinds import CAMERAS, SUFFIXES, kind_of, looks_like_text
from stemd.adapters.recordings.strangers import stranger
from stemd.adapters.replay import replay
from stemd.blocks import BlockPool, Link, Message
from stemd.errors import CameraError, ConfigError, FormatError
from stemd.typed import PositiveFloat


def _openers() -> Mapping[str, plugins.Plugin]:
    found: dict[str, plugins.Plugin] = {}
    for plugin in plugins.catalogue("adapters"):
        if plugin.open_recording is not None:
            found |= dict.fromkeys(plugin.suffixes, plugin)
    return found


def _openers_for(path: RecordingPath) -> Mapping[str, plugins.Plugin]:
    """Those among which the one for this file is: where its content says it, that alone.

    To read all adapters takes longer than to process a small file.
    """
    with contextlib.suppress(OSError, ConfigError):
        kind = kind_of(path)
        if kind is not None and kind in CAMERAS:
            plugin = plugins.load("adapters", kind)
            return dict.fromkeys(plugin.suffixes, plugin)
    return _openers()


def recording_suffixes() -> list[str]:
    """Suffixes of the files that `open_recording` reads."""
    return sorted(_openers())


def is_recording(path: Path) -> bool:
    """Whether a file is to be taken for a recording, by its ending or its content, not for a text
    that somebody has written."""
    if path.suffix.lower() == ".toml" and (not path.is_file() or looks_like_text(path)):
        return False  # without a look at all adapters, which takes longer than all the rest
    if path.suffix.lower() in _openers():
        return True
    try:
        if kind_of(path) is not None:
            return True
        named_config = path.suffix.lower() == ".toml"  # perhaps in another encoding than UTF-8
        return not named_config and path.is_file() and not looks_like_text(path)
    except OSError:
        return False


def open_recording(
    path: RecordingPath,
    scan: Scan | None = None,
    settings: AdapterSettings | None = None,
    dataset: str | None = None,
) -> Recording:
    """Open a recorded file, local or remote, by its content, or by its suffix if that says nothing.

    `scan` None: detected from the file. `settings` are those of the camera that wrote it, used
    where they fit the file's kind (an event camera's line pulses). `dataset` names the patterns in
    a file of several arrays. Raises FormatError when the file is missing, empty, of an unknown
    type, not what its suffix says, or does not fit the scan, CameraError when it cannot be read.
    """
    openers = _openers_for(path)
    if isinstance(path, Path):
        _look_at(path, openers)
    try:
        return _opened(path, openers, scan, settings, dataset)
    except OSError as error:
        raise FormatError(
            f"{path} cannot be read: {error.strerror or error}", "check its permissions"
        ) from error
    except ValidationError as error:
        raise _impossible(path, error) from error


def _opened(
    path: RecordingPath,
    openers: Mapping[str, plugins.Plugin],
    scan: Scan | None,
    settings: AdapterSettings | None,
    dataset: str | None,
) -> Recording:
    kind = kind_of(path)
    if kind is not None and kind not in CAMERAS:
        return _open_array(path, kind, scan, dataset)
    suffix = CAMERAS.get(kind or "", path.suffix.lower())
    if suffix not in openers:
        raise _unknown(path, openers)
    plugin = openers[suffix]
    if isinstance(path, RemoteFile) and not plugin.reads_remote:
        raise _not_remote(path)
    if dataset is not None:
        raise FormatError(f"{path} has no datasets", "leave --dataset out")
    opener: Callable[..., Recording] | None = plugin.open_recording
    assert opener is not None
    options = {"settings": settings} if isinstance(settings, plugin.settings) else {}
    return opener(path, scan, **options)


def _unknown(path: RecordingPath, openers: Iterable[str]) -> FormatError:
    other = stranger(path) if isinstance(path, Path) else None
    if other is not None:
        return other
    suffix = path.suffix.lower() or "no suffix"
    tried = ""
    if isinstance(path, Path):
        with path.open("rb") as file:
            tried = f" and its first bytes, {file.read(8).hex(' ')}, are those of no known one"
    return FormatError(
        f"{path}: {suffix} is not a known type of recording{tried}",
        f"known: {', '.join(sorted(openers))}; any array of patterns (ny, nx, height, width) can "
        "be saved with numpy.save",
    )


def _not_remote(path: RecordingPath) -> FormatError:
    return FormatError(
        f"{path}: {path.suffix.lower()} is read from local files only",
        "copy it, or mount where it is",
    )


def survey(path: Path) -> list[str]:
    """What a local file tells to whoever has to choose its scan, as lines of text.

    Raises FormatError and CameraError where it cannot be read.
    """
    kind = kind_of(path)
    if kind is not None and kind not in CAMERAS:
        return []
    plugin = _openers().get(CAMERAS.get(kind or "", path.suffix.lower()))
    return [] if plugin is None or plugin.survey is None else plugin.survey(path)


def open_joined(paths: Sequence[RecordingPath], scan: Scan | None = None) -> Recording:
    """Open several recorded files of one series of frames, in this order, as one recording.

    Raises FormatError where they are no such files, or not of one series.
    """
    from stemd.adapters.merlin.recording import open_joined as open_joined_mib

    local: list[Path] = []
    for path in paths:
        if not isinstance(path, Path) or path.suffix.lower() != ".mib":
            raise FormatError(
                f"{path} cannot be joined to others",
                "only local .mib files are joined; give others one by one",
            )
        _look_at(path, _openers())
        local.append(path)
    try:
        return open_joined_mib(local, scan)
    except OSError as error:
        names = ", ".join(map(str, paths))
        raise FormatError(
            f"{names} cannot be read: {error.strerror or error}", "check their permissions"
        ) from error


def _impossible(path: RecordingPath, error: ValidationError) -> FormatError:
    """A scan that no settings allow: one from the file, or one that was asked for."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    return FormatError(
        f"{path}: {f'scan {where}: ' if where else ''}{text}",
        "give the scan's size, lines x columns, with --scan, and --dwell-time-us where it is asked "
        "for; or the camera's config",
    )


def _look_at(path: Path, suffixes: Iterable[str]) -> None:
    if not path.exists():
        raise FormatError(f"{path} does not exist", "check the path")
    if path.is_dir() and path.suffix.lower() == ".zspy":
        return
    if not path.is_file():
        raise FormatError(f"{path} is not a file", f"name a file: {', '.join(sorted(suffixes))}")
    if path.stat().st_size == 0:
        raise FormatError(f"{path} is empty", "copy the file again")


def _open_array(
    path: RecordingPath, kind: str, scan: Scan | None, dataset: str | None
) -> Recording:
    """An array of patterns, by its kind; nothing is imported that the kind does not need."""
    if kind == "hdf5":
        from stemd.adapters.recordings.hdf5.file import open_hdf5

        return open_hdf5(path, scan, dataset)
    if kind == "npy":
        from stemd.adapters.recordings.npy import open_npy

        return open_npy(path, scan)
    if isinstance(path, RemoteFile):
        raise _not_remote(path)
    if kind == "empad-raw":
        from stemd.adapters.recordings.empad import open_raw

        return open_raw(path, scan)
    if kind == "tvips":
        from stemd.adapters.recordings.tvips import open_tvips

        return open_tvips(path, scan)
    if kind == "zspy":
        from stemd.adapters.recordings.zspy import open_zspy

        return open_zspy(path, scan, dataset)
    from stemd.adapters.recordings.foreign import open_foreign

    return open_foreign(path, kind, scan, dataset)


def _open_by_suffix(
    path: RecordingPath, scan: Scan | None = None, settings: AdapterSettings | None = None
) -> Recording:
    return _open_array(path, SUFFIXES[path.suffix.lower()], scan, None)


class FilesSettings(AdapterSettings):
    """The config table of a replayed recording.

    `rate_hz` frames a second (None: as fast as they are read), `repeat` starts again at the end.
    `dataset` names the patterns in a file of several arrays.
    """

    path: Path
    dataset: str | None = None
    rate_hz: PositiveFloat | None = None
    repeat: bool = False


class FilesAdapter:
    """Implements adapters.base.Adapter for a recorded file that takes the place of a camera."""

    def __init__(self, settings: FilesSettings) -> None:
        self.settings = settings
        self._scan = settings.scan

    def set_scan(self, scan: Scan) -> None:
        """Scan geometry from the next replay on."""
        self._scan = scan

    def command(self, name: str, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file cannot be commanded: raises CameraError."""
        raise CameraError(f"{self.settings.path} is a file, it cannot be told to {name}")

    def close(self) -> None:
        """Nothing blocks for long: `read` looks at `stop` before every block."""

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """The file's scan, once or again and again. Raises FormatError as `open_recording`."""
        path = self.settings.path
        while not stop.is_set():
            recording = open_recording(path, self._scan, dataset=self.settings.dataset)
            try:
                yield Link(True, f"replaying {path}")
                yield from replay(recording, str(path), self.settings.rate_hz, stop)
            finally:
                recording.close()
            if not self.settings.repeat:
                break
        yield Link(False, f"{path} has been replayed")


def _warm(settings: FilesSettings) -> Iterable[Message]:
    plugin = _openers().get(settings.path.suffix.lower(), PLUGIN)
    return () if plugin is PLUGIN else plugin.warm(plugin.settings())


PLUGIN = plugins.Plugin(
    name="files",
    summary="replays a recorded file as if it were a camera; reads arrays of patterns, see docs",
    settings=FilesSettings,
    build=FilesAdapter,
    warm=_warm,
    suffixes=tuple(SUFFIXES),
    reads_remote=True,
    open_recording=_open_by_suffix,
)
