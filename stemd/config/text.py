"""The config file as a text: read, checked and saved for whoever edits it on the page."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from stemd.config.doubts import doubts
from stemd.config.file import parse
from stemd.config.problems import ConfigProblemsError, Problem
from stemd.config.resolved import Config
from stemd.config.written import replace_text
from stemd.documents import Json
from stemd.errors import ConfigError

MAX_BYTES = 128 * 1024
"""Of a text in UTF-8; the config of a laboratory with ten cameras has a tenth of it."""
MAX_PROBLEMS = 50
"""Problems that are listed; nobody reads more before the next check."""
MAX_CHARACTERS = 300
"""Of a value or a remedy that is listed."""


@dataclass(frozen=True, slots=True)
class ConfigText:
    """The text of a config file, with line feeds alone, and what tells it from any other."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What `stemd check` says of a text: a config or what is wrong, and what is doubted."""

    config: Config | None
    problems: tuple[Json, ...] = ()
    count: int = 0
    """Of the problems, with those that are not listed."""
    doubts: tuple[str, ...] = ()


def read(path: Path) -> ConfigText:
    """The file's text. Raises ConfigError."""
    data = _bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8: {error}", "save it as UTF-8") from error
    return ConfigText(text.replace("\r\n", "\n"), _digest(data))


def check(text: str, source: str) -> Checked:
    """Everything that is wrong with a text, or the config that it is and what is doubted of it.

    Raises ConfigError for a text that is too long, and nothing else.
    """
    _of_size(text)
    try:
        config = parse(text, source)
    except ConfigProblemsError as error:
        listed = tuple(_short(problem) for problem in error.problems[:MAX_PROBLEMS])
        return Checked(None, listed, len(error.problems))
    except ConfigError as error:  # it is not TOML
        message = error.message.removeprefix(f"{source}: ")
        problem = Problem((), message, "", error.remedy, _line_in(message))
        return Checked(None, (_short(problem),), 1)
    return Checked(config, doubts=tuple(doubts(config)))


def save(path: Path, text: str, digest: str) -> ConfigText:
    """Put the text in the file's place; the text before stays beside it.

    `digest` is that of the text that was edited. Raises ConfigError, and leaves the file as it
    was, where it has been changed meanwhile, the text has errors, or it cannot be written.
    """
    path = path.resolve()
    data = _bytes(path)
    if _digest(data) != digest:
        raise ConfigError(
            f"{path}: has been changed since it was read",
            "take over the file as it is now, and make your changes again",
        )
    checked = check(text, str(path))
    if checked.config is None:
        first = _sentence(checked.problems[0])
        raise ConfigError(
            f"{path}: the new text has errors ({checked.count}) and is not saved; the first: "
            f"{first}",
            "check the text, and mend what is listed",
        )
    replace_text(path, text.replace("\n", "\r\n") if b"\r\n" in data else text, keep=True)
    return read(path)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}", "check the file") from error
    if len(data) > MAX_BYTES:
        raise _too_long(str(path))
    return data


def _of_size(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(
            "the text cannot be written as UTF-8", "remove what is no text"
        ) from error
    if size > MAX_BYTES:
        raise _too_long("the text")


def _too_long(what: str) -> ConfigError:
    return ConfigError(
        f"{what} is longer than {MAX_BYTES // 1024} KiB", "edit the file itself in an editor"
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _short(problem: Problem) -> Json:
    document = problem.as_json()
    return {
        key: value[: MAX_CHARACTERS - 2] + " …"
        if isinstance(value, str) and len(value) > MAX_CHARACTERS
        else value
        for key, value in document.items()
    }


def _sentence(problem: Json) -> str:
    place = f"line {problem['line']}" if problem["line"] else ""
    return ": ".join(filter(None, (place, problem["key"], problem["message"])))


def _line_in(message: str) -> int | None:
    """The line that tomli names: `... (at line 3, column 7)`."""
    _, found, rest = message.rpartition("(at line ")
    number = rest.partition(",")[0]
    return int(number) if found and number.isdigit() else None
