"""`stemd check`: everything that is wrong with a config or a recording, or what it holds."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemd.cli.scan_arguments import add_scan, scan_of
from stemd.cli.table import coloured
from stemd.errors import FormatError, StemdError, UsageError
from stemd.garbage import uncollected

if TYPE_CHECKING:
    from stemd.acquisition import Scan

EXAMPLE = "stemd check merlin.toml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a config file (TOML), or a recording"
    )
    add_scan(parser)
    parser.add_argument(
        "--dataset", metavar="NAME", help="the patterns, in a recording of several arrays"
    )
    parser.add_argument(
        "--camera",
        "--config",
        dest="camera",
        type=Path,
        metavar="CONFIG",
        help="the config under which an event camera recorded: its line pulses, its layout",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Print the resolved pipelines. Raises ConfigError listing all problems."""
    with uncollected():
        done = _config(args)
    return _recording(args) if done is None else done


def _config(args: argparse.Namespace) -> int | None:
    """The exit code of a config; None for a recording."""
    from stemd.adapters.files import is_recording

    if args.file.is_dir() and not is_recording(args.file):
        args.file = _only_recording(args.file)
    if is_recording(args.file):
        return None
    _refuse_a_stranger(args.file)

    import json

    from stemd.config.doubts import doubts, refused
    from stemd.config.file import load
    from stemd.config.problems import ConfigProblemsError

    try:
        config = load(args.file)
        if problems := refused(config):
            raise ConfigProblemsError(str(args.file), problems)
    except ConfigProblemsError as error:
        if args.json:
            document = {"ok": False, "problems": [p.as_json() for p in error.problems]}
            sys.stdout.write(json.dumps(document, indent=1) + "\n")
            return error.exit_code
        raise
    document = resolved(config)
    found = doubts(config)
    if args.json:
        sys.stdout.write(json.dumps({"ok": True, "doubts": found, **document}, indent=1) + "\n")
    else:
        _print(str(args.file), document)
        sys.stderr.writelines(f"warning: {doubt}\n" for doubt in found)
    return 0


def _only_recording(folder: Path) -> Path:
    """The recording in a folder. Raises UsageError where there is none, or several."""
    from stemd.cli.process_inputs import inputs_of

    found = [Path(str(each.path)) for each in inputs_of([folder])]
    if len(found) > 1:
        names = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise UsageError(
            f"{folder} is a folder of {len(found)} recordings", f"name one of them: {names}"
        )
    return found[0]


def _refuse_a_stranger(path: Path) -> None:
    """Raise FormatError for a file that is neither a recording nor written as a config."""
    from stemd.adapters.recordings.strangers import stranger

    if path.suffix.lower() == ".toml":
        return
    with contextlib.suppress(OSError):
        if (error := stranger(path)) is not None:
            raise error
    if not path.is_file():
        return
    from stemd.config.toml_text import from_toml

    try:
        from_toml(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, FormatError) as error:
        said = error.message if isinstance(error, FormatError) else error
        raise FormatError(
            f"{path} is neither a recording nor a config: as a config (TOML) it reads: {said}",
            "name a recording, or a config that ends with .toml",
        ) from error


def _recording(args: argparse.Namespace) -> int:
    from stemd.adapters.files import open_recording
    from stemd.cli.check_recording import facts_of, look_at, report, with_facts
    from stemd.cli.unforeseen import unforeseen
    from stemd.config.file import load
    from stemd.storage.recorded import recorded_scan

    known = recorded_scan(args.file)
    camera = known.camera if known else None
    table = known.scan.model_dump(exclude_none=True) if known else {}
    if args.camera:
        camera = load(args.camera).pipelines[0].adapter
        table |= camera.scan.model_dump(exclude_unset=True) if camera.scan else {}

    def of_file() -> Scan:
        with contextlib.closing(open_recording(args.file, None, camera, args.dataset)) as file:
            return file.acquisition.scan

    scan = None
    try:
        scan = scan_of(args, table, of_file)
        found = look_at(args.file, scan, camera, args.dataset)
    except StemdError as error:
        facts = facts_of(args.file) if scan is None else []
        raise with_facts(error, facts) from error
    except Exception as error:
        raise unforeseen(args.file, error) from error
    return report(found, as_json=args.json)


def resolved(config: Any) -> dict[str, Any]:
    """A config with every default filled in, as plain JSON types."""
    return {
        "daemon": config.daemon.model_dump(mode="json"),
        "mqtt": config.mqtt.model_dump(mode="json") if config.mqtt else None,
        "page": config.page.model_dump(mode="json") if config.page else None,
        "pipelines": [
            {
                "name": pipeline.name,
                "adapter": {
                    "type": pipeline.adapter_plugin.name,
                    **pipeline.adapter.model_dump(mode="json"),
                },
                "optics": pipeline.optics.model_dump(mode="json"),
                "engines": [
                    {"type": engine.plugin.name, **engine.settings.model_dump(mode="json")}
                    for engine in pipeline.engines
                ],
                "publish": pipeline.publish.model_dump(mode="json"),
                "record": pipeline.record.model_dump(mode="json"),
                "about": pipeline.about.model_dump(mode="json"),
            }
            for pipeline in config.pipelines
        ],
        "sinks": [
            {"type": sink.plugin.name, **sink.settings.model_dump(mode="json")}
            for sink in config.sinks
        ],
        "sessions": [session.model_dump(mode="json") for session in config.sessions],
    }


_Branch = tuple[str, list["_Branch"]]


def _print(source: str, document: dict[str, Any]) -> None:
    branches: list[_Branch] = [
        (coloured(section, {section: "bold"}), _leaves(document[section]))
        for section in ("daemon", "mqtt", "page")
        if document[section] is not None
    ]
    branches += [_of_type("sink", sink) for sink in document["sinks"]]
    for pipeline in document["pipelines"]:
        parts = [_of_type("adapter", pipeline["adapter"]), ("optics", _leaves(pipeline["optics"]))]
        parts += [_of_type("engine", engine) for engine in pipeline["engines"]]
        parts += [(part, _leaves(pipeline[part])) for part in ("publish", "record", "about")]
        name = f"pipeline {pipeline['name']}"
        branches.append((coloured(name, {name: "bold"}), parts))
    for session in document["sessions"]:
        name = f"session {session['name']}"
        branches.append((coloured(name, {name: "bold"}), _leaves(session)))
    sys.stdout.write(f"{coloured(source, {source: 'bold'})}: no errors\n")
    sys.stdout.writelines(f"{line}\n" for line in _lines(branches))


def _of_type(kind: str, table: dict[str, Any]) -> _Branch:
    return coloured(f"{kind} {table['type']}", {table["type"]: "cyan"}), _leaves(table)


def _leaves(table: dict[str, Any]) -> list[_Branch]:
    return [
        (f"{key} = {value!r}", [])
        for key, value in table.items()
        if key != "type" and value is not None
    ]


def _lines(branches: list[_Branch]) -> Iterator[str]:
    """A tree as text; what is below the last branch has no line beside it."""
    drawn = (sys.stdout.encoding or "").lower().startswith("utf")
    fork, corner, line = ("├── ", "└── ", "│   ") if drawn else ("+-- ", "`-- ", "|   ")
    for number, (name, below) in enumerate(branches):
        last = number == len(branches) - 1
        yield (corner if last else fork) + name
        for each in _lines(below):
            yield ("    " if last else line) + each
