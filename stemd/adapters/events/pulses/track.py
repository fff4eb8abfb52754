"""The line clock: each pulse is taken when time and count, or others of its kind, speak for it."""

from __future__ import annotations

from typing import Any

from stemd.adapters.events.pulses import ledger
from stemd.adapters.events.pulses.accept import accept
from stemd.adapters.events.pulses.counts import (
    count_from,
    edges_between,
    in_step,
    lines_counted,
)
from stemd.adapters.events.pulses.lines import end_lines
from stemd.adapters.events.pulses.relate import (
    ANEW,
    CONTINUES,
    FEW_LOST,
    SHIFTED,
    relate,
)
from stemd.adapters.events.pulses.rhythm import new_rhythm, set_duration, tolerance
from stemd.adapters.events.pulses.runs import (
    find_run,
    is_on_time,
    lead_in,
    overtaken,
    steps_of,
)
from stemd.adapters.events.pulses.state import (
    CHIPS,
    MOST_MISSED,
    NEVER,
    NONE,
    WAITING,
)
from stemd.adapters.events.pulses.waits import ignore, take_out
from stemd.compilation import njit

_PATIENCE = 4.0
"""Periods after which a waiting pulse is decided with what there is."""
_FIRST = 3
"""So many pulses behind a gap tell by their counts how long it was."""
_HEARD = 8
"""A chip that has told a pulse in so many lines is waited for."""


@njit(nogil=True, cache=True, cold=True)
def _others_may_tell(s: Any, waits: Any, at: int) -> bool:
    """Whether another chip may still send a pulse of the lines before this one."""
    pulse = waits[at]
    if s.now > pulse.time + s.window:
        return False
    for chip in range(CHIPS):
        heard = s.chip_known[chip] and s.chip_line[chip] + _HEARD > s.last_line
        if not heard or pulse.counters[chip] >= 0:
            continue
        passed = False
        for k in range(at + 1, s.waiting):
            passed |= waits[k].counters[chip] >= 0
        if not passed:
            return True
    return False


@njit(nogil=True, cache=True, cold=True)
def _most_in_step(s: Any, waits: Any, at: int) -> bool:
    """Whether a waiting pulse is counted as its time tells, and most of the first that wait are.

    A stray pulse behind a pause of whole periods makes the time of all later ones fit their count.
    """
    if not in_step(s, waits[at], s.last_line + is_on_time(s, waits[at].time)):
        return False
    agree = known = 0
    for k in range(at + 1):
        ahead = is_on_time(s, waits[k].time)
        if ahead > 0 and known < _FIRST:
            known += 1
            agree += in_step(s, waits[k], s.last_line + ahead)
    return 2 * agree >= known


@njit(nogil=True, cache=True, cold=True)
def _has_own_rhythm(s: Any, waits: Any, stop: int) -> bool:
    """Whether two of the pulses before this one agree, in time and count, apart from the clock.

    Then that one may be on the clock's time by chance, and the lines go on at another.
    """
    for k in range(stop):
        for j in range(k + 1, stop):
            edges = edges_between(waits[k], waits[j])
            lines = (waits[j].time - waits[k].time) / s.period
            whole = int(lines + 0.5)
            steps = steps_of(s, waits[k])
            if (
                whole
                and edges == whole * steps
                and abs(lines - whole) * s.period <= tolerance(s, whole)
            ):
                return bool(lines_counted(s, waits[k], False) > 0)
    return False


@njit(nogil=True, cache=True, cold=True)
def _follow(s: Any, lines: Any, waits: Any, faults: Any, forced: bool) -> bool:
    """Take the next pulse that goes on with the line clock; whether there was one."""
    if not s.tracked or s.after_reset or s.fresh or s.period <= 0.0:
        return False
    while s.waiting > 0 and waits[0].time <= s.last_pulse:
        ignore(s, waits, faults, 0)
    for k in range(s.waiting):
        ahead = is_on_time(s, waits[k].time)
        if ahead == 0 or (ahead > 1 and not _most_in_step(s, waits, k)):
            continue
        if overtaken(s, waits, k) and not in_step(s, waits[k], s.last_line + ahead):
            continue
        if ahead > 1 and k > 1 and _has_own_rhythm(s, waits, k):
            continue
        if ahead > 1 and not forced and _others_may_tell(s, waits, k):
            s.decide_at = min(s.decide_at, waits[k].time + s.window)
            return False
        at = k
        for j in range(k):  # one whose count alone is odd is a line as well
            if 0 < is_on_time(s, waits[j].time) < ahead and not overtaken(s, waits, j):
                at = j
                break
        for _ in range(at):
            ignore(s, waits, faults, 0)
        number = s.last_line + is_on_time(s, waits[0].time)
        accept(s, lines, waits, faults, 0, number, CONTINUES)
        return True
    return False


@njit(nogil=True, cache=True, cold=True)
def _several_chips(s: Any, waits: Any) -> bool:
    """Whether pulses of more than one chip were heard: earlier ones may come late."""
    heard = 0
    for chip in range(CHIPS):
        mine = s.chip_known[chip] > 0
        for k in range(s.waiting):
            mine |= waits[k].counters[chip] >= 0
        heard += mine
    return heard > 1


@njit(nogil=True, cache=True, cold=True)
def _note_anew(s: Any, pulse: Any, faults: Any) -> None:
    """The lines were broken off: what the counter showed before and shows now."""
    for chip in range(CHIPS):
        if pulse.counters[chip] >= 0:
            before = s.chip_counter[chip] if s.chip_known[chip] else -1
            ledger.note(faults, ledger.BEGUN_ANEW, s.last_line, chip, pulse.counters[chip], before)
            return


@njit(nogil=True, cache=True, cold=True)
def _related(s: Any, waits: Any, first: int, before: int, steps: int, holes: int) -> Any:
    """(line, how) of a run's first pulse, `before` lines behind the first one that waits.

    By the counter of that one where a few edges are missing between them, which the input did
    not see, or are too many, with as many pulses that are no lines; else by the run's own
    counter, on which several pulses agree.
    """
    unseen = steps * before - edges_between(waits[0], waits[first])
    between = steps * (first - before)
    if unseen % steps == 0 and (0 < unseen <= steps * MOST_MISSED or 0 < -unseen <= between):
        number, how = relate(s, waits[0], holes)
        return number + before, how
    return relate(s, waits[first], holes + before)


@njit(nogil=True, cache=True, cold=True)
def _adopt(
    s: Any, lines: Any, waits: Any, faults: Any, fewer: int, least: int, forced: bool
) -> bool:
    """Begin a line clock, or move it, with pulses that agree; whether there were such."""
    first, period, spread, steps = find_run(s, waits, fewer, least)
    if first < 0:
        return False
    latest = max(float(s.now), waits[s.waiting - 1].time)
    if not forced and _several_chips(s, waits) and latest <= waits[first].time + s.window:
        s.decide_at = min(s.decide_at, waits[first].time + s.window)
        return False
    if spread >= 0.0:
        new_rhythm(s, period, spread)
        s.chip_steps[:] = steps
    earliest, before, holes = first, 0, 0
    if s.period > 0.0:
        earliest, before, holes = lead_in(s, waits, first, steps)
    for k in range(earliest):
        ahead = 0 if s.after_reset or not s.tracked or s.fresh else is_on_time(s, waits[0].time)
        if 0 < ahead <= 1 + MOST_MISSED and spread < 0.0:
            number = s.last_line + ahead
            count_from(s, waits[0], number)
            accept(s, lines, waits, faults, 0, number, CONTINUES)
        elif holes and k == earliest - 1:
            s.odd_times += 1
            take_out(s, waits, 0)
        else:
            ignore(s, waits, faults, 0)
    first -= earliest
    number, how = _related(s, waits, first, before, steps, holes)
    if how <= SHIFTED and number - before <= s.last_line:
        for _ in range(first):
            ignore(s, waits, faults, 0)
        first = before = 0
    number -= before
    if how >= ANEW:
        s.holes += number % s.ny
    if how == SHIFTED and number % s.ny and not s.after_reset:
        s.shifted += 1
        ledger.note(faults, ledger.SHIFTED, number, -1, (waits[0].time - s.last_pulse), s.period)
    elif how == ANEW and (not s.fresh or lines_counted(s, waits[0], True) > FEW_LOST):
        s.begun_anew += 1
        _note_anew(s, waits[0], faults)
    count_from(s, waits[first], number + before)
    accept(s, lines, waits, faults, 0, number, how)
    return True


@njit(nogil=True, cache=True, cold=True)
def evaluate(s: Any, lines: Any, waits: Any, faults: Any) -> None:
    """Decide what can be decided of the waiting pulses."""
    s.decide_at = NEVER
    while s.waiting > 0 and (
        _follow(s, lines, waits, faults, False) or _adopt(s, lines, waits, faults, 0, 2, False)
    ):
        s.decide_at = NEVER
    while s.waiting == WAITING:
        if not (
            _follow(s, lines, waits, faults, True) or _adopt(s, lines, waits, faults, 0, 2, True)
        ):
            ignore(s, waits, faults, 0)
    if s.waiting > 0:
        s.decide_at = min(s.decide_at, _patience_ends(s, waits))


@njit(nogil=True, cache=True, cold=True)
def _patience_ends(s: Any, waits: Any) -> Any:
    arrived = NONE
    for k in range(s.waiting):
        arrived = max(arrived, waits[k].arrived)
    return arrived + s.window + (_PATIENCE * s.period if s.period > 0.0 else s.idle)


@njit(nogil=True, cache=True, cold=True)
def overdue(s: Any, lines: Any, waits: Any, faults: Any) -> None:
    """The time has come at which waiting pulses were to be looked at again."""
    ends = _patience_ends(s, waits) if s.waiting else NEVER
    evaluate(s, lines, waits, faults)
    if s.waiting > 0 and s.now > ends:
        settle(s, lines, waits, faults, False)


@njit(nogil=True, cache=True, cold=True)
def settle(s: Any, lines: Any, waits: Any, faults: Any, last: bool) -> None:
    """Decide all waiting pulses with what there is; `last`: no more will come.

    A lone pulse begins a scan only where nothing contradicts it.
    """
    while s.waiting > 0:
        if _follow(s, lines, waits, faults, True) or s.waiting == 0:
            continue
        between = not s.tracked or s.fresh or s.after_reset or s.last_line % s.ny == s.ny - 1
        ahead = is_on_time(s, waits[0].time) if s.tracked and not s.after_reset else 0
        least = 1 if 0 < ahead <= 1 + MOST_MISSED or (last and between) else 2
        decided = False
        for fewer in range(3):
            decided = decided or _adopt(s, lines, waits, faults, fewer, least, True)
        if not decided:
            ignore(s, waits, faults, 0)
    if last and s.duration == 0.0 and s.timed > 0:
        set_duration(s)
        end_lines(s, lines)
        s.drain = s.held


@njit(nogil=True, cache=True, cold=True)
def settle_old_clock(s: Any, lines: Any, waits: Any, faults: Any) -> None:
    """Decide all waiting pulses, as no more will come by this clock.

    A lone one before the first scan is its first line, a hole where nothing tells how long it is:
    the count of the next one, of the new clock, goes on from it. Taken for none, it would put all
    others one row too high.
    """
    lone = s.waiting == 1 and not s.tracked and s.newest_scan < 0
    if lone and s.period <= 0.0:
        number, how = relate(s, waits[0], 0)
        count_from(s, waits[0], number)
        accept(s, lines, waits, faults, 0, number, how)
    settle(s, lines, waits, faults, True)
