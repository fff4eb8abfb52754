"""The reference of config keys as Markdown, made from the settings classes themselves."""

from __future__ import annotations

from collections.abc import Iterator

from stemd.config.keys import Key, keys_of, tables

HEAD = """\
# Every key of a config file

Made by `stemd schema --markdown`; a test compares. Tables and explanations: [config](config.md).
Keys without a default are not set unless the file sets them. The tables of adapters and engines
of other packages are listed where these are installed.
"""


def markdown() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for heading, summary, model in tables():
        yield f"## `{heading}`\n"
        if summary:
            yield f"{summary[0].upper()}{summary[1:]}.\n"
        yield "| key | unit | default | allowed | is | example |\n|---|---|---|---|---|---|"
        yield from (_row(key) for key in keys_of(model))
        yield ""


def _row(key: Key) -> str:
    default = f"`{key.default}`" if key.default not in ("", "required") else key.default
    example = f"`{key.name} = {key.example}`" if key.example else ""
    cells = [f"`{key.name}`", key.unit, default, key.allowed, key.words, example]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
