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
    "demo": "see stemd work on a virtual microscope; nothing else is needed",
    "run": "run the daemon with the pipelines of a config file",
    "check": "list all errors of a config file or a recording",
    "schema": "print the JSON Schema of the config file, for editors",
    "plugins": "list adapters, engines, sinks and backends, and which can be used",
    "process": "make images from recorded files with the same engines",
    "models": "list networks, check one on a backend, import published weights",
    "virtual": "run a virtual camera that speaks a real camera's protocol",
    "bench": "measure this machine, and how near stemd comes to its limits",
    "scans": "list the scans of a data folder, show one, verify checksums",
    "install-service": "install systemd units for this stemd",
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
