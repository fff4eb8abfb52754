"""The reference of every command and its options, as Markdown, from the parsers themselves.

python .ci/command_reference.py > docs/reference/commands.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from stemd.cli.main import COMMANDS, parser_of

HEAD = """\
# Every command and its options

Made from the commands themselves by `.ci/command_reference.py`; a test compares. `stemd COMMAND \
--help` shows the same. A command ends with 0 when all went well, 1 when something failed, 2 when \
it was not understood or a config has errors. Errors go to stderr, with a remedy: \
[every error](errors.md).
"""


def markdown() -> str:
    """The whole page."""
    lines = [HEAD]
    for name in COMMANDS:
        lines += _command(parser_of(name), "##")
    return "\n".join(lines) + "\n"


def _command(parser: argparse.ArgumentParser, level: str) -> Iterator[str]:
    yield f"{level} `{parser.prog}`\n"
    words = (parser.description or "").strip()
    yield f"{words[:1].upper()}{words[1:].rstrip('.')}.\n"
    yield f"```sh\n{(parser.epilog or '').removeprefix('Example: ')}\n```\n"
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    told = [each for each in parser._actions if each.help != argparse.SUPPRESS]
    rows = [each for each in told if each not in inner and each.dest != "help"]
    if rows:
        yield "| option | is |\n|---|---|"
        yield from (f"| {_names(each)} | {_words(each)} |" for each in rows)
        yield ""
    for each in inner:
        for sub in dict.fromkeys(each.choices.values()):
            yield from _command(sub, f"{level}#")


def _names(action: argparse.Action) -> str:
    value = ""
    if action.nargs != 0:
        metavar = action.metavar or (None if action.choices else action.dest.upper())
        value = str(metavar if metavar else "|".join(str(each) for each in action.choices or ()))
    shown = [f"{name} {value}".strip() for name in action.option_strings] or [value]
    return ", ".join(f"`{each}`".replace("|", "\\|") for each in shown)


def _words(action: argparse.Action) -> str:
    words = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    for sign in "|<>*":
        words = words.replace(sign, f"\\{sign}")
    return " ".join(words.split())


if __name__ == "__main__":
    sys.stdout.write(markdown())
