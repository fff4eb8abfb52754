"""The command line of the virtual Merlin camera."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.errors import UsageError
from stemd.virtual import microscope_arguments, server_arguments
from stemd.virtual.argument_types import count, port, probability

if TYPE_CHECKING:
    from stemd.aberrations import Aberrations
    from stemd.virtual.faults import Faults
    from stemd.virtual.merlin.frames import FrameSource

HELP = "a virtual Merlin camera: frames on a data port, commands on a control port"
EXAMPLE = "stemd virtual merlin --scan 128x128 --rate 4000 --port 6342 --truth truth"

CONTROL_PORT = 6341
DEPTHS = {"U08": (6, 1), "U16": (12,), "U32": (24,), "R64": (12, 1, 6, 24)}
"""Counter depths that go with each pixel type, the usual one first."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    microscope_arguments.add_microscope(parser)
    server_arguments.add_server(parser)
    group = parser.add_argument_group("Merlin")
    group.add_argument("--port", type=port, default=6342, help="data, 0: any (6342)")
    group.add_argument(
        "--control-port",
        type=port,
        help=f"0: any free one ({CONTROL_PORT}; any free one with --port 0)",
    )
    group.add_argument("--dtype", choices=tuple(DEPTHS), default="U16", help="pixels (U16)")
    group.add_argument("--depth", type=count, metavar="BITS", help="1, 6, 12 or 24")
    group.add_argument(
        "--wait-for-start", action="store_true", help="acquire on STARTACQUISITION only"
    )
    group.add_argument("--file", type=Path, metavar="F", help="replay this .mib file instead")
    group.add_argument(
        "--pool",
        type=count,
        default=0,
        metavar="N",
        help="render N patterns once and repeat them: speed tests, the images mean nothing",
    )
    group = parser.add_argument_group("faults")
    group.add_argument(
        "--drop", type=probability, default=0.0, metavar="P", help="share of lost frames"
    )
    group.add_argument(
        "--garbage", type=probability, default=0.0, metavar="P", help="junk between frames"
    )
    group.add_argument("--stall-after", type=count, metavar="N", help="send nothing after N frames")
    group.add_argument("--stop-early", type=count, metavar="N", help="end each scan after N frames")
    group.add_argument("--lie-length", type=count, metavar="N", help="frame with a wrong length")
    group.add_argument("--pad-space", action="store_true", help="headers padded with spaces")
    group.add_argument("--junk-first", action="store_true", help="junk before the first message")


def _faults(args: argparse.Namespace) -> Faults:
    from stemd.virtual.faults import Faults

    return Faults(
        drop=args.drop,
        garbage=args.garbage,
        stall_after=args.stall_after,
        stop_early=args.stop_early,
        lie_length=args.lie_length,
        pad_space=args.pad_space,
        junk_first=args.junk_first,
        seed=args.seed,
    )


def _source(args: argparse.Namespace) -> tuple[FrameSource, Callable[[Aberrations], None]]:
    """Where frames come from, and what moves its lens."""
    from stemd.adapters.merlin.encoder import Camera
    from stemd.virtual.merlin.frames import FileSource, RenderedSource
    from stemd.virtual.microscope import Microscope

    if args.file is not None:
        if args.truth is not None:
            raise UsageError(
                "--truth has nothing to say about a recording", "leave --file or --truth out"
            )
        return FileSource(args.file), lambda change: None
    depth = args.depth or DEPTHS[args.dtype][0]
    raw = args.dtype == "R64"
    if depth not in DEPTHS[args.dtype]:
        raise UsageError(
            f"--depth {depth} does not go with --dtype {args.dtype}",
            f"allowed are {', '.join(map(str, sorted(DEPTHS[args.dtype])))}",
        )
    height, width = args.detector
    chips = 1 if width <= 256 else 4
    if raw and (height, width) not in ((256, 256), (512, 512)):
        raise UsageError(
            f"raw frames of {height} x {width} pixels do not exist",
            "choose --detector 256x256 or 512x512 with --dtype R64",
        )
    microscope = Microscope(microscope_arguments.setup(args))
    microscope_arguments.write_truth(microscope, args)
    camera = Camera(args.detector, depth, raw, chips, int(microscope.setup.frame_time_s * 1e9))
    return RenderedSource(microscope, camera, args.pool, args.pad_space), microscope.move


def run(args: argparse.Namespace) -> int:
    """Serve until stopped or done. Raises StemdError."""
    from stemd.virtual.drives import driven
    from stemd.virtual.merlin.camera import MerlinCamera, MerlinRunning

    source, move = _source(args)
    control_port = args.control_port
    if control_port is None:
        control_port = CONTROL_PORT if args.port else 0
    running = MerlinRunning(
        **server_arguments.running(args),
        control_port=control_port,
        wait_for_start=args.wait_for_start,
        faults=_faults(args),
    )
    camera = MerlinCamera(source, running)
    with server_arguments.closing_on_signals(camera.close), driven(args.drives, move):
        server_arguments.report(
            args,
            "ready",
            host=args.host,
            data_port=camera.data_port,
            control_port=camera.control_port,
        )
        camera.run()
    return 0
