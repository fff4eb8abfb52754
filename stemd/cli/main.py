"""The `stemd` command: finds the command's module, runs it, turns errors into text and codes."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from stemd import __version__
from stemd.errors import StemdError

COMMANDS = {
    "demo": "watch a virtual microscope live: nothing else to install",
    "run": "the daemon: run the pipelines of a config file",
    "check": "everything that is wrong with a config file or a recording",
    "schema": "the JSON Schema of the config file, for editors",
    "plugins": "adapters and engines, and whether they can be used here",
    "process": "run recorded files through the same engines",
    "models": "networks: list, check on a backend, import published weights",
    "virtual": "a virtual detector that speaks a camera's protocol",
    "bench": "measure this machine and every kernel against its limit",
    "scans": "list the scans of a data folder, show one, verify checksums",
    "install-service": "put the systemd units of this stemd in place",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stemd",
        description="Live 4D-STEM images from the camera's socket to MQTT, disk and a page.",
        epilog="Example: stemd demo",
    )
    parser.add_argument("--version", action="version", version=f"stemd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _module(name: str) -> Any:
    return importlib.import_module(f"stemd.cli.{name.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 well, 1 failed, 2 not understood."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        _parser().parse_args(arguments or ["--help"])
        return 2
    name = arguments[0]
    module = _module(name)
    parser = argparse.ArgumentParser(
        prog=f"stemd {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        epilog=f"Example: {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    try:
        return int(module.run(parser.parse_args(arguments[1:])))
    except StemdError as error:
        sys.stdout.flush()
        sys.stderr.write(f"stemd {name}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 0
    except BrokenPipeError:
        sys.stderr.close()
        return 0
