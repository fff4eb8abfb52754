"""`stemd check`: everything that is wrong with a config or a recording, or what it holds."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from stemd.cli.scan_arguments import add_scan, scan_of
from stemd.errors import FormatError, StemdError, UsageError

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
    import json

    from stemd.adapters.files import is_recording

    if args.file.is_dir() and not is_recording(args.file):
        args.file = _only_recording(args.file)
    if is_recording(args.file):
        return _recording(args)
    _refuse_a_stranger(args.file)

    from stemd.config.doubts import doubts
    from stemd.config.file import load
    from stemd.config.problems import ConfigProblemsError

    try:
        config = load(args.file)
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
    import tomli

    try:
        tomli.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{path} is neither a recording nor a config: as a config (TOML) it reads {error}",
            "name a recording, or a config that ends with .toml",
        ) from error


def _recording(args: argparse.Namespace) -> int:
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
    scan = scan_of(args, table)
    try:
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


def _print(source: str, document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.tree import Tree

    tree = Tree(f"[bold]{source}[/]: no errors")
    for section in ("daemon", "mqtt", "page"):
        if document[section] is not None:
            branch = tree.add(f"[bold]{section}[/]")
            _leaves(branch, document[section])
    for sink in document["sinks"]:
        _leaves(tree.add(f"sink [cyan]{sink['type']}[/]"), sink)
    for pipeline in document["pipelines"]:
        branch = tree.add(f"[bold]pipeline {pipeline['name']}[/]")
        _leaves(branch.add(f"adapter [cyan]{pipeline['adapter']['type']}[/]"), pipeline["adapter"])
        _leaves(branch.add("optics"), pipeline["optics"])
        for engine in pipeline["engines"]:
            _leaves(branch.add(f"engine [cyan]{engine['type']}[/]"), engine)
        _leaves(branch.add("publish"), pipeline["publish"])
        _leaves(branch.add("record"), pipeline["record"])
        _leaves(branch.add("about"), pipeline["about"])
    for session in document["sessions"]:
        _leaves(tree.add(f"[bold]session {session['name']}[/]"), session)
    Console(highlight=False, soft_wrap=True).print(tree)


def _leaves(branch: Any, table: dict[str, Any]) -> None:
    for key, value in table.items():
        if key != "type" and value is not None:
            branch.add(f"{key} = {value!r}".replace("[", r"\["))
