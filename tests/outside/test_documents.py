"""JSON in and out: nothing that stands in it, however odd, raises anything of its own."""

from __future__ import annotations

import datetime
import enum
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from stemd.acquisition import iso_utc
from stemd.documents import (
    MAX_DEPTH,
    compact_json,
    from_json,
    jsonable,
    object_from_json,
    plain_text,
    read_object,
    stamped,
    to_json,
)
from stemd.errors import FormatError

from .strategies import nested, values, wire


@settings(max_examples=300, deadline=None)
@given(value=values)
def test_whatever_goes_out_is_json_that_can_be_encoded(value: Any) -> None:
    for text in (to_json(value), compact_json(value), to_json(value, ascii_only=True)):
        back = json.loads(text.encode("utf-8"))
        assert back == jsonable(value)
        assert from_json(text) == from_json(text.encode()) == back


@settings(max_examples=500, deadline=None)
@given(data=wire)
def test_whatever_comes_in_is_a_value_that_can_go_out_or_a_format_error(data: bytes) -> None:
    try:
        value = from_json(data)
    except FormatError:
        return
    to_json(stamped({"value": value})).encode()
    compact_json(value).encode()
    str(value).encode()


class _Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class _Model(BaseModel):
    name: str = "\ud800"


class _Kind(enum.Enum):
    A = "a"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("\ud800", "\\ud800"),
        (Path(os.fsdecode(b"f\xfcr.tif")), "f\\udcfcr.tif"),
        ({"\udcfc": 1, _Odd(): 2}, {"\\udcfc": 1, "<_Odd>": 2}),
        (_Odd(), "<_Odd>"),
        (_Model(), {"name": "\\ud800"}),
        (_Kind.A, "_Kind.A"),
        ({1, "a"}, [1, "a"]),
        (10**400, None),
        (np.longdouble(1.5), "1.5"),
        (np.array([np.nan, 1.0]), [None, 1.0]),
        (np.array("é"), "é"),
        (datetime.datetime.min, "0001-01-01 00:00:00"),
        (b"\xff", "b'\\xff'"),
    ],
)
def test_odd_values_become_text_or_null(value: Any, plain: Any) -> None:
    found = jsonable(value)
    assert (
        sorted(map(str, found)) == sorted(map(str, plain))
        if isinstance(value, set)
        else (found == plain)
    )
    to_json(value).encode()


def test_a_value_that_holds_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert to_json(endless) == "[" * MAX_DEPTH + '"..."' + "]" * MAX_DEPTH


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 200_000])
def test_deep_nesting_is_refused_without_a_recursion_error(depth: int) -> None:
    with pytest.raises(FormatError, match=r"nested|recursion"):
        from_json(nested(depth))
    assert from_json(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"\xff", "is not valid JSON"),
        (b"[1]", "is an array in JSON, not an object"),
        (b"5", "is a number in JSON, not an object"),
        (b"null", "is null in JSON, not an object"),
        (b'{"a": "' + b"x" * 100 + b'"}', "has 109 bytes"),
    ],
)
def test_what_is_no_object_is_said(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        object_from_json(data, most=108)


def test_half_of_a_surrogate_pair_is_no_text_in_a_request() -> None:
    half = rb'{"about": {"sample": "\ud800"}}'
    assert object_from_json(half) == {"about": {"sample": "\\ud800"}}
    with pytest.raises(FormatError, match="half of a surrogate pair"):
        object_from_json(half, whole_text=True)
    pair = rb'{"a": "\ud83d\ude00"}'
    assert object_from_json(pair, whole_text=True) == {"a": "\U0001f600"}


def test_numbers_that_no_double_holds_do_not_come_in_as_integers() -> None:
    assert from_json(b"1" * 400) == float("inf")
    assert from_json(b"12345678901234567890") == 12345678901234567890


def test_a_file_is_not_read_beyond_its_limit_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"f\xfcr.json")
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(FormatError, match=r"f\\udcfcr\.json has \d+ bytes") as error:
        read_object(path)
    str(error.value).encode()


def test_text_that_can_be_encoded_stays_as_it_is() -> None:
    for text in ("plain", "é€\U0001f600", "\\ud800"):
        assert plain_text(text) is text or plain_text(text) == text


@given(time_ns=st.integers())
def test_every_time_has_a_text(time_ns: int) -> None:
    assert iso_utc(time_ns).endswith("Z")
    assert stamped({"time_ns": time_ns})["time"].endswith("Z")
