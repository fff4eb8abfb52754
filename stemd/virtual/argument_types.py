"""What the values of arguments may be: types for argparse."""

from __future__ import annotations

import argparse
import math

from stemd.addresses import broker_fault, host_fault
from stemd.typed import LEAST, MOST


def shape(text: str) -> tuple[int, int]:
    """YxX as (y, x)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 128x128 (rows x columns)")
    return int(parts[0]), int(parts[1])


def rate(text: str) -> float:
    """Frames a second, 0 for as many as can be."""
    value = not_negative(text)
    if value and not 1e6 / MOST <= value <= 1e6 / LEAST:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be 0 (no limit), or from {1e6 / MOST:g} to {1e6 / LEAST:g}"
        )
    return value


def pair(text: str) -> tuple[float, float]:
    """Y,X as floats."""
    try:
        y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 0.5,-1 (y, x)") from None
    return y, x


def positive(text: str) -> float:
    """A number above zero."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value


def not_negative(text: str) -> float:
    """A number of at least zero."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} must not be below 0")
    return value


def probability(text: str) -> float:
    """A number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be from 0 to 1")
    return value


def host(text: str) -> str:
    """A name or address of this computer."""
    if fault := host_fault(text):
        raise argparse.ArgumentTypeError(f"{text!r} {fault}")
    return text


def count(text: str) -> int:
    """A whole number of at least zero."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def port(text: str) -> int:
    """A TCP port, 0 for any free one."""
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535, or 0 for a free one")
    return int(text)


def broker(text: str) -> str:
    """Where a broker is, mqtt://host:port."""
    if fault := broker_fault(text):
        raise argparse.ArgumentTypeError(f"{text!r}: {fault}")
    return text


def repeats(text: str) -> int:
    """How often a place is scanned."""
    if (value := count(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be at least 1")
    return value


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value
