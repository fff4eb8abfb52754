"""Logs: key=value with colours on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TextIO, cast

if TYPE_CHECKING:
    import structlog


class _Logger:
    """A logger of structlog's, which is imported when there is something to say."""

    before_first: ClassVar[Callable[[], None] | None] = None
    """What is to be set up as soon as structlog is imported."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        import structlog

        set_up_delayed()
        made = structlog.get_logger() if self._name is None else structlog.get_logger(self._name)
        return getattr(made, name)


def set_up_delayed() -> None:
    """Set up what was put off until structlog is there."""
    if (set_up := _Logger.before_first) is not None:
        _Logger.before_first = None
        set_up()


def get_logger(name: str | None = None) -> Any:
    """As `structlog.get_logger`, but a module that has one starts without structlog: 40 ms."""
    return _Logger(name)


def set_up_logs(level: str = "info", *, json: bool | None = None) -> None:
    """Send all logs, structlog's and the standard library's, to stderr in one form.

    `json` None decides by whether stderr is a terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    import structlog

    _Logger.before_first = None
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    end: list[structlog.typing.Processor]
    if as_json:
        end = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        end = [_for_people()]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *end],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=end)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def _for_people() -> structlog.typing.Processor:
    """Lines in colours. A traceback is as Python's: structlog's own takes up to a second and shows
    every local variable, passwords too.
    """
    import structlog

    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


class _Stderr:
    """Standard error as it is when something is written, whoever has replaced it since."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def warnings_to_stderr() -> None:
    """For commands that do their work and end: warnings and errors only, never on stdout."""
    if "structlog" not in sys.modules:  # 60 ms, and mostly there is nothing to say
        _Logger.before_first = warnings_to_stderr
        return
    import structlog

    structlog.configure(
        processors=[*structlog.get_config()["processors"][:-1], _for_people()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=False,
    )
