"""The command line of a virtual camera that is known by its encoder alone."""

from __future__ import annotations

import argparse

from stemd.plugins import Plugin
from stemd.virtual import argument_types, microscope_arguments, server_arguments
from stemd.virtual.argument_types import count, probability


class FrameCommand:
    """Has what the module of a camera's own command has: HELP, EXAMPLE, configure, run."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self.HELP = f"a virtual {plugin.name} camera: {plugin.summary}"
        self.EXAMPLE = f"stemd virtual {plugin.name} --scan 64x64 --rate 1000 --port 0"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        microscope_arguments.add_microscope(parser)
        server_arguments.add_server(parser)
        port = self._plugin.settings.model_fields["port"]
        usual = 0 if port.is_required() else port.default
        group = parser.add_argument_group("data")
        group.add_argument(
            "--port", type=argument_types.port, default=usual, help=f"0: any free one ({usual})"
        )
        group = parser.add_argument_group("faults")
        group.add_argument(
            "--drop", type=probability, default=0.0, metavar="P", help="share of lost frames"
        )
        group.add_argument(
            "--garbage",
            type=probability,
            default=0.0,
            metavar="P",
            help="share of frames with junk before them",
        )
        group.add_argument(
            "--stop-early", type=count, metavar="N", help="end each scan after N frames"
        )

    def run(self, args: argparse.Namespace) -> int:
        """Serve until stopped or done. Raises StemdError."""
        from stemd.virtual.faults import Faults
        from stemd.virtual.frames.camera import FrameCamera, FrameRunning
        from stemd.virtual.microscope import Microscope

        faults = Faults(
            drop=args.drop, garbage=args.garbage, stop_early=args.stop_early, seed=args.seed
        )
        microscope = Microscope(microscope_arguments.setup(args))
        microscope_arguments.write_truth(microscope, args)
        assert self._plugin.encode is not None
        running = FrameRunning(**server_arguments.running(args), faults=faults)
        camera = FrameCamera(microscope, self._plugin.encode, running)
        with server_arguments.closing_on_signals(camera.close):
            server_arguments.report(args, "ready", host=args.host, data_port=camera.data_port)
            camera.run()
        return 0
