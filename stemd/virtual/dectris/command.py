"""The command line of the virtual DECTRIS camera."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.errors import UsageError
from stemd.virtual import microscope_arguments, server_arguments
from stemd.virtual.argument_types import count, port, probability

if TYPE_CHECKING:
    from stemd.virtual.dectris.frames import Source

HELP = "a virtual DECTRIS camera: a ZeroMQ stream of compressed images, SIMPLON on a control port"
EXAMPLE = "stemd virtual dectris --scan 128x128 --detector 96x96 --rate 20000 --port 31001"

STREAM2_PORT, CONTROL_PORT = 31001, 8080
DTYPES = {"u8": "u1", "u16": "u2", "u32": "u4"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    microscope_arguments.add_microscope(parser)
    server_arguments.add_server(parser)
    group = parser.add_argument_group("DECTRIS")
    group.add_argument("--port", type=port, default=STREAM2_PORT, help="stream, 0: any (31001)")
    group.add_argument(
        "--control-port",
        type=port,
        help=f"SIMPLON, 0: any free one ({CONTROL_PORT}; any free one with --port 0)",
    )
    group.add_argument(
        "--stream",
        choices=("cbor", "legacy", "told"),
        default="cbor",
        help="cbor: stream2, legacy: JSON, told: what SIMPLON is told (cbor)",
    )
    group.add_argument("--dtype", choices=tuple(DTYPES), default="u16", help="pixels (u16)")
    group.add_argument(
        "--compression",
        choices=("bslz4", "lz4", "none"),
        default="bslz4",
        help="of the images (default: bslz4)",
    )
    group.add_argument("--wait-for-start", action="store_true", help="only make armed series")
    group.add_argument("--file", type=Path, metavar="F", help="replay this raw.dectris instead")
    group.add_argument(
        "--pool",
        type=count,
        default=0,
        metavar="N",
        help="render N images once and repeat them: speed tests, the images mean nothing",
    )
    group = parser.add_argument_group("faults")
    group.add_argument(
        "--drop", type=probability, default=0.0, metavar="P", help="share of lost images"
    )
    group.add_argument(
        "--damage", type=probability, default=0.0, metavar="P", help="share of damaged images"
    )
    group.add_argument(
        "--garbage", type=probability, default=0.0, metavar="P", help="junk between images"
    )
    group.add_argument("--stall-after", type=count, metavar="N", help="send nothing after N images")
    group.add_argument("--stop-early", type=count, metavar="N", help="end each series after N")
    group.add_argument("--steal", action="store_true", help="another client gets every second one")
    group.add_argument("--no-start", action="store_true", help="series begin without a message")
    group.add_argument("--no-end", action="store_true", help="series end without a message")


def _source(args: argparse.Namespace) -> Source:
    from stemd.virtual.dectris.frames import MessageSource
    from stemd.virtual.dectris.recorded import RecordSource
    from stemd.virtual.microscope import Microscope

    if args.file is not None:
        if args.truth is not None:
            raise UsageError(
                "--truth has nothing to say about a recording", "leave --file or --truth out"
            )
        return RecordSource(args.file)
    microscope = Microscope(microscope_arguments.setup(args))
    microscope_arguments.write_truth(microscope, args)
    return MessageSource(microscope, DTYPES[args.dtype], args.compression, args.pool)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped or done. Raises StemdError."""
    from stemd.virtual.dectris.camera import DectrisCamera, DectrisRunning
    from stemd.virtual.faults import Faults

    source = _source(args)
    control_port = args.control_port
    if control_port is None:
        control_port = CONTROL_PORT if args.port else 0
    running = DectrisRunning(
        **server_arguments.running(args),
        control_port=control_port,
        stream_format=None if args.stream == "told" else args.stream,
        wait_for_start=args.wait_for_start,
        faults=Faults(
            drop=args.drop,
            garbage=args.garbage,
            stall_after=args.stall_after,
            stop_early=args.stop_early,
            seed=args.seed,
        ),
        damage=args.damage,
        steal=args.steal,
        no_start=args.no_start,
        no_end=args.no_end,
    )
    camera = DectrisCamera(source, running)
    with server_arguments.closing_on_signals(camera.close):
        server_arguments.report(
            args,
            "ready",
            host=args.host,
            data_port=camera.data_port,
            control_port=camera.control_port,
        )
        camera.run()
    return 0
