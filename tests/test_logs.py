"""What is logged on a terminal, and of an exception."""

from __future__ import annotations

import io
import json
import logging
import sys
import time

import pytest
import structlog

from stemd.logs import set_up_logs, warnings_to_stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def the_libraries_logs_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)


def fails() -> None:
    password = "not for any" + " log"
    raise RuntimeError(f"{len(password)} letters")


def logged() -> float:
    """Log an exception; returns how many seconds that took."""
    begun = time.perf_counter()
    try:
        fails()
    except RuntimeError:
        structlog.get_logger("a.place").exception("it_failed", pipeline="cam")
    return time.perf_counter() - begun


@pytest.mark.parametrize("command", [lambda: set_up_logs("info"), warnings_to_stderr])
@pytest.mark.parametrize("stderr", [Terminal, io.StringIO])
def test_a_traceback_shows_no_variables_and_costs_little(
    command: object, stderr: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr())
    assert callable(command)
    command()
    fastest = min(logged() for _ in range(5))
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert text.count("it_failed") == 5
    assert text.count("RuntimeError: 15 letters") == 5
    assert "Traceback (most recent call last)" in text
    assert "not for any log" not in text
    assert fastest < 0.02


def test_elsewhere_a_line_is_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    set_up_logs("info")
    logged()
    (line,) = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    said = json.loads(line)
    assert (said["event"], said["level"], said["pipeline"]) == ("it_failed", "error", "cam")
    assert "RuntimeError: 15 letters" in said["exception"]
