"""What the reader's thread and the engines' threads share of one scan: nothing gets lost."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stemd.blocks import BlockPool, Message, Notice
from stemd.daemon.pipeline.reader import Reader
from stemd.errors import StemdError
from stemd.scan.counters import SharedCounters
from stemd.scan.intake import Intake
from stemd.scan.run import ScanRun
from stemd.settings import Settings
from tests.conftest import an_acquisition

MANY = 20_000


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: object) -> None:
    threads = [threading.Thread(target=work) for work in works]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class NoisyAdapter:
    """A camera that has nothing but notices."""

    def __init__(self, run: ScanRun, begun: threading.Barrier) -> None:
        self._run, self._begun = run, begun

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Many notices, while an engine's thread counts, too."""
        self._begun.wait()
        for _ in range(MANY):
            yield Notice("frames_lost", "a frame is lost")

    def set_scan(self, scan: object) -> None:
        """Not of interest."""

    def close(self) -> None:
        """Nothing to close."""


class Owner:
    """A pipeline that wants nothing."""

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: None


def test_a_notice_of_the_reader_and_one_of_an_engine_are_both_counted(hasty: None) -> None:
    run = ScanRun(an_acquisition(), Settings(), [])
    begun = threading.Barrier(2)
    reader = Reader("cam", lambda: NoisyAdapter(run, begun), Owner())  # type: ignore[arg-type,return-value]
    reader.feed._run = run

    def engine() -> None:
        begun.wait()
        for _ in range(MANY):
            run.tell(Notice("frames_lost", "an engine left a frame out"))

    other = threading.Thread(target=engine)
    other.start()
    reader.start()
    other.join()
    assert reader.join(60.0)
    assert run.counters == {"frames_lost": 2 * MANY}
    assert reader.feed.counts.as_dict() == {"frames_lost": MANY}


class MeetingPlace(dict[str, int]):
    """Counts whose readers wait for one another, as long as one of them may come."""

    def __init__(self) -> None:
        super().__init__()
        self._barrier = threading.Barrier(2, timeout=0.3)

    def get(self, key: str, default: int = 0) -> int:  # type: ignore[override]
        """The count now, read together with the other thread where that is let in."""
        found = super().get(key, default)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._barrier.wait()
        return found


def test_two_threads_that_count_at_the_same_moment_are_both_counted() -> None:
    counters = SharedCounters()
    counters._counts = MeetingPlace()
    together(*[lambda: counters.add("frames_lost")] * 2)
    assert counters.as_dict() == {"frames_lost": 2}


def test_who_reads_the_counters_has_a_copy_that_no_thread_changes() -> None:
    run = ScanRun(an_acquisition(), Settings(), [])
    run.count([Notice("frames_lost", "")])
    seen = run.counters
    run.count([Notice("frames_lost", ""), Notice("bad_words", "", count=3)])
    assert seen == {"frames_lost": 1}
    assert run.counters == {"frames_lost": 2, "bad_words": 3}


def test_positions_reach_the_engines_once_each_whoever_is_quicker(hasty: None) -> None:
    intake = Intake(0)
    ended = threading.Event()
    taken: list[tuple[int, list[tuple[int, int]]]] = []

    def give() -> None:
        for first in range(0, 2 * MANY, 2):
            intake.add_positions([(first, first + 1)])
        ended.set()

    def take() -> None:
        over = False
        while not over:
            over = ended.is_set()
            positions = intake.take_positions()
            taken.append((len(positions), positions))

    together(give, take)
    assert all(len(positions) == count for count, positions in taken), "taken is taken"
    firsts = [first for _, positions in taken for first, _ in positions]
    assert firsts == list(range(0, 2 * MANY, 2))
    assert intake.positions_done == MANY


def test_an_engine_that_two_threads_find_broken_is_reported_once() -> None:
    run = ScanRun(an_acquisition(), Settings(), [])
    barrier = threading.Barrier(2)
    new: list[bool] = []

    def fail(reason: str) -> None:
        barrier.wait()
        new.append(run.engines.note_failure("ssb", reason))

    together(lambda: fail("no memory"), lambda: fail("no space"))
    assert sorted(new) == [False, True]
    assert run.failed["ssb"] in ("no memory", "no space")


def test_whatever_an_engine_fails_of_is_told_to_the_pipeline_once() -> None:
    told: list[tuple[str, str]] = []
    run = ScanRun(
        an_acquisition(), Settings(), [], report=lambda name, error: told.append((name, str(error)))
    )
    for _ in range(2):
        run.engines.leave_out("ssb", ValueError("a mistake in it"))
    run.engines.leave_out("airpi", StemdError("no memory", "buy some"))
    (first, text), second = told
    assert first == "ssb"
    assert "left out for the rest of the scan: ValueError: a mistake in it" in text
    assert second[0] == "airpi"


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3)])
def test_an_engine_that_wants_to_end_the_program_is_left_out_as_one_that_fails(
    error: BaseException,
) -> None:
    run = ScanRun(an_acquisition(), Settings(), [])
    engine = SimpleNamespace(name="mine")

    def broken(argument: object) -> None:
        raise error

    run.engines.guard(cast(Any, engine), broken, None)
    assert "mine" in run.failed
