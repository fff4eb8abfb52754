"""The reader's thread counts failures, pauses, and begins again with nothing left of before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from stemd.acquisition import Scan
from stemd.blocks import BlockPool, Message
from stemd.daemon.pipeline import asking as asking_module
from stemd.daemon.pipeline import restarts as restarts_module
from stemd.daemon.pipeline.asking import Asking
from stemd.daemon.pipeline.reader import Reader
from stemd.errors import CameraError, StemdError
from stemd.settings import Settings
from tests.conftest import wait_until

PAUSES_S = (0.001, 0.002, 0.004)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, each as long as it says."""
    monkeypatch.setattr(restarts_module, "RESTART_S", PAUSES_S)
    monkeypatch.setattr(restarts_module, "JITTER", (1.0, 1.0))


class Failing:
    """A camera that fails at each of its first `times` attempts, over all adapters built."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.built: list[FailingAdapter] = []

    def build(self) -> FailingAdapter:
        self.built.append(FailingAdapter(self))
        return self.built[-1]


class FailingAdapter:
    def __init__(self, camera: Failing) -> None:
        self._camera = camera
        self.scans: list[object] = []
        self.pools: list[BlockPool] = []
        self.closed = False

    def read(self, pool: BlockPool, stop: threading.Event) -> Iterator[Message]:
        """Fail, or end as a file does."""
        self.pools.append(pool)
        if self._camera.left:
            self._camera.left -= 1
            raise CameraError("the cable is out", "put it in")
        yield from ()

    def set_scan(self, scan: object) -> None:
        """The scan that follows."""
        self.scans.append(scan)

    def close(self) -> None:
        """Released."""
        self.closed = True


class Owner:
    """A pipeline that remembers what its reader tells."""

    def __init__(self) -> None:
        self.failures: list[tuple[int, float]] = []
        self.over = threading.Event()
        self.scan = Scan(shape=(3, 5))
        self.at_failure: Callable[[int], None] = lambda number: None

    def failed(self, error: Exception, failures: int, pause_s: float) -> None:
        """Remember, and do what the test wants at this failure."""
        self.failures.append((failures, pause_s))
        self.at_failure(len(self.failures))

    def built(self) -> None:
        """The adapter is there."""

    def exhausted(self) -> None:
        """The source has ended."""
        self.over.set()

    def settings_now(self) -> Settings:
        """Those in force."""
        return Settings(scan=self.scan)


def run(camera: Failing, owner: Owner, made: list[Reader] | None = None) -> Reader:
    """A reader of this camera, until the source has ended."""
    reader = Reader("cam", camera.build, owner)  # type: ignore[arg-type]
    if made is not None:
        made.append(reader)
    reader.start()
    assert owner.over.wait(30.0)
    assert reader.join(30.0)
    return reader


def test_failures_in_a_row_are_counted_and_the_last_pause_repeats() -> None:
    owner = Owner()
    run(Failing(5), owner)
    assert owner.failures == [(1, 0.001), (2, 0.002), (3, 0.004), (4, 0.004), (5, 0.004)]


def test_an_adapter_that_has_run_long_enough_fails_as_if_for_the_first_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restarts_module, "GOOD_AFTER_S", -1.0)
    owner = Owner()
    run(Failing(3), owner)
    assert owner.failures == [(1, 0.001)] * 3


@pytest.mark.parametrize("asked_at", [2, 4])
def test_who_asks_for_a_retry_gets_it_at_once_and_with_a_clean_record(
    asked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = (0.001, 60.0) if asked_at == 2 else (0.001,)
    monkeypatch.setattr(restarts_module, "RESTART_S", longest)
    owner, made = Owner(), list[Reader]()
    owner.at_failure = lambda number: made[0].restarts.retry() if number == asked_at else None
    run(Failing(asked_at + 1), owner, made)
    counted = [failures for failures, _ in owner.failures]
    assert counted == [*range(1, asked_at + 1), 1]


def test_a_new_adapter_gets_a_new_pool_and_the_scan_in_force() -> None:
    camera, owner, scan = Failing(2), Owner(), Scan(shape=(3, 5))
    reader = Reader("cam", camera.build, owner)  # type: ignore[arg-type]
    reader.adapter.set_scan(scan)
    reader.start()
    assert owner.over.wait(30.0)
    assert reader.join(30.0)
    assert camera.built[0].closed
    assert [adapter.scans for adapter in camera.built] == [[scan]] * 3
    pools = [pool for adapter in camera.built for pool in adapter.pools]
    assert len({id(pool) for pool in pools}) == 3, "blocks of the old adapter may be out for ever"


def test_no_adapter_has_an_older_geometry_than_was_set_last() -> None:
    """However setting it and building adapters fall together."""
    owner, camera = Owner(), Failing(300)
    reader = Reader("cam", camera.build, owner)  # type: ignore[arg-type]
    reader.start()
    columns = 1
    while not owner.over.wait(0.0002):
        columns += 1
        reader.adapter.set_scan(Scan(shape=(3, columns)))
    assert reader.join(30.0)
    assert reader.adapter.asking.wait_told(30.0)
    for adapter in camera.built:
        told = [scan.shape[1] for scan in adapter.scans]
        assert told == sorted(told)
    assert camera.built[-1].scans[-1] == Scan(shape=(3, columns))


def test_an_adapter_that_hangs_in_a_call_keeps_nobody_waiting_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking_module, "CALL_S", 0.05)
    go = threading.Event()

    class Hung(FailingAdapter):
        """Returns from nothing."""

        def set_scan(self, scan: object) -> None:
            go.wait(30.0)
            super().set_scan(scan)

        def reconnect(self) -> None:
            go.wait(30.0)

        def command(self, name: str, args: object) -> dict[str, str]:
            return {"told": name}

    adapter = Hung(Failing(0))
    reader = Reader("cam", lambda: adapter, Owner())  # type: ignore[arg-type,return-value]
    asking = reader.adapter.asking = Asking("cam", adapter)  # type: ignore[arg-type]
    newest = Scan(shape=(7, 9))
    for scan in (Scan(shape=(3, 5)), Scan(shape=(5, 6)), newest):
        reader.adapter.set_scan(scan)
    with pytest.raises(CameraError, match="has not returned from set_scan for"):
        reader.adapter.command("start", {})
    assert reader.adapter.command("abort", {}) == {"told": "abort"}, (
        "what ends something waits for nothing"
    )
    for _ in range(2):
        with pytest.raises(StemdError, match="has not returned from reconnect for"):
            asyncio.run(reader.reconnect())
    wait_until(lambda: asking.late == ["reconnect", "set_scan"], "both are named")
    go.set()
    assert asking.wait_told(30.0)
    assert adapter.scans[-1] == newest
    assert len(adapter.scans) <= 2, "what was set between them is nobody's any more"
    wait_until(lambda: not asking.late, "it is well")


class Slow(Failing):
    """A camera whose driver takes its time."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked, self.go = threading.Event(), threading.Event()

    def build(self) -> FailingAdapter:
        self.asked.set()
        assert self.go.wait(30.0)
        return super().build()


@pytest.fixture
def slow() -> Iterator[Slow]:
    camera = Slow()
    yield camera
    camera.go.set()


def test_an_adapter_that_is_not_there_yet_keeps_nobody_waiting_and_gets_the_newest_scan(
    slow: Slow,
) -> None:
    owner, newest = Owner(), Scan(shape=(7, 9))
    reader = Reader("cam", slow.build, owner)  # type: ignore[arg-type]
    reader.start()
    assert slow.asked.wait(30.0)
    assert reader.adapter.building_s > 0
    assert reader.age_s == 0.0, "it is not stuck: how long it may take is another question"
    reader.adapter.set_scan(Scan(shape=(5, 6)))
    reader.adapter.set_scan(newest)
    asyncio.run(reader.reconnect())
    with pytest.raises(CameraError, match="is not there yet: it cannot be told to start"):
        reader.adapter.command("start", {})
    slow.go.set()
    assert owner.over.wait(30.0)
    assert reader.join(30.0)
    assert [adapter.scans for adapter in slow.built] == [[newest]]
    assert reader.adapter.building_s == 0.0


def test_an_adapter_that_comes_after_the_end_is_closed(slow: Slow) -> None:
    reader = Reader("cam", slow.build, Owner())  # type: ignore[arg-type]
    reader.start()
    assert slow.asked.wait(30.0)
    reader.close()
    assert not reader.join(0.01)
    slow.go.set()
    assert reader.join(30.0)
    assert not reader.dead, "it has ended as it was told"
    assert [adapter.closed for adapter in slow.built] == [True]


def test_a_reader_is_dead_only_when_its_thread_ends_against_its_will(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera, owner = Failing(0), Owner()
    reader = Reader("cam", camera.build, owner)  # type: ignore[arg-type]
    assert not reader.dead, "it has not begun"
    with monkeypatch.context() as patch:
        patch.setattr(reader, "_loop", lambda: None)
        reader._thread = reader._new_thread()
        reader.start()
        assert reader.join(30.0)
    assert reader.dead
    assert reader.revive()
    assert owner.over.wait(30.0)
    assert reader.join(30.0)
    assert not reader.dead, "the source has ended"


def test_an_adapter_that_cannot_be_built_is_tried_again() -> None:
    tries, owner = 0, Owner()
    camera = Failing(0)

    def build() -> FailingAdapter:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise CameraError("no driver", "install it")
        return camera.build()

    reader = Reader("cam", build, owner)  # type: ignore[arg-type,return-value]
    reader.start()
    assert owner.over.wait(30.0)
    assert reader.join(30.0)
    assert owner.failures == [(1, 0.001), (2, 0.002)]


async def test_a_plugin_that_leaves_the_program_ends_nobody_else() -> None:
    def leave() -> None:
        raise SystemExit("goodbye")

    with pytest.raises(RuntimeError, match="SystemExit: goodbye"):
        await Asking("cam", FailingAdapter(Failing(0))).ask("saying goodbye", leave)


async def test_a_device_s_own_timeout_is_not_taken_for_an_adapter_that_hangs() -> None:
    def connect() -> None:
        raise TimeoutError("no answer at 10.0.0.5")

    asking = Asking("cam", FailingAdapter(Failing(0)))
    with pytest.raises(TimeoutError, match=r"10\.0\.0\.5"):
        await asking.ask_in_time("reconnect", connect)
    assert asking.late == []
