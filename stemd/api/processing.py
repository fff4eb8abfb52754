"""`process`: any data through any engines, as `stemd process` does it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.acquisition import Scan
from stemd.adapters.recordings.bands import is_lazy
from stemd.api import plan
from stemd.api.arrays import READERS, open_array, sound_array
from stemd.api.images import About, Image, Images, StemdWarning
from stemd.api.plan import EnginesLike, OpticsLike, ScanLike
from stemd.api.progress import ProgressLike, showing
from stemd.errors import FormatError, StemdError, UsageError

if TYPE_CHECKING:
    from stemd.adapters.base import AdapterSettings, Recording
    from stemd.blocks import Notice
    from stemd.config.resolved import EngineConfig
    from stemd.offline.outcome import Outcome
    from stemd.results import Snapshot
    from stemd.scan.run import ScanRun
    from stemd.settings import Settings
    from stemd.storage.recorded import RecordedScan


@dataclass(frozen=True, slots=True)
class Part:
    """What of a file is meant: the scan with this number, the array with this name."""

    scan_number: int | None = None
    dataset: str | None = None


WHOLE = Part()


def process(
    data: Any,
    engines: EnginesLike = None,
    *,
    scan: ScanLike = None,
    optics: OpticsLike = None,
    camera: Mapping[str, Any] | None = None,
    correct: bool | str = False,
    jobs: int | None = None,
    progress: ProgressLike = None,
    scan_number: int | None = None,
    dataset: str | None = None,
) -> Images:
    """The images of all `engines`, bit for bit those that `stemd process` writes.

    `data`: array or path, see `stemd.api`. `engines`: names (`["ricom", "com"]`), names with
    settings (`"ricom:kernel_size=61"`), tables as in a config (`{"type": "ricom",
    "kernel_size": 61}`), or `{name: settings}`; default `com`, `ricom`, `icom`, `sum`, `pacbed`.
    `scan`: (ny, nx), a `Scan`, or its keys; of an array in 4D, and of files that know it, the
    shape may be left out. `optics`: an `Optics` or its keys. `camera`: settings of the camera
    that wrote a file, as `[pipeline.adapter]` of a config, where the file does not tell
    them (line pulses of an event camera). `correct`: correct the probe positions by a restored
    image, True for the first one, or the name of the image. `jobs`: threads, default one a free
    processor; the images do not depend on it. `progress`: True or False, or a function of
    (done, total); default: a bar in a terminal or notebook when it takes long. `scan_number`:
    which scan of a file that holds several, from 1; default the first, and `notices` say that
    there are others. `dataset`: the patterns of a file of several arrays, as `--dataset`.

    An engine that fails is named in a StemdWarning and in `failed`, and the images of the others
    are returned. Raises StemdError where there is no image at all, the data are not counts, or
    something that was asked for is wrong. Ctrl-C ends it; no thread works on afterwards.
    """
    chosen = plan.engines_of(engines)
    part = Part(scan_number, dataset)
    images, errors = made(data, chosen, optics, scan, camera, correct, jobs, progress, part)
    if errors and not images:
        raise next(iter(errors.values()))
    for name, error in errors.items():
        warnings.warn(f"engine {name} failed: {error}", StemdWarning, stacklevel=2)
    return images


def made(
    data: Any,
    engines: list[EngineConfig],
    optics: OpticsLike,
    scan: ScanLike,
    camera: Mapping[str, Any] | None,
    correct: bool | str,
    jobs: int | None,
    progress: ProgressLike,
    part: Part = WHOLE,
) -> tuple[Images, dict[str, StemdError]]:
    """The images, and the errors of engines that have failed.

    Raises FormatError for a scan in which there is nothing.
    """
    from stemd.offline.outcome import outcome_of
    from stemd.scan.processing import no_hits, process_recording, with_correction

    _quiet_logs()
    threads = plan.jobs_of(jobs, most=READERS if is_lazy(data) else None)
    errors: dict[str, StemdError] = {}
    notices: list[str] = []

    def failed(engine: str, error: StemdError) -> None:
        errors[engine] = error

    def said(notice: Notice) -> None:
        notices.append(notice.text + (f" ({notice.remedy})" if notice.remedy else ""))

    known = beside(data)
    with opened(data, scan, plan.camera_of(camera), part) as (recording, asked):
        seen = plan.optics_of(optics, known.optics if known else None)
        settings = plan.settings_of(engines, seen, asked)
        notices += [text for each in recording.notices if (text := getattr(each, "text", ""))]
        with showing(progress, recording.acquisition.source) as update:
            run, final = process_recording(
                recording, settings, engines, threads, update, report=failed, notice=said
            )
            if run.is_empty:
                none = no_hits()
                raise FormatError(f"{recording.acquisition.source}: {none.text}", none.remedy)
            if correct:
                final = with_correction(run, final, correct if isinstance(correct, str) else None)
    for name, why in run.failed.items():
        errors.setdefault(name, StemdError(f"engine {name}: {why}"))
    return _images(run, run.settings, outcome_of(run), final, tuple(dict.fromkeys(notices))), errors


@contextlib.contextmanager
def opened(
    data: Any, scan: ScanLike, camera: AdapterSettings | None = None, part: Part = WHOLE
) -> Iterator[tuple[Recording, Scan | None]]:
    """The data as a recording, and the scan that was asked for.

    Raises UsageError for what is neither array nor path, FormatError for a file that is not what
    its suffix says.
    """
    from stemd.adapters.files import open_recording
    from stemd.adapters.recordings.address import recording_path
    from stemd.adapters.scan_choice import chosen_scan

    if not isinstance(data, str | os.PathLike):
        if part != WHOLE:
            raise UsageError("scan_number and dataset are for files", "index the array instead")
        array = sound_array(data)
        whole = _scan_of_array(array, scan)
        yield open_array(array, whole), whole
        return
    path = recording_path(os.fspath(data))
    if isinstance(path, Path):
        path = path.expanduser()
        if (path / "scan.json").is_file():
            raise UsageError(
                f"{path} is the folder of a scan", "api.open_scan(folder).process(...) reads it"
            )
    known = beside(path)
    if known is not None:
        camera = camera or known.camera
    asked = None
    if known is not None and not isinstance(scan, Scan):
        asked = plan.scan_of(scan, known.scan.model_dump(exclude_none=True))
    elif isinstance(scan, Mapping) and "shape" not in scan:
        with contextlib.closing(open_recording(path, None, camera, part.dataset)) as first:
            asked = plan.scan_of(scan, first.acquisition.scan.model_dump())
    else:
        asked = plan.scan_of(scan)
    with contextlib.closing(open_recording(path, asked, camera, part.dataset)) as recording:
        yield chosen_scan(recording, path, part.scan_number), asked


def beside(data: Any) -> RecordedScan | None:
    """What the scan.json beside a recording says of it; None where there is none."""
    if isinstance(data, Path) or (isinstance(data, str | os.PathLike) and "://" not in str(data)):
        from stemd.storage.recorded import recorded_scan

        return recorded_scan(Path(data).expanduser())
    return None


def _scan_of_array(array: Any, scan: ScanLike) -> Scan:
    """A scan of an array: a frame belongs to no position only where somebody says so."""
    known: dict[str, Any] = {"flyback": 0}
    if array.ndim == 4:
        known["shape"] = [int(n) for n in array.shape[:2]]
    elif scan is None:
        n = int(array.shape[0])
        side = next(side for side in range(int(n**0.5), 0, -1) if n % side == 0)
        raise UsageError(
            f"the array has {n} patterns in a row, and nothing says how they lie in the scan",
            f"give lines and columns, for example scan=({side}, {n // side})",
        )
    found = plan.scan_of(scan, known)
    assert found is not None
    return found if found.flyback is not None else found.model_copy(update={"flyback": 0})


def _images(
    run: ScanRun, settings: Settings, outcome: Outcome, final: Snapshot, notices: tuple[str, ...]
) -> Images:
    acquisition = run.acquisition
    about = About(
        id=acquisition.id,
        source=acquisition.source,
        scan=acquisition.scan,
        optics=settings.optics,
        detector_shape=acquisition.detector.shape,
        status=outcome.status,
        positions_done=outcome.positions_done,
        positions_total=int(outcome.done.size),
        notices=notices,
    )
    write = partial(_write, outcome, final, settings)
    images = [Image.of(result, about) for result in final.results]
    return Images(images, about, dict(run.failed), write)


def _write(outcome: Outcome, final: Snapshot, settings: Settings, folder: Path) -> None:
    from stemd.offline.outcome import settings_json, write_run
    from stemd.storage.files import DiskError

    try:
        write_run(outcome, final, folder, settings_json(settings))
    except DiskError as error:
        raise error.of_option("save(FOLDER)") from error


def _quiet_logs() -> None:
    """A notebook wants no log on its page; who has set up structlog keeps what he has."""
    import structlog

    if not structlog.is_configured():
        from stemd.logs import warnings_to_stderr

        warnings_to_stderr()
