"""Lines of a .t3pa file: which are hits, which is the heading, which cannot be read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemd.adapters.advapix.records import RECORD
from stemd.compilation import njit

_COLUMNS = (("index", 1), ("toa", 2), ("tot", 3), ("ftoa", 4), ("overflow", 5))


@njit(nogil=True, cache=True)
def parse_text(
    text: NDArray[np.uint8], columns: int, values: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Lines of integers into `values` (n, columns); returns (bytes used, lines, unreadable ones).

    Unreadable are lines that hold something else than `columns` integers, but for a heading
    (letters and no digit). The last line may lack its end, any may end with a carriage return.
    """
    lines = used = unread = 0
    field = 0
    number = np.int64(0)
    digits = negative = letters = any_digit = something = False
    good = True
    for i in range(text.size + 1):
        c = text[i] if i < text.size else np.uint8(10)
        if 48 <= c <= 57:
            number = number * 10 + (c - 48)
            digits = any_digit = True
        elif c == 45 and not digits:
            negative = True
        elif c == 9 or c == 10 or c == 13 or c == 32 or c == 44 or c == 59:
            if digits:
                if field < columns:
                    values[lines, field] = -number if negative else number
                field += 1
            number = np.int64(0)
            digits = negative = False
            if c == 10 or c == 13:
                if good and field == columns:
                    lines += 1
                elif (something or any_digit) and not (letters and not any_digit):
                    unread += 1
                field = 0
                good = True
                letters = any_digit = something = False
                used = min(i + 1, text.size)
                if lines == values.shape[0]:
                    break
        else:
            good = False
            something = True
            if 65 <= (c & 223) <= 90:
                letters = True
    return used, lines, unread


def text_records(text: NDArray[np.uint8]) -> tuple[NDArray[Any], int, int]:
    """Records of .t3pa lines (Index, Matrix Index, ToA, ToT, FToA, Overflow).

    With bytes used, and how many lines cannot be read: those with values that no record can have
    are among them. A heading line is skipped.
    """
    lines = np.count_nonzero(text == 10) + np.count_nonzero(text == 13) + 1
    values = np.zeros((lines, 6), np.int64)
    used, lines, unread = parse_text(text, 6, values)
    values = values[:lines]
    possible = (values >= 0).all(axis=1)
    for name, column in _COLUMNS:
        kind = RECORD[name]
        if kind.itemsize < 8:
            possible &= values[:, column] <= np.iinfo(kind).max
    if not possible.all():
        values = values[possible]
    made = np.zeros(len(values), RECORD)
    for name, column in _COLUMNS:
        made[name] = values[:, column].astype(made[name].dtype)
    return made, int(used), int(unread) + lines - len(values)
