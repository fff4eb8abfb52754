"""Items that are made in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stemd.ahead import ahead


def numbers(count: int, made: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        if made is not None:
            made.append(number)
        yield number


def test_items_come_in_order_and_all_of_them() -> None:
    assert list(ahead(numbers(1000), lambda item: None, 3)) == list(range(1000))
    assert list(ahead(numbers(0), lambda item: None)) == []


def test_they_are_made_by_another_thread() -> None:
    def names() -> Iterator[str]:
        yield threading.current_thread().name

    assert list(ahead(names(), lambda item: None)) == ["ahead"]


def test_no_more_are_made_than_there_is_room_for() -> None:
    made: list[int] = []
    items = ahead(numbers(100, made), lambda item: None, 3)
    for taken in range(1, 101):
        assert next(items) == taken - 1
        # those that were taken together, as many ahead, and one that waits for room
        assert len(made) <= taken + 2 + 3 + 1


def test_an_error_comes_behind_the_items_before_it() -> None:
    def breaking() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    items = ahead(breaking(), lambda item: None)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_who_stops_taking_ends_the_thread_and_forgets_each_item_once() -> None:
    closed, forgotten, made = threading.Event(), [], []

    def source() -> Iterator[int]:
        try:
            yield from numbers(10_000, made)
        finally:
            closed.set()

    items = ahead(source(), forgotten.append, 4)
    taken = [next(items) for _ in range(7)]
    items.close()
    assert closed.is_set()
    assert sorted(taken + forgotten) == made
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_who_stops_taking_does_not_wait_for_what_never_comes() -> None:
    hurried = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        assert hurried.wait(60)

    items = ahead(source(), lambda item: None, hurry=hurried.set)
    assert next(items) == 1
    assert not hurried.is_set()
    items.close()
    assert hurried.is_set()
    ended = threading.Event()
    assert list(ahead(numbers(9), lambda item: None, hurry=ended.set)) == list(range(9))
    assert not ended.is_set()
