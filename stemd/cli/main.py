"""The `stemd` command: finds the command's module, runs it, turns errors into text and codes."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from stemd import __version__
from stemd.cli.interrupted import (
    BROKEN_PIPE,
    INTERRUPTED,
    TERMINATED,
    Terminated,
    is_of_output,
    sigterm_interrupts,
)
from stemd.errors import StemdError
from stemd.portable import needs_unix

COMMANDS = {
    "demo": "see stemd work on a virtual microscope; nothing else is needed",
    "run": "run the daemon with the pipelines of a config file",
    "check": "list all errors of a config file or a recording",
    "schema": "print a config to begin with, every key, or the JSON Schema for editors",
    "plugins": "list adapters, engines, sinks and backends, and which can be used",
    "process": "make images from recorded files with the same engines",
    "restore": "restore images, and sum repeated frames of one place",
    "export": "write a recording as the files of its vendor's own format",
    "models": "list networks, check one on a backend, import published weights",
    "virtual": "run a virtual camera that speaks a real camera's protocol",
    "bench": "measure this machine, and how near stemd comes to its limits",
    "scans": "list the scans of a data folder, show one, verify checksums",
    "install-service": "install systemd units for this stemd",
}
ENDLESS = ("demo", "run", "virtual")
"""Commands whose usual end is Ctrl-C or SIGTERM: they see to both themselves, and end with 0."""

OF_UNIX = ("demo", "run", "bench", "install-service")
"""Commands that Windows cannot run."""


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
    """Run a command; returns the exit code: 0 well, 1 failed, 2 not understood.

    130, 141 and 143 for one that was cut off by Ctrl-C, by the end of a pipe, by SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        _parser().parse_args(arguments or ["--help"])
        return 2
    name = arguments[0]
    # of pydantic's: it would look through all that is installed for them, 20 ms of each start
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
    if name in ENDLESS:
        # until they do, as while they are imported, nothing has begun that would have to end
        with contextlib.suppress(KeyboardInterrupt), sigterm_interrupts():
            return _run(name, arguments[1:])
        return 0
    try:
        with sigterm_interrupts():
            return _run(name, arguments[1:])
    except Terminated:
        code, why = TERMINATED, "SIGTERM"
    except KeyboardInterrupt:
        code, why = INTERRUPTED, "Ctrl-C"
    sys.stderr.write(f"stemd {name}: ended by {why} before its work was done\n")
    return code


def parser_of(name: str) -> argparse.ArgumentParser:
    """What a command takes, with its example as epilog."""
    module = _module(name)
    parser = argparse.ArgumentParser(
        prog=f"stemd {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        epilog=f"Example: {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    return parser


def _run(name: str, arguments: Sequence[str]) -> int:
    module = _module(name)
    parser = parser_of(name)
    try:
        parsed = parser.parse_args(arguments)
        if name in OF_UNIX:
            needs_unix(name)
        code = int(module.run(parsed))
        sys.stdout.flush()
    except StemdError as error:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        sys.stderr.write(f"stemd {name}: {error}\n")
        return error.exit_code
    except OSError as error:
        if not is_of_output(error):
            raise
        # what waits in the buffer cannot be written: without this the interpreter complains
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        sys.stderr.write(f"stemd {name}: its output cannot be written: {error.strerror}\n")
        return 1
    return code
