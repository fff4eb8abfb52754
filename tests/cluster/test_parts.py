"""Any cut of a recording into parts gives the images of the whole, through files and back."""

from __future__ import annotations

import functools
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stemd.acquisition import Acquisition, Detector, Scan
from stemd.adapters.events import recording
from stemd.offline.cluster import merging as merging_module
from stemd.offline.cluster import work
from stemd.offline.cluster.merging import Merging
from stemd.offline.cluster.parts import Part
from stemd.offline.cluster.recipe import Recipe
from stemd.offline.cluster.spread import share_of
from stemd.offline.cluster.store import CheckpointStore, PartStore, gaps, key_of
from stemd.offline.outcome import Outcome
from stemd.results import Snapshot

from .scenes import plainly, recipe, same, write_events, write_mib, write_npy

ANY_CUT = hypothesis_settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FRAMES = Scan(shape=(19, 41), flyback=2, leading=3)
EVENTS = Scan(shape=(24, 31), flyback=3, dwell_time_us=1.0)

T = Any


def done(value: T | work.Failure) -> T:
    """The value, or the error it stands for."""
    if isinstance(value, work.Failure):
        raise value.error()
    return value


def in_parts(made: Recipe, edges: list[int], folder: Path, order: list[int]) -> list[Part]:
    """Parts between the edges (units of the file), reduced in some order, read back from files.

    Events cannot be reduced in any order before their checkpoints are known: a first pass makes
    them, the second takes them up in any order.
    """
    about = done(work.describe(made))
    store = PartStore(folder, key_of(about.identity, made.reduction()))
    points = CheckpointStore(folder, "x")
    common = (made, about.acquisition, about.identity)
    edges = sorted({edge for edge in edges if 0 < edge < about.extent})
    lead = done(work.reduce_span(*common, 0, (*edges, about.extent)[0], leads=True))
    spans = [(lead.first, lead.stop)]
    if lead.checkpoint is not None:
        points.save(lead.checkpoint)
    store.save(lead)
    rest = [edge for edge in (*edges, about.extent) if edge > lead.stop]
    if about.sequential:
        part, cuts = lead, []
        for edge in rest:
            if part.over:
                break
            first, known = part.stop, points.load(part.stop)
            assert known is not None
            if edge <= first:
                continue
            part = done(
                work.reduce_span(
                    *common, first, edge, leads=False, centre=lead.centre, checkpoint=known
                )
            )
            if part.checkpoint is not None:
                points.save(part.checkpoint)
            cuts.append((first, part.stop))
    else:
        cuts = list(zip([lead.stop, *rest], rest, strict=False))
    for index in sorted(range(len(cuts)), key=lambda i: order[i % len(order)]):
        first, stop = cuts[index]
        known = points.load(first) if about.sequential else None
        part = done(
            work.reduce_span(
                *common, first, stop, leads=False, centre=lead.centre, checkpoint=known
            )
        )
        assert (part.first, part.stop) == (first, stop)
        store.save(part)
        spans.append((first, stop))
    found = store.spans()
    assert gaps(found, about.extent) == (sorted(spans), [])
    parts = [store.load(*span) for span in found]
    assert all(part is not None for part in parts)
    return [part for part in parts if part is not None]


def images(made: Recipe, parts: list[Part]) -> tuple[Outcome, Snapshot]:
    """From parts to final images as the cluster makes them."""
    about = done(work.describe(made))
    merging = Merging(made, about.acquisition, images=False)
    for part in parts:
        merging.offer(part)
    spans = sorted((part.first, part.stop) for part in parts)
    assert merging.complete(spans, lambda first, stop: None) is None
    return done(  # type: ignore[no-any-return]
        work.finish(made, about.acquisition, merging.part(), about.notices)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipe]:
    folder = tmp_path_factory.mktemp("recordings")
    learns = {"hot_pixels": "learn", "learn_hits": 30_000, "cluster": {}}
    serpentine = EVENTS.model_copy(update={"serpentine": True})
    small = Scan(shape=(20, 23))
    quad, odd = folder / "quad.tpx3", folder / "odd.tpx3"
    return {
        "npy": recipe(write_npy(folder / "a.npy", FRAMES), FRAMES),
        "npy-centre": recipe(folder / "a.npy", FRAMES, center=(16.5, 14.25), rotation_deg=20.0),
        "mib": recipe(write_mib(folder / "b.mib", small), small),
        "mib-holes": recipe(write_mib(folder / "c.mib", small, lost=(7, 8, 200, 201, 333)), small),
        "mib-raw": recipe(write_mib(folder / "d.mib", small, raw=True), small),
        "events": recipe(quad, EVENTS, write_events(quad, EVENTS)),
        "events-joined": recipe(odd, serpentine, write_events(odd, serpentine, **learns)),
        "events-dwell": recipe(quad, EVENTS, write_events(quad, EVENTS, sync="dwell")),
    }


@pytest.fixture(autouse=True, scope="module")
def short_blocks() -> Iterator[None]:
    """Event files are decoded in short steps: what is written here can be cut in many places."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "BLOCK_RECORDS", 16384)
        yield


KINDS = [
    "npy", "npy-centre", "mib", "mib-holes", "mib-raw",
    "events", "events-joined", "events-dwell",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(files: dict[str, Recipe]) -> Callable[[str], tuple[Outcome, Snapshot]]:
    """What a kind of file gives without a cluster, made once: it is the same for every cut."""
    return functools.cache(lambda kind: plainly(files[kind]))


@pytest.mark.parametrize("kind", KINDS)
@ANY_CUT
@given(data=st.data())
def test_any_cut_in_any_order_gives_the_same_images(
    kind: str,
    files: dict[str, Recipe],
    whole: Callable[[str], tuple[Outcome, Snapshot]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    made = files[kind]
    extent = done(work.describe(made)).extent
    edges = data.draw(st.lists(st.integers(1, extent - 1), max_size=6))
    order = data.draw(st.permutations(range(7)))
    parts = in_parts(made, edges, tmp_path_factory.mktemp("parts"), list(order))
    same(images(made, parts), whole(kind))


@pytest.mark.parametrize("kind", ["npy", "events"])
def test_images_are_the_same_wherever_and_in_whatever_order_parts_are_merged(
    kind: str, files: dict[str, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging_module, "FRESH_PARTS", 5)
    made = files[kind]
    about = done(work.describe(made))
    size = about.extent // 12
    edges = list(range(size, about.extent, size))
    parts = in_parts(made, edges, tmp_path, [0])
    assert len(parts) > 2 + 5  # more than are held
    held = {(part.first, part.stop): part for part in parts}
    loaded: list[int] = []

    def load(first: int, stop: int) -> Part | None:
        loaded.append(first)
        return held.get((first, stop))

    merging = Merging(made, about.acquisition, images=True)
    for part in [*parts[:2], *parts[:2:-1], parts[2]]:
        merging.offer(part)
    spans = list(held)
    gone = held.pop(spans[-1]), held.pop(spans[5])
    missing = merging.complete(spans, load)
    if missing is not None:  # more parts had to wait than memory is there for
        held |= {(part.first, part.stop): part for part in gone}
        assert missing in held
        assert merging.complete(spans, load) is None
    assert loaded
    whole = merging.part()
    same(merging.images(about.notices), plainly(made))
    same(done(work.finish(made, about.acquisition, whole, about.notices)), plainly(made))


@pytest.mark.parametrize("kind", ["mib-raw", "events", "events-joined"])
def test_memory_of_a_part_is_gone_with_it(kind: str, files: dict[str, Recipe]) -> None:
    """Without help of the collector of cycles, which workers call rarely."""
    made = files[kind]
    about = done(work.describe(made))
    common = (made, about.acquisition, about.identity, 0, about.extent // 4)
    done(work.reduce_span(*common, leads=True))
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(4):
            done(work.reduce_span(*common, leads=True))
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.enable()
    assert sizes[-1] - sizes[0] < 2_000_000


@pytest.mark.parametrize(
    ("frames", "part_bytes", "threads", "parts"),
    [
        (16384, None, 0, 2),  # 2 GiB: no more than the largest part asks for
        (16384, None, 1, 2),
        (16384, None, 2, 4),
        (16384, None, 4, 8),
        (16384, None, 1000, 32),  # no smaller than is worth a task
        (131072, None, 4, 16),
        (131072, None, 1, 16),
        (256, None, 64, 1),
        (16384, 256 * 2**20, 1, 8),
    ],
)
def test_parts_are_as_many_as_suit_the_workers(
    frames: int, part_bytes: int | None, threads: int, parts: int
) -> None:
    scan = Scan(shape=(frames // 256, 256))
    acquisition = Acquisition(scan, Detector("a", (256, 256), "u2", 0))
    about = work.Description(acquisition, frames, False, 128 * 1024, {}, ())
    size = about.units(part_bytes, threads)
    assert size % 256 == 0  # whole lines
    assert -(-frames // size) == parts


@given(files=st.integers(1, 40), threads=st.integers(0, 12))
def test_files_share_the_threads(files: int, threads: int) -> None:
    shares = [share_of(number, files, threads) for number in range(files)]
    whole = files - files % max(1, threads)
    assert shares[:whole] == [1] * whole
    if files > whole:
        assert set(shares[whole:]) == {shares[-1]}
        # all threads have work, and none of the files is cut for more than that takes
        assert sum(shares[whole:]) >= threads > sum(shares[whole:]) - (files - whole)


def test_an_event_stream_is_cut_only_for_engines_that_can_take_parts_of_a_position() -> None:
    def whole(*names: str) -> bool:
        tables: dict[str, dict[str, Any]] = {name: {} for name in names}
        return recipe(Path("x.tpx3"), Scan(shape=(2, 2)), tables=tables).needs_whole_positions

    assert not whole("com", "pacbed", "ssb")
    assert whole("com", "airpi")
