"""Line pulses with faults of every kind: no line is shifted, what cannot be known is a hole."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stemd.acquisition import Scan
from stemd.blocks import Ended, Notice

from .line_truth import FAULTS, Made, Plan, make, spoil
from .streams import Received, decoder, receive, settings

PERIOD = 20 * 640


def read(plan: Plan, made: Made, cut: int | None = None, **changes: object) -> Received:
    """What a decoder makes of a stream, or of its first bytes."""
    scan = Scan(shape=(plan.ny, plan.nx), flyback=plan.flyback, dwell_time_us=plan.dwell / 640)
    layout = "quad" if plan.chips > 1 else "single"
    chosen = settings(scan, layout=layout, **changes)
    return receive(made.stream[:cut], decoder(chosen, headers_required=True))


def rows_and_columns(got: Received) -> dict[int, tuple[int, int]]:
    """(scan, position) of each hit by its number."""
    parts = (got.y, got.x, got.scan_of_hit, got.probe)
    y, x, scan, probe = (np.concatenate([*part, np.zeros(0, np.int64)]) for part in parts)
    return {
        int(a) * 256 + int(b): (int(c), int(d))
        for a, b, c, d in zip(y, x, scan, probe, strict=True)
    }


def check(plan: Plan, made: Made, got: Received, first: int = 0, hits: int | None = None) -> None:
    """Every hit of a line with a good pulse is where it belongs, the others there or nowhere."""
    found = rows_and_columns(got)
    for number, (line, column) in enumerate(made.truth[:hits]):
        if line < first:
            continue
        wanted = (line // plan.ny, line % plan.ny * plan.nx + column)
        seen = found.get(number)
        assert seen in ((wanted,) if line in made.good else (wanted, None)), (line, seen, wanted)


def inner(plan: Plan) -> Plan:
    """Without the faults of a scan's first and last lines: their own tests say what is known."""
    kept = {line: kind for line, kind in plan.faults.items() if 2 <= line % plan.ny < plan.ny - 2}
    return replace(plan, faults=kept)


@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1 << 30),
    scans=st.integers(1, 2),
    chips=st.sampled_from([1, 1, 4]),
    one_chip=st.booleans(),
    wobble=st.sampled_from([0.0, 0.01]),
    flyback=st.sampled_from([2, 4, 40]),
    pause=st.sampled_from([0, 3 * PERIOD + 1234]),
    kinds=st.sets(st.sampled_from(FAULTS), min_size=1),
)
def test_any_mix_of_faults_leaves_every_line_with_a_good_pulse_in_its_place(
    seed: int,
    scans: int,
    chips: int,
    one_chip: bool,
    wobble: float,
    flyback: int,
    pause: int,
    kinds: set[str],
) -> None:
    plan = Plan(
        scans=scans, chips=chips, one_chip=one_chip, wobble=wobble, flyback=flyback, pause=pause
    )
    spoil(plan, 0.05, random.Random(seed), tuple(sorted(kinds)))
    plan = inner(plan)
    made = make(plan, random.Random(seed))
    check(plan, made, read(plan, made))


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("line", [1, 7, 58])
def test_a_fault_is_told_with_its_place(kind: str, line: int) -> None:
    plan = Plan(faults={line: kind})
    made = make(plan, random.Random(line))
    got = read(plan, made)
    check(plan, made, got)
    kinds = {
        "lost": {"missed_pulses"},
        "unseen": {"missed_pulses"},
        "late": {"pulse_time_doubt"},
        "early": {"pulse_time_doubt"},
        "far": {"pulse_time_doubt", "missed_pulses"},
        "behind": {"pulse_time_doubt", "missed_pulses"},
        "counter": {"pulse_count_doubt"},
        "stray": {"spurious_pulses"},
    }
    assert kinds[kind] & set(got.notices()), got.notices()


def test_lines_without_a_pulse_are_holes_where_the_lines_are_not_regular() -> None:
    plan = Plan(wobble=0.01, faults={30: "lost", 31: "lost"})
    made = make(plan, random.Random(5))
    got = read(plan, made)
    check(plan, made, got)
    (runs,) = got.complete.values()
    done = np.zeros(plan.ny * plan.nx, bool)
    for first, stop in runs:
        done[first:stop] = True
    assert np.flatnonzero(~done.reshape(plan.ny, plan.nx).all(axis=1)).tolist() == [30, 31]
    assert "row 30" in got.notices()["line_holes"]


@pytest.mark.parametrize("kind", ["stray", "early", "counter"])
def test_a_faulty_first_pulse_moves_no_other_line(kind: str) -> None:
    plan = Plan(faults={0: kind})
    for seed in range(4):
        made = make(plan, random.Random(seed))
        check(plan, made, read(plan, made))


def test_a_stray_pulse_five_periods_before_a_scan_is_not_its_first_line() -> None:
    plan = Plan(start=700_000, counter=2)
    made = make(plan, random.Random(1))
    stray = make(Plan(ny=1, start=700_000 - 5 * PERIOD, counter=1, hits=0), random.Random(1))
    got = read(plan, Made(stray.stream + made.stream, made.truth, made.good))
    check(plan, made, got)
    assert "spurious_pulses" in got.notices()


@pytest.mark.parametrize("periods", [0.6, 1, 1.4, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("counted", [True, False])
def test_a_stray_before_a_scan_that_nothing_tells_from_its_first_line_is_told(
    periods: float, counted: bool
) -> None:
    plan = Plan(start=700_000, counter=1 + counted)
    made = make(plan, random.Random(1))
    at = plan.start - round(periods * PERIOD)
    stray = make(Plan(ny=1, start=at, counter=int(counted), hits=0), random.Random(1))
    got = read(plan, Made(stray.stream + made.stream, made.truth, made.good))
    found = rows_and_columns(got)
    low = {
        scan * plan.ny + place // plan.nx - line
        for (line, _), (scan, place) in zip(
            made.truth, (found[n] for n in range(len(made.truth))), strict=True
        )
    }
    remedies = [m.remedy for m in got.of(Notice) if m.kind == "lines_too_few"]
    assert len(low) == 1
    if low == {0}:
        assert not remedies
    else:
        assert [f"its rows stand {low.pop()} too low" in remedy for remedy in remedies] == [True]


def test_pulses_that_one_chip_lacks_are_taken_from_the_others() -> None:
    plan = Plan(chips=4, one_chip=True, wobble=0.01)
    plan.faults = dict.fromkeys(range(0, plan.ny, 3), "lost")
    made = make(plan, random.Random(3))
    got = read(plan, made)
    assert len(made.good) == plan.ny
    check(plan, made, got)
    assert [message.reason for message in got.of(Ended)] == ["complete"]


def test_the_count_tells_which_pulses_of_a_next_scan_are_missing() -> None:
    plan = Plan(scans=2, pause=2 * PERIOD + 999, faults={59: "lost", 60: "lost"})
    made = make(plan, random.Random(4))
    check(plan, made, read(plan, made))


@pytest.mark.parametrize("pause", [0, PERIOD, 3 * PERIOD, 7777])
def test_a_pause_of_any_length_between_scans_is_no_missing_line(pause: int) -> None:
    plan = Plan(scans=3, pause=pause, ny=20)
    made = make(plan, random.Random(6))
    got = read(plan, made)
    check(plan, made, got)
    assert [message.reason for message in got.of(Ended)] == ["complete"] * 3
    for runs in got.complete.values():
        assert sum(stop - first for first, stop in runs) == plan.ny * plan.nx
    # without any, nothing but the scan's told size says that these are no lines of one scan
    assert list(got.notices()) == ["no_pause"] * (pause == 0)


@pytest.mark.parametrize("longer", range(1, 5))
def test_a_pause_that_is_longer_by_whole_lines_is_no_missing_line(longer: int) -> None:
    """An operator starts scans by hand: their pauses say nothing, the counter does."""
    plan = Plan(scans=3, pauses=(3 * PERIOD, (3 + longer) * PERIOD), ny=20)
    made = make(plan, random.Random(6))
    got = read(plan, made)
    check(plan, made, got)
    assert got.notices() == {}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.33, 0.97])
def test_a_stream_that_was_cut_off_keeps_the_lines_that_came(share: float) -> None:
    plan = Plan(faults={11: "counter", 20: "lost", 40: "late"})
    made = make(plan, random.Random(7))
    cut = int(share * len(made.stream)) // 16 * 16
    got = read(plan, made, cut)
    assert [message.reason for message in got.of(Ended)] == ["disconnected"]
    came = sum(word >> 60 == 0xB for word in np.frombuffer(made.stream[:cut], "<u8")[1::2].tolist())
    check(plan, made, got, hits=max(0, came - 2 * plan.hits))


def test_a_reset_of_clock_and_counter_begins_a_scan_with_its_own_first_pulse() -> None:
    plan = Plan(start=700_000)
    made = make(plan, random.Random(8))
    old = make(Plan(ny=12, hits=0, start=66 * 640_000_000, counter=3471), random.Random(9))
    got = read(plan, Made(old.stream + made.stream, made.truth, made.good))
    found = {number: position for number, (_, position) in rows_and_columns(got).items()}
    assert found == {n: line * plan.nx + column for n, (line, column) in enumerate(made.truth)}
    assert {"clock_reset", "line_count_anew"} & set(got.notices())


@pytest.mark.parametrize("chips", [1, 4])
@pytest.mark.parametrize("line", [1, 2])
def test_a_pulse_whose_time_lies_before_the_scan_is_not_its_first_line(
    chips: int, line: int
) -> None:
    """Even by whole periods: its chip sent it behind the first one."""
    for one_chip in (False, True):
        plan = Plan(chips=chips, one_chip=one_chip, faults={line: "behind"})
        for seed in range(6):
            made = make(plan, random.Random(seed))
            check(plan, made, read(plan, made))


def test_a_stray_behind_a_pause_of_whole_lines_moves_no_line() -> None:
    """With it the time of all later pulses fits their count as if a line had been missed."""
    plan = Plan(scans=3, chips=4, pause=PERIOD, faults={68: "late", 72: "stray"})
    made = make(plan, random.Random(1))
    check(plan, made, read(plan, made))


def test_a_false_time_behind_a_pause_of_whole_lines_moves_no_line() -> None:
    """It was counted behind the scan's first pulses, whatever its time says."""
    plan = Plan(scans=3, chips=4, pause=PERIOD, faults={70: "behind", 131: "behind"})
    for seed in range(6):
        made = make(plan, random.Random(seed))
        check(plan, made, read(plan, made))


def test_a_stray_among_the_first_pulses_makes_no_period_of_its_own() -> None:
    """Lines wait for the other chips, so that many are looked at when the period is not known."""
    plan = Plan(ny=20, scans=2, chips=4, flyback=0, faults={2: "stray", 15: "early"})
    for seed in range(6):
        made = make(plan, random.Random(seed))
        check(plan, made, read(plan, made))


def test_a_false_time_far_ahead_is_not_confirmed_by_a_true_one_before_it() -> None:
    """Where hits are rare a true one is as far ahead of the last one as to need confirmation."""
    plan = Plan(ny=20, nx=50, flyback=40, dwell=64_000, hits=2, faults={7: "far", 16: "far"})
    for seed in range(8):
        made = make(plan, random.Random(seed))
        got = read(plan, made)
        check(plan, made, got)
        assert "clock_reset" not in got.notices()


@pytest.mark.parametrize(
    ("plan", "seed"),
    [
        (Plan(ny=20, wobble=0.01, faults={4: "counter"}), 100228),
        (Plan(ny=60, scans=2, chips=4, flyback=2, pause=12800, wobble=0.01), 100798),
        (Plan(ny=20, scans=3, wobble=0.01, pause=12800, faults={4: "lost", 34: "lost"}), 102848),
    ],
    ids=["counter", "four chips", "lost"],
)
def test_few_intervals_that_are_alike_by_chance_do_not_make_the_clock_strict(
    plan: Plan, seed: int
) -> None:
    made = make(plan, random.Random(seed))
    check(plan, made, read(plan, made))


def test_a_false_time_on_an_earlier_lines_time_is_not_that_line() -> None:
    """Its chip had sent the pulses of later times before it; they all still wait."""
    for seed in range(40):
        plan = Plan(chips=4, wobble=0.01, flyback=2, faults={7: "behind", 43: "behind"})
        made = make(plan, random.Random(seed))
        check(plan, made, read(plan, made))


def test_a_run_of_pulses_skips_none_that_contradict_it() -> None:
    """A late pulse is on the time of far ones by chance, and a stray with a period of its own."""
    faults = {19: "late", 73: "stray", 83: "far", 133: "stray", 147: "far", 149: "late"}
    faults |= {150: "far", 169: "stray", 170: "late"}
    plan = Plan(scans=3, chips=4, pause=12800, faults=faults)
    made = make(plan, random.Random(100481))
    check(plan, made, read(plan, made))
    plan = Plan(ny=20, scans=2, chips=4, one_chip=True, wobble=0.01, flyback=2)
    plan.faults = {2: "stray", 27: "stray"}
    made = make(plan, random.Random(100539))
    check(plan, made, read(plan, made))
