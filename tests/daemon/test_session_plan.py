"""What a session is asked for, when it is over, and what its book says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stemd.config.file import parse
from stemd.config.problems import ConfigProblemsError
from stemd.config.session_plan import SessionPlan
from stemd.daemon.sessions.book import MAX_EVENTS, SHOWN, SessionBook
from stemd.daemon.sessions.files import Draft, SessionFiles
from stemd.storage.store import Store
from tests.daemon.test_config import GOOD

PLENTY = 10**12
NOW = 1_790_000_000 * 10**9


def book_of(**plan: Any) -> SessionBook:
    return SessionBook.begin(
        SessionPlan(name="night", **plan), "cam", "titan", NOW, from_config=True
    )


def keep(store: Store, book: SessionBook) -> None:
    SessionFiles(store).keep(Draft.of(book))


def stored(store: Store, pipeline: str) -> list[SessionBook]:
    return SessionFiles(store).stored(pipeline)


def a_scan(number: int, status: str = "complete", counts: float = 100.0) -> dict[str, Any]:
    return {
        "id": f"scan-{number}",
        "status": status,
        "positions_done": 4,
        "missing": 0 if status == "complete" else 2,
        "counters": {"counts_per_position": counts},
        "finished": "2026-01-01T00:00:00.000000Z",
    }


def test_a_session_is_complete_after_its_scans_and_those_cut_off_by_a_fault_do_not_count() -> None:
    book = book_of(scans=2)
    book.got(a_scan(1), NOW)
    book.got(a_scan(2, "aborted"), NOW)
    assert book.over(0, PLENTY) is None
    book.got(a_scan(3, "incomplete"), NOW)
    assert book.over(0, PLENTY) == ("complete", "2 scans")
    counts = {"complete": 1, "incomplete": 1, "aborted": 1, "not recorded": 0}
    assert book.summary()["counts"] == counts


def test_a_session_is_complete_at_its_time_and_a_time_without_a_zone_is_utc() -> None:
    book = book_of(until="2026-03-02T06:00:00")
    end = int(datetime(2026, 3, 2, 6, tzinfo=UTC).timestamp()) * 10**9
    assert book.over(end - 1, PLENTY) is None
    over = book.over(end, PLENTY)
    assert over is not None
    assert over[0] == "complete"


@pytest.mark.parametrize(
    ("end", "scans", "free", "word"),
    [
        ({"failed_scans": 2}, [a_scan(1), *[a_scan(n, "incomplete") for n in (2, 3)]], PLENTY,
         "failed_scans"),
        ({"lost_dose": 0.5}, [a_scan(1), a_scan(2, counts=49.0)], PLENTY, "dose lost"),
        ({"min_free_gb": 2.0}, [], 1_900_000_000, "min_free_gb"),
    ],
)  # fmt: skip
def test_a_condition_ends_a_session_and_says_which(
    end: dict[str, Any], scans: list[dict[str, Any]], free: int, word: str
) -> None:
    book = book_of(end=end)
    for scan in scans[:-1]:
        book.got(scan, NOW)
        assert book.over(0, PLENTY) is None
    if scans:
        book.got(scans[-1], NOW)
    status, reason = book.over(0, free) or ("", "")
    assert status == "ended"
    assert word in reason


def test_a_dose_that_is_a_little_lower_and_failures_with_a_good_scan_between_end_nothing() -> None:
    book = book_of(end={"lost_dose": 0.5, "failed_scans": 2})
    for number, scan in enumerate(
        [a_scan(1), a_scan(2, "incomplete"), a_scan(3, counts=51.0), a_scan(4, "incomplete")]
    ):
        book.got({**scan, "id": str(number)}, NOW)
        assert book.over(0, None) is None


def test_settings_of_each_scan_come_round_again() -> None:
    sizes = [{"ricom": {"kernel_size": size}} for size in (3, 5, 7)]
    plan = SessionPlan(name="n", each=sizes)
    assert [plan.change_for(n) for n in range(4)] == [*sizes, sizes[0]]
    assert SessionPlan(name="n").change_for(3) == {}


def test_a_running_session_is_found_again_with_all_that_it_had(tmp_path: Path) -> None:
    store = Store(tmp_path, "titan")
    book = book_of(scans=5)
    book.got(a_scan(1), NOW)
    book.begun("scan-2")
    keep(store, book)
    store.close()
    again = Store(tmp_path, "titan")
    (found,) = stored(again, "cam")
    assert stored(again, "other") == []
    assert found.running
    found.goes_on(NOW, "another")
    found.cut_off("scan-2", NOW)
    scans = found.document["scans"]
    assert [(s["id"], s["status"]) for s in scans] == [
        ("scan-1", "complete"),
        ("scan-2", "aborted"),
    ]
    assert "started again" in found.document["events"][-2]["message"]
    assert again.catalogue.sessions()[0]["name"] == "night"
    again.close()


def test_a_damaged_session_file_keeps_nobody_from_starting(tmp_path: Path) -> None:
    store = Store(tmp_path, "titan")
    keep(store, book_of())
    for name, text in (("broken", "{"), ("strange", json.dumps({"pipeline": "cam"}))):
        (tmp_path / "sessions" / name).mkdir()
        (tmp_path / "sessions" / name / "session.json").write_text(text)
    assert len(stored(store, "cam")) == 1
    store.close()


def test_the_message_stays_small_however_long_the_night_was() -> None:
    book = book_of()
    for number in range(MAX_EVENTS + 5):
        book.got(a_scan(number, "incomplete"), NOW)
    shown = book.shown()
    assert [len(shown[key]) for key in ("scans", "events")] == [SHOWN, SHOWN]
    assert len(book.document["scans"]) == MAX_EVENTS + 5
    assert (len(book.document["events"]), book.document["events_dropped"]) == (MAX_EVENTS, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a/b"},
        {"name": "."},
        {"name": "n", "until": "tomorrow"},
        {"name": "n", "scans": 0},
        {"name": "n", "pause_s": -1},
        {"name": "n", "settings": {"id": "1"}},
        {"name": "n", "end": {"lost_dose": 1.5}},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SessionPlan.model_validate(wrong)


def test_sessions_stand_in_the_config_and_name_their_pipeline() -> None:
    text = GOOD + '\n[[session]]\nname = "night"\nuntil = 2026-03-02T06:00:00Z\nscans = 3\n'
    config = parse(text)
    name = config.pipelines[0].name
    assert [plan.name for plan in config.sessions_of(name)] == ["night"]
    with pytest.raises(ConfigProblemsError) as refused:
        parse(text + 'pipeline = "nobody"\n')
    assert refused.value.problems[0].key == "session[0].pipeline"
