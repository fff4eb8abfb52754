"""Start, reload, kill, restart, outages, at any moment: nothing is lost, doubled or left behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stemd.config.resolved import Config
from stemd.daemon.sessions.book import SIGN_OF_LIFE_S
from tests.sessions.world import BASE, NAMES, SCAN_S, Room, config_of

EXAMPLES = int(os.environ.get("STEMD_ANY_MOMENT", "25"))
"""More by hand: STEMD_ANY_MOMENT=2000."""
SHRINK = "STEMD_SHRINK" in os.environ
"""It takes minutes."""
RELOAD_S = 1.0
EXACT_S = 0.02
"""Times of the model and of the summaries may differ by what the event loop needs."""

plans = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 3.0]), st.booleans())
moments = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 30])


Asked = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, str, int, float, bool], ...]]
"""Pipelines with their variants; sessions: pipeline, name, scans, pause, start."""


def config(asked: Asked) -> Config:
    """As a config file."""
    pipelines, sessions = asked
    tables = (
        f'[[session]]\nname = "{name}"\npipeline = "{pipeline}"\nscans = {scans}\n'
        f"pause_s = {pause}\nstart = {str(start).lower()}\n"
        for pipeline, name, scans, pause, start in sessions
    )
    return config_of(pipelines, tuple(tables))


@st.composite
def configs(draw: st.DrawFn) -> Asked:
    """One or two pipelines, each of one of two variants, and up to three sessions."""
    chosen = draw(st.sampled_from([("cam",), ("cam",), ("eels",), ("cam", "eels")]))
    pipelines = tuple((name, draw(st.integers(0, 1))) for name in chosen)
    sessions: list[tuple[str, str, int, float, bool]] = []
    for pipeline in chosen:
        names = draw(st.lists(st.sampled_from("ab"), max_size=2, unique=True))
        sessions += [(pipeline, name, *draw(plans)) for name in names]
    return pipelines, tuple(sessions)


class AnyMoment(RuleBasedStateMachine):
    """Does anything at any moment. What must be true is checked at the end of each run."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._folder = tempfile.TemporaryDirectory(dir=self.folder)
        self.room = Room(Path(self._folder.name), self._patch)
        self.down: list[tuple[float, float | None, bool]] = []
        """Of each life but the first: when the one before ended, this one began, and how."""
        self.stopped: set[str] = set()
        self.amended: set[str] = set()

    @initialize(asked=configs())
    def begin(self, asked: Asked) -> None:
        self.config = config(asked)
        self.room.start(self.config)

    @property
    def runs(self) -> bool:
        return self.room.life is not None

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0, 7.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.room.loop.advance(seconds)

    @rule(asked=configs(), rounds=st.none() | moments)
    def reload(self, asked: Asked, rounds: int | None) -> None:
        self.config = config(asked)
        if self.runs:
            self.room.reload(self.config, rounds)

    @precondition(lambda self: self.runs)
    @rule(rounds=st.none() | moments)
    def reload_the_same(self, rounds: int | None) -> None:
        self.room.reload(self.config, rounds)

    @precondition(lambda self: self.runs)
    @rule(rounds=moments)
    def kill(self, rounds: int) -> None:
        self.room.kill(rounds)
        self.down.append((self.room.now_s, None, True))

    @precondition(lambda self: self.runs)
    @rule()
    def stop(self) -> None:
        began = self.room.now_s
        self.room.stop()
        assert self.room.now_s - began < 18.0
        self.down.append((self.room.now_s, None, False))

    @precondition(lambda self: not self.runs)
    @rule()
    def start(self) -> None:
        self.room.loop.advance(0.3)
        ended, _, killed = self.down[-1]
        self.down[-1] = ended, self.room.now_s, killed
        self.room.start(self.config)

    @rule(name=st.sampled_from(NAMES))
    def camera_goes(self, name: str) -> None:
        self.room.camera_goes(name)

    @rule(name=st.sampled_from(NAMES))
    def camera_comes(self, name: str) -> None:
        self.room.camera_comes(name)

    @rule()
    def broker_goes(self) -> None:
        self.room.broker.go()

    @rule()
    def broker_comes(self) -> None:
        self.room.broker.up = True

    @rule(name=st.sampled_from(NAMES))
    def microscope_scans(self, name: str) -> None:
        self.room.microscope_scans(name)

    @precondition(lambda self: self.runs)
    @rule(name=st.sampled_from(NAMES))
    def operator_ends_the_session(self, name: str) -> None:
        bench = self.room.bench(name)
        if bench is not None and bench.sessions.current is not None:
            self.stopped.add(bench.sessions.stop("stopped by command"))

    # What must be true

    def teardown(self) -> None:
        try:
            if hasattr(self, "config"):
                self._come_to_rest()
                self._check()
        finally:
            if self.runs:
                self.room.stop()
            self.room.loop.close()
            self._patch.undo()
            self._folder.cleanup()

    def _come_to_rest(self) -> None:
        """All well again, the same config, and time enough for every plan."""
        room = self.room
        room.broker.up = True
        for name in NAMES:
            room.camera_comes(name)
        if not self.runs:
            self.start()
        room.reload(self.config, None)
        for _ in range(40):
            room.loop.advance(SCAN_S + 4.0)
            if not self._unfinished():
                break
            for name in NAMES:
                room.microscope_scans(name)
        room.loop.advance(20.0)

    def _unfinished(self) -> bool:
        return any(book["status"] == "running" for book in self.room.books())

    def _check(self) -> None:
        books = self.room.books()
        assert not self._unfinished()
        for book in books:
            self._check_counts(book)
            self._check_outages(book)
        self._check_plans(books)
        self._check_topics(books)

    def _check_counts(self, book: dict[str, Any]) -> None:
        truth = {s.id: s.status for s in self.room.scans.values() if s.session == book["id"]}
        assert {scan["id"]: scan["status"] for scan in book["scans"]} == truth
        assert len(book["scans"]) == len(truth)
        assert book["unfinished"] == []
        assert book["counts"]["complete"] == list(truth.values()).count("complete")
        if book["status"] == "complete":
            assert book["counts"]["complete"] >= book["plan"]["scans"]
            if not any("another plan" in event["message"] for event in book["events"]):
                assert book["counts"]["complete"] == book["plan"]["scans"]
        elif not book["withdrawn"]:
            assert book["id"] in self.stopped

    def _check_plans(self, books: list[dict[str, Any]]) -> None:
        """Each plan of the config was carried out once, unless it was withdrawn between."""
        for pipeline in self.config.pipelines:
            for plan in self.config.sessions_of(pipeline.name):
                wishes = [
                    book
                    for book in books
                    if (book["pipeline"], book["name"]) == (pipeline.name, plan.name)
                    and not book["withdrawn"]
                    and book["plan"] == plan.model_dump(mode="json")
                ]
                # one that was running under another plan of its name goes on under this one
                begun = [
                    book
                    for book in wishes
                    if not any("another plan" in event["message"] for event in book["events"])
                ]
                assert wishes, (plan, books)
                assert len(begun) <= 1, (plan, books)

    def _check_outages(self, book: dict[str, Any]) -> None:
        began, ended = book["started_ns"] / 1e9, book["finished_ns"] / 1e9
        missed = [
            (since, until, killed)
            for since, until, killed in self.down
            if until is not None and began <= since and until <= ended
        ]
        found = [each for each in book["outages"] if each["what"] == "daemon"]
        # a daemon that died at once has written nothing: both outages are one then
        assert len(found) <= len(missed)
        for since, until, _ in missed:
            assert any(
                e["from_ns"] / 1e9 - EXACT_S <= since and until <= e["to_ns"] / 1e9 + EXACT_S
                for e in found
            ), (since, until, book)
        for each in found:
            told, uncertain = each["from_ns"] / 1e9, each["uncertainty_s"]
            assert uncertain in (0.0, SIGN_OF_LIFE_S)
            assert any(
                # a reload had stopped its pipeline a moment before
                told - EXACT_S <= since <= told + max(uncertain, RELOAD_S) + EXACT_S
                and (killed or uncertain == 0.0)
                for since, _, killed in missed
            )
            assert any(0.0 <= each["to_ns"] / 1e9 - until < 1.0 for _, until, _ in missed)
        for what in ("camera", "broker", "daemon", "pipeline"):
            total = sum(e["seconds"] for e in book["outages"] if e["what"] == what)
            assert abs(total - book["outage_seconds"].get(what, 0.0)) < 1e-3

    def _check_topics(self, books: list[dict[str, Any]]) -> None:
        room, names = self.room, {pipeline.name for pipeline in self.config.pipelines}
        assert room.broker.pipelines() == names
        assert room.broker.retained[f"{BASE}/availability"] == b"online"
        for name in names:
            of_pipeline = [book for book in books if book["pipeline"] == name]
            told = room.retained_session(name)
            if of_pipeline:
                assert told is not None
                for key in ("id", "status", "reason", "counts"):
                    assert told[key] == of_pipeline[-1][key]
            else:
                assert told is None


def test_whatever_happens_at_any_moment_sessions_topics_and_summaries_are_true(
    tmp_path: Path,
) -> None:
    AnyMoment.folder = tmp_path
    run_state_machine_as_test(
        AnyMoment,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if SHRINK else [Phase.generate],
        ),
    )
