"""The command line of the virtual Timepix3 camera."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stemd.errors import UsageError
from stemd.virtual import microscope_arguments, server_arguments
from stemd.virtual.argument_types import count, not_negative, port, probability

if TYPE_CHECKING:  # it compiles kernels, which --help need not wait for
    from stemd.virtual.timepix3.events import EventSource

HELP = "a virtual Timepix3 camera: raw chunks of time-stamped hits and line pulses over TCP"
EXAMPLE = "stemd virtual timepix3 --scan 128x128 --dose 50 --rate 100000 --port 8451"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    microscope_arguments.add_microscope(parser)
    server_arguments.add_server(parser)
    group = parser.add_argument_group("Timepix3")
    group.add_argument("--port", type=port, default=8451, help="0: any free one (8451)")
    group.add_argument(
        "--layout", choices=("single", "quad"), default="single", help="one chip, or 2 x 2"
    )
    group.add_argument("--gap-pixels", type=count, default=0, metavar="N", help="between the chips")
    group.add_argument("--fall", action="store_true", help="pulses mark the end of lines too")
    group.add_argument("--all-chips", action="store_true", help="pulses come on every chip")
    group.add_argument(
        "--start-time", type=not_negative, default=0.5, metavar="S", help="first time of the clock"
    )
    group.add_argument("--split", type=probability, default=0.0, metavar="P", help="2-pixel hits")
    group.add_argument("--file", type=Path, metavar="F", help="replay this .tpx3 file instead")
    group.add_argument("--repeat", action="store_true", help="render one scan and repeat it")
    group = parser.add_argument_group("faults")
    group.add_argument(
        "--pulse-jitter",
        type=not_negative,
        default=0.0,
        metavar="NS",
        help="standard deviation of the line pulses' times",
    )
    group.add_argument(
        "--disorder", type=not_negative, default=0.0, metavar="US", help="late words"
    )
    group.add_argument("--hot", type=count, default=0, metavar="N", help="hot pixels")
    group.add_argument(
        "--drop-pulses", type=probability, default=0.0, metavar="P", help="lost line pulses"
    )
    group.add_argument(
        "--clock-reset-after", type=count, metavar="LINES", help="the clock begins again at 0"
    )
    group.add_argument("--drop", type=probability, default=0.0, metavar="P", help="lost pieces")
    group.add_argument(
        "--garbage", type=probability, default=0.0, metavar="P", help="junk between words"
    )


def _source(args: argparse.Namespace) -> EventSource:
    from stemd.adapters.events.layout import Layout
    from stemd.virtual.microscope import Microscope
    from stemd.virtual.timepix3.events import FileEvents, RenderedEvents, RepeatedEvents, Signals

    setup = microscope_arguments.setup(args)
    if args.file is not None:
        if args.truth is not None:
            raise UsageError(
                "--truth has nothing to say about a recording", "leave --file or --truth out"
            )
        return FileEvents(args.file, setup.scan.frames)
    microscope = Microscope(setup)
    microscope_arguments.write_truth(microscope, args)
    signals = Signals(
        Layout(args.layout, args.gap_pixels if args.layout == "quad" else 0),
        start_s=args.start_time,
        pulse_jitter_ns=args.pulse_jitter,
        disorder_us=args.disorder,
        fall=args.fall,
        all_chips=args.all_chips,
        split=args.split,
        hot=args.hot,
        drop_pulses=args.drop_pulses,
        reset_after=args.clock_reset_after,
        seed=args.seed,
    )
    rendered = RenderedEvents(microscope, signals, args.gap)
    return RepeatedEvents(rendered) if args.repeat else rendered


def run(args: argparse.Namespace) -> int:
    """Serve until stopped or done. Raises StemdError."""
    from stemd.virtual.timepix3.camera import Timepix3Camera, Timepix3Running

    camera = Timepix3Camera(
        _source(args),
        Timepix3Running(
            **server_arguments.running(args), drop=args.drop, garbage=args.garbage, seed=args.seed
        ),
    )
    with server_arguments.closing_on_signals(camera.close):
        server_arguments.report(args, "ready", host=args.host, data_port=camera.data_port)
        camera.run()
    return 0
