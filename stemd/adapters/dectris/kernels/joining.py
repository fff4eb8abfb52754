"""Messages of several connections copied into one line."""

from __future__ import annotations

from stemd.adapters.dectris.kernels.table import BEGIN, END
from stemd.compilation import njit


@njit(nogil=True, cache=True)
def copy_messages(data, rows, places, out):
    """Copy the messages of `rows` (see `table`) in `data` to their `places` in `out`."""
    for i in range(rows.shape[0]):
        first, stop, to = rows[i, BEGIN], rows[i, END], places[i]
        out[to : to + stop - first] = data[first:stop]
