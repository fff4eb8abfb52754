"""Compiled summing of binned patterns over small boxes of the scan."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit


@njit(nogil=True, cache=True)
def box_patterns(lines, done, slots, columns, scale, out, present):
    """Sum the patterns of m x m boxes of positions, as if none of them were missing.

    lines: int32 (held, nx, K), binned patterns of the lines that are held; done: bool (held,
    nx); slots: int64 (m,), which of them are the box's lines, -1 for a line without patterns;
    columns: int64 (n,), the first column of each box, outside of 0..nx-1 the border's column;
    out: float32 (n, K), the sum times `scale` times m^2 / patterns; present: int64 (n,), the
    patterns that were there. 0.1 nanoseconds a pixel of each pattern.
    """
    m, nx, K = slots.size, lines.shape[1], lines.shape[2]
    for n in range(columns.size):
        total = out[n]
        total[:] = 0
        found = 0
        for j in range(m):
            x = min(max(columns[n] + j, 0), nx - 1)
            for i in range(m):
                slot = slots[i]
                if slot < 0 or not done[slot, x]:
                    continue
                pattern = lines[slot, x]
                for k in range(K):
                    total[k] += np.float32(pattern[k])
                found += 1
        present[n] = found
        if found:
            factor = np.float32(scale * m * m / found)
            for k in range(K):
                total[k] *= factor
