"""Letters of 5 x 7 dots for the scale bar of a picture, so that no font has to be there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11111 00010 00100 00010 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    ".": "00000 00000 00000 00000 00000 01100 01100",
    " ": "00000 00000 00000 00000 00000 00000 00000",
    "n": "00000 00000 10110 11001 10001 10001 10001",
    "m": "00000 00000 11010 10101 10101 10101 10101",
    "r": "00000 00000 10110 11001 10000 10000 10000",
    "a": "00000 00000 01110 00001 01111 10001 01111",
    "d": "00001 00001 01101 10011 10001 10001 01111",
    "p": "00000 00000 11110 10001 11110 10000 10000",
    "x": "00000 00000 10001 01010 00100 01010 10001",
}
HEIGHT = 7


def written(text: str) -> NDArray[np.bool_]:
    """The text as dots (y, x), one dot between two letters; unknown letters are blank."""
    blank = _ROWS[" "]
    columns = []
    for letter in text:
        rows = _ROWS.get(letter, blank).split()
        columns.append(np.array([[dot == "1" for dot in row] + [False] for row in rows], np.bool_))
    return np.concatenate(columns, axis=1)[:, :-1] if columns else np.zeros((HEIGHT, 0), np.bool_)
