"""`stemd install-service`: the systemd units of this stemd, put where systemd finds them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLE = "sudo stemd install-service"

UNITS = {
    "stemd.service": "etc/systemd/system/stemd.service",
    "stemd@.service": "etc/systemd/system/stemd@.service",
    "stemd.sysusers": "etc/sysusers.d/stemd.conf",
}
_EXECUTABLE = "/opt/stemd/bin/stemd"
_PACKAGED = Path(__file__).parents[1] / "daemon" / "units"
_IN_THE_SOURCE = Path(__file__).parents[2] / "systemd"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="install below DIR (an image)"
    )
    parser.add_argument(
        "--executable",
        type=Path,
        metavar="STEMD",
        help="what the units start (default: this stemd)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files and say what to do next. Raises UsageError, SinkError."""
    from stemd.errors import UsageError
    from stemd.storage.files import DiskError

    executable: Path = args.executable or Path(sys.argv[0]).absolute()
    if not executable.is_absolute() or set(str(executable)) & set(" %\"'\\\n"):
        raise UsageError(
            f"--executable {str(executable)!r} cannot be used in a unit",
            "give an absolute path without spaces, quotes and percent signs",
        )
    if executable.is_relative_to("/root") or executable.is_relative_to("/home"):
        raise UsageError(
            f"{executable} lies in a home directory, which a service may not read",
            "install stemd into /opt/stemd: /usr/bin/python3 -m venv /opt/stemd",
        )
    try:
        paths = install(args.root, executable)
    except DiskError as error:
        raise error.of_option("--root") from error
    for path in paths:
        sys.stdout.write(f"written  {path}\n")
    sys.stdout.write(
        "next:  systemd-sysusers\n"
        "       write /etc/stemd/stemd.toml (stemd check validates it), data_dir /var/lib/stemd\n"
        "       systemctl daemon-reload && systemctl enable --now stemd\n"
    )
    return 0


def install(root: Path, executable: Path) -> list[Path]:
    """Write every unit below `root`; returns their paths. Raises SinkError."""
    from stemd.storage.files import disk_error, write_atomic

    source = _PACKAGED if _PACKAGED.is_dir() else _IN_THE_SOURCE
    written = []
    for name, place in UNITS.items():
        text = (source / name).read_text(encoding="utf-8")
        target = root / place
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, "make the folder", target.parent) from error
        write_atomic(target, [text.replace(_EXECUTABLE, str(executable)).encode()])
        written.append(target)
    return written
