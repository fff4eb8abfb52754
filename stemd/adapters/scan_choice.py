"""Which of the scans that a recording holds are meant."""

from __future__ import annotations

from collections.abc import Iterator

from stemd.adapters.base import Recording, ScansByNumber, SeveralScans
from stemd.errors import UsageError


def numbered_scans(
    recording: Recording, source: object, number: int | None = None
) -> Iterator[tuple[int, Recording]]:
    """(number from 1, scan) of every scan of a recording, or of the one with this number.

    Each is read before the next is asked for; closing the recording closes them all. `source`:
    what the error calls the recording. Raises UsageError where it has no scan of this number,
    once all that it has are passed, and what the recording raises.
    """
    if number is not None and number < 1:
        raise UsageError(f"{number} is no number of a scan", "the first scan has the number 1")
    scans = recording.each_scan() if isinstance(recording, SeveralScans) else iter([recording])
    found = 0
    for found, scan in enumerate(scans, 1):
        if number in (None, found):
            yield found, scan
        if found == number:
            return
    if number is not None:
        raise no_such_scan(source, found, number)


def no_such_scan(source: object, found: int, number: int) -> UsageError:
    """The error for a recording of `found` scans of which another one is asked for."""
    return UsageError(
        f"{source} holds {found} scan{'s' * (found != 1)}, none with the number {number}",
        f"choose a number from 1 to {found}",
    )


def chosen_scan(recording: Recording, source: object, number: int | None) -> Recording:
    """The scan with this number, to be read any number of times; None: the recording itself, which
    is its first scan.

    Raises what `numbered_scans` raises.
    """
    if number is None:
        return recording
    if number > 0 and isinstance(recording, ScansByNumber):
        return recording if number == 1 else recording.numbered(number)
    return next(numbered_scans(recording, source, number))[1]
