"""`stemd restore`: images of any microscope restored, repeated frames summed first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.cli.interrupted import Undone
from stemd.errors import StemdError, UsageError
from stemd.wording import one_of

if TYPE_CHECKING:
    from stemd.offline.restoring.sources import Series
    from stemd.offline.restoring.work import Choice

_POSITIVE = ("frame_time_s", "pixel_size_angstrom", "dwell_time_us", "line_time_us", "threads")
EXAMPLE = "stemd restore series/*.tif --frames align --out restored"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="TIFF, MRC, DM3, DM4, EMD or SER, also stacks; a folder stands for the images in it",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("restored"), help="default: restored")
    parser.add_argument(
        "--frames", choices=("each", "align"), default="each",
        help="each: every image by itself (default); align: the images of a stack, or of all "
        "files, are frames of one place: their shifts are measured, and their sum is restored",
    )  # fmt: skip
    parser.add_argument("--frame-time-s", type=float, metavar="S", help="from frame to frame")
    parser.add_argument("--pixel-size-angstrom", type=float, metavar="A", help="default: the file")
    parser.add_argument(
        "--dwell-time-us", type=float, metavar="US",
        help="from pixel to pixel: of single images mains hum is undone (default: what the "
        "file says: DM, Velox, stemd)",
    )  # fmt: skip
    parser.add_argument(
        "--line-time-us", type=float, metavar="US",
        help="from line to line, the way back included (default: no way back)",
    )  # fmt: skip
    parser.add_argument(
        "--lines", choices=("auto", "x", "y"), default="auto",
        help="axis along which the beam ran: x in an image as it was scanned, y in one that lies "
        "on its side; auto: what displaced lines and slow detectors show (default)",
    )  # fmt: skip
    parser.add_argument("--model", default="restoration", help="a name of `stemd models`, a path")
    parser.add_argument("--backend", default="auto", help="tensorrt, openvino or onnxruntime")
    parser.add_argument("--device", type=int, default=0, metavar="N", help="number of the GPU")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--no-png", action="store_true", help="no PNG beside each TIFF")
    parser.add_argument("--json", action="store_true", help="a document an image, as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Restore all images. A file that fails is reported, the others are restored."""
    from stemd.logs import warnings_to_stderr
    from stemd.offline.restoring.sources import files_of
    from stemd.offline.restoring.work import Choice
    from stemd.typed import LEAST, MOST

    warnings_to_stderr()
    for key in _POSITIVE:
        value = getattr(args, key)
        option = f"--{key.replace('_', '-')}"
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{option} {value} must be above 0", f"give a number, or no {option}")
        if value is not None and not LEAST <= value <= MOST:
            raise UsageError(
                f"{option} {value:g} must be from {LEAST:g} to {MOST:g}",
                f"give it in the unit that it names, or no {option}",
            )
    if args.line_time_us is not None and args.dwell_time_us is None:
        raise UsageError("--line-time-us needs --dwell-time-us", "give both")
    if args.backend not in ("auto", "tensorrt", "openvino", "onnxruntime"):
        raise UsageError(
            f"there is no backend {args.backend!r}", "auto, tensorrt, openvino or onnxruntime"
        )
    choice = Choice(
        args.model, args.backend, args.threads, args.device, args.frame_time_s,
        args.pixel_size_angstrom, args.dwell_time_us, args.line_time_us, args.lines,
    )  # fmt: skip
    files = files_of(args.files)
    folders = _folders(files, args.out)
    with Undone("restore", "not restored", {path: path for path in files}) as undone:
        if args.frames == "align":
            return _together(args, files, folders, choice, undone)
        return min(1, sum(_one(args, path, folders[path], choice, undone) for path in files))


def _one(args: argparse.Namespace, path: Path, folder: Path, choice: Choice, undone: Undone) -> int:
    """Each image of a file; 1 where it has failed."""
    from stemd.offline.restoring.sources import each_alone

    failed = _each(args, each_alone(path), {path: folder}, choice, str(path))
    if not failed:
        undone.done(path)
    return failed


def _together(
    args: argparse.Namespace,
    files: list[Path],
    folders: dict[Path, Path],
    choice: Choice,
    undone: Undone,
) -> int:
    """All images as frames; 1 where it has failed."""
    from stemd.offline.restoring.sources import together

    series = together(files)
    if all(len(each.pictures) == 1 for each in series):
        raise UsageError(
            "--frames align: there is only one image of each kind", "name a stack, or more files"
        )
    failed = _each(args, series, folders, choice, one_of(f"{len(files)} files"))
    if not failed:
        for path in files:
            undone.done(path)
    return failed


def _each(
    args: argparse.Namespace,
    series: Iterable[Series],
    folders: dict[Path, Path],
    choice: Choice,
    name: str,
) -> int:
    from stemd.cli.process_bar import FileBar
    from stemd.documents import to_json
    from stemd.offline.restoring.notes import notes
    from stemd.offline.restoring.work import restored, write
    from stemd.storage.files import DiskError

    try:
        with FileBar(name, quiet=args.json) as bar:
            for number, each in enumerate(series, 1):
                made = restored(each, choice)
                try:
                    written = write(made, folders[each.source], pictures=not args.no_png)
                except OSError as error:
                    raise UsageError(
                        f"--out {args.out}: {error.strerror or error}", "name another folder"
                    ) from error
                bar.update(number, number)
                if args.json:
                    sys.stdout.write(to_json(made.document) + "\n")
                    continue
                sys.stdout.writelines(f"{line}\n" for line in _report(made.document, written))
                sys.stderr.writelines(
                    f"stemd restore: {made.document['source']}: {note}\n"
                    for note in notes(made.document)
                )
    except StemdError as error:
        if isinstance(error, DiskError):
            error = error.of_option("--out")
        sys.stderr.write(f"stemd restore: {error}\n")
        return 1
    return 0


def _report(document: dict[str, object], written: list[Path]) -> Iterator[str]:
    """A few lines for a person: what was made, and of frames what was measured."""
    yield f"{document['source']}: {written[0].parent}/{', '.join(path.name for path in written)}"
    if document["frames"] == 1:
        return
    used = document["used"]
    assert isinstance(used, list)
    yield f"  {sum(used)} of {len(used)} frames"
    drift = document.get("drift_nm_per_s")
    if isinstance(drift, dict):
        y, x = drift["value"]
        yield f"  drift {y:+.3g}, {x:+.3g} nm/s (y, x)"
    for key, unit in (("resolution_nm", "nm"), ("resolution_px", "pixels")):
        value = document.get(key)
        if isinstance(value, float):
            yield f"  resolution {value:.3g} {unit} (ring correlation of halves)"
            break


def _folders(files: list[Path], out: Path) -> dict[Path, Path]:
    """The folder for each file's images, named after it. Raises UsageError where two have one."""
    folders: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for path in files:
        other = taken.setdefault(path.stem, path)
        if other != path:
            raise UsageError(
                f"{other} and {path} would both be written to {out / path.stem}",
                "restore them in two calls with different --out",
            )
        folders[path] = out / path.stem
    return folders
