"""`stemd export`: a recording as the files of its vendor's own format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stemd.errors import FormatError, UsageError

EXAMPLE = "stemd export stemd-data/2026-01-01/SCAN/raw.dectris --out vendor"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a raw.dectris")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--channel", default="", metavar="NAME", help="of several, e.g. threshold_2"
    )


def run(args: argparse.Namespace) -> int:
    """Write the files and print their names. Raises StemdError."""
    from stemd.acquisition import Scan
    from stemd.adapters.dectris.hdf5 import write_hdf5
    from stemd.adapters.dectris.recording import DectrisRecording

    if args.file.suffix != ".dectris":
        raise UsageError(
            f"{args.file} is no record of a DECTRIS stream",
            "name a raw.dectris; other records are their vendors' own formats already",
        )
    try:
        # of what scan the images are does not matter here: this one fits any number of them
        recording = DectrisRecording(args.file, Scan(shape=(1, 1), flyback=0), args.channel)
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            name = args.file.stem if args.file.stem != "raw" else args.file.resolve().parent.name
            made = write_hdf5(recording, args.out, name)
        finally:
            recording.close()
    except OSError as error:
        raise FormatError(
            f"{args.file}: {error}", "check the file, and the disk's space"
        ) from error
    sys.stdout.writelines(f"{path}\n" for path in made)
    return 0
