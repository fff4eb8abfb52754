"""`stemd scans`: what has been acquired, from the catalogue, and whether it is still whole."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stemd.cli.forms import forms_of
from stemd.cli.interrupted import Undone
from stemd.cli.scan_text import STATUS_COLOURS, list_lines, show_lines
from stemd.cli.table import coloured, table, window
from stemd.config.toml_text import from_toml
from stemd.documents import to_json
from stemd.errors import ConfigError, FormatError, UsageError
from stemd.storage.catalogue.catalogue import Catalogue
from stemd.storage.verify import verify
from stemd.wording import one_of

HELP = "list the scans of a data folder, or show one"
EXAMPLE = "stemd scans --data-dir /var/lib/stemd --since 2d --status complete"

_STATUSES = ("acquiring", "complete", "incomplete", "aborted", "not recorded")
_DEFAULT_LIMIT = 50
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "show", "open", "export", "verify", "sessions"),
        default="list",
        help="default: list; open shows the folder, export writes images in other forms, verify "
        "compares files with their checksums",
    )
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="the scan to show, or those to verify (default: all)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--data-dir", type=Path, metavar="D", help="default: stemd-data, as the demo"
    )
    where.add_argument("--config", type=Path, metavar="C", help="take data_dir from this config")
    parser.add_argument(
        "--since", metavar="WHEN", help="a UTC date or time (ISO 8601), or an age: 30m, 12h, 2d, 1w"
    )
    parser.add_argument("--status", choices=_STATUSES, help="only scans of this status")
    parser.add_argument(
        "--find", default="", metavar="WORDS", help="in sample, operator, comment and tags"
    )
    parser.add_argument(
        "--limit", type=int, default=_DEFAULT_LIMIT, metavar="N", help="0: all (default: 50)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="export: where to (default: here)")
    parser.add_argument(
        "--as", dest="forms", default="png", metavar="FORMS", help="export: png, hdf5, tiff (png)"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """List or show. Raises UsageError, ConfigError, SinkError."""
    if args.action in ("show", "open", "export") and len(args.ids) != 1:
        raise UsageError(f"{args.action} needs the id of a scan", "stemd scans lists them")
    if args.action in ("list", "sessions") and args.ids:
        raise UsageError(
            f"{args.action} takes no id ({args.ids[0]!r})", f"stemd scans show {args.ids[0]}"
        )
    since_ns = None if args.since is None else parse_since(args.since, datetime.now(UTC))
    catalogue = Catalogue.read_only(_data_dir(args))
    try:
        if args.action == "show":
            _show(_find(catalogue, args.ids[0]), catalogue.data_dir, as_json=args.json)
        elif args.action == "open":
            return _open(catalogue.data_dir / _find(catalogue, args.ids[0])["folder"])
        elif args.action == "export":
            return _export(catalogue.data_dir / _find(catalogue, args.ids[0])["folder"], args)
        elif args.action == "verify":
            every = catalogue.list(since_ns, args.status, find=args.find)
            scans = [_find(catalogue, wanted) for wanted in args.ids] or every
            return _verify(scans, catalogue.data_dir, as_json=args.json)
        elif args.action == "sessions":
            _sessions(catalogue.sessions(), as_json=args.json)
        else:
            scans = catalogue.list(since_ns, args.status, args.limit or None, args.find)
            _list(scans, as_json=args.json)
    finally:
        catalogue.close()
    return 0


def parse_since(text: str, now: datetime) -> int:
    """UTC nanoseconds of an ISO 8601 date or time, or of an age like 12h. Raises UsageError."""
    if text[:-1].isdigit() and text[-1:] in _UNITS:
        try:
            moment = now - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
        except OverflowError:
            moment = datetime(1970, 1, 1, tzinfo=UTC)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(
                f"--since {text!r} is neither a date nor an age",
                "examples: 2026-03-01, 2026-03-01T12:30:00Z, 30m, 12h, 2d, 1w",
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    return max(0, round(moment.timestamp() * 1e6)) * 1000


def _data_dir(args: argparse.Namespace) -> Path:
    if args.config is None:
        return args.data_dir or Path("stemd-data")
    try:
        config = from_toml(args.config.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{args.config}: {error.strerror}", "name an existing config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{args.config}: {error}", "save it as UTF-8") from error
    except FormatError as error:
        raise ConfigError(f"{args.config}: is not TOML: {error.message}", error.remedy) from error
    daemon = config.get("daemon", {})
    data_dir = daemon.get("data_dir") if isinstance(daemon, dict) else None
    if not isinstance(data_dir, str):
        raise ConfigError(f"{args.config}: daemon.data_dir is not set", "use --data-dir instead")
    return Path(data_dir)


def _find(catalogue: Catalogue, wanted: str) -> dict[str, Any]:
    """The scan of this id, or the only one whose id begins so."""
    exact = catalogue.get(wanted)
    if exact is not None:
        return exact
    near = catalogue.begins_with(wanted, 100)
    if len(near) == 1:
        return near[0]
    problem = "there is no scan" if not near else f"{len(near)} scans have an id that begins with"
    raise UsageError(f"{problem} {wanted!r} in {catalogue.path}", "stemd scans lists them")


def _list(scans: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(to_json(scans, indent=1) + "\n")
        return
    if not scans:
        sys.stdout.write("no scans match\n")
        return
    lines = list_lines(list(scans), window())
    sys.stdout.writelines(f"{coloured(line, STATUS_COLOURS)}\n" for line in lines)


def _show(scan: dict[str, Any], data_dir: Path, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(to_json(scan, indent=1) + "\n")
        return
    sys.stdout.writelines(f"{line}\n" for line in show_lines(scan, data_dir))


def _open(folder: Path) -> int:
    """Show the folder in the desktop's file manager; its path is printed in any case."""
    sys.stdout.write(f"{folder}\n")
    if not folder.is_dir():
        raise UsageError(f"{folder} is not there", "its files were deleted or moved")
    opener = {"darwin": "open", "win32": "explorer"}.get(sys.platform, "xdg-open")
    desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if desktop and shutil.which(opener) is not None:
        subprocess.Popen(
            [opener, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    return 0


def _export(folder: Path, args: argparse.Namespace) -> int:
    from stemd.cli.scan_export import export

    files, errors = export(folder, args.out or Path(), forms_of(args.forms))
    sys.stdout.writelines(f"{path}\n" for path in files)
    sys.stderr.writelines(f"stemd scans: {error}\n" for error in errors)
    return 1 if errors else 0


def _verify(scans: Sequence[dict[str, Any]], data_dir: Path, *, as_json: bool) -> int:
    """Exit code 0 when every file is as it was written, else 1."""
    reports = []
    with Undone("scans", "not verified", {scan["id"]: scan["id"] for scan in scans}) as undone:
        for scan in scans:
            if scan["status"] == "acquiring" or (scan.get("deleted") or {}).get("what") == "scan":
                continue
            problems = verify(data_dir / scan["folder"])
            reports.append({"id": scan["id"], "ok": not problems, "problems": problems})
            if not as_json:
                sys.stdout.write(f"{scan['id']}  {'ok' if not problems else 'DAMAGED'}\n")
                for problem in problems:
                    sys.stdout.write(f"  {problem}\n")
            undone.done(scan["id"])
    bad = sum(not report["ok"] for report in reports)
    if as_json:
        sys.stdout.write(to_json(reports, indent=1) + "\n")
    else:
        sys.stdout.write(one_of(f"{len(reports)} scans, {bad} damaged\n"))
    return 1 if bad else 0


def _sessions(sessions: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(to_json(sessions, indent=1) + "\n")
        return
    if not sessions:
        sys.stdout.write("no sessions\n")
        return
    titles = ("session", "name", "status", "started (UTC)", "scans", "pipeline", "reason")
    rows = []
    for session in sessions:
        counts = session["counts"]
        rows.append(
            (
                session["id"],
                session["name"],
                session["status"],
                session["started"][:19].replace("T", " "),
                f"{counts['complete']}/{sum(counts.values())} complete",
                session["pipeline"],
                session["reason"],
            )
        )
    lines = table(titles, rows, elastic=("name", "reason", "pipeline"), width=window())
    sys.stdout.writelines(f"{line}\n" for line in lines)
