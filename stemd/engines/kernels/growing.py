"""Compiled parts of a phase image that grows line by line: cells mixed, lines added by kernels.

Components are transformed two by two, one as the real and one as the imaginary part of a lane. Of
every EIGHT components the first HALF are the real parts of HALF lanes, the others their imaginary
ones.
"""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit
from stemd.engines.kernels.line_products import EIGHT, HALF, ROWS, add_rows, mix_eight


@njit(nogil=True, cache=True)
def mix_cells(counts, columns, chosen, weights, offset, real, imag, to):
    """Components of the positions of a line: offset[j] + sum_k c[x, k] weights[k, j].

    counts: float32 (nx, kept cells); columns: int64 (cells,), those that are used, c[x, k] =
    counts[x, columns[k]]; chosen: bool (nx,), the others get 0; weights: float32 (cells,
    components); offset: float32 (components,), a multiple of EIGHT; real, imag: float32
    (nx or more, lanes), written at components / 2 lanes from lane `to` on, see above. Eight
    positions share the loads of the weights: cells x components multiplications a position.
    """
    nx, components = chosen.size, offset.size
    there = np.zeros(nx, np.float32)
    for x in range(nx):
        if chosen[x]:
            there[x] = np.float32(1.0)
    one, mixing = counts.reshape(-1), weights.reshape(-1)
    re, im, lanes = real.reshape(-1), imag.reshape(-1), real.shape[1]
    for x in range(0, nx, EIGHT):
        for j in range(0, components, EIGHT):
            mix_eight(
                one, x, nx - 1, counts.shape[1], columns, mixing, components, j, offset, there,
                re, im, lanes, to + j // 2,
            )  # fmt: skip


@njit(nogil=True, cache=True)
def two_by_two(real, imag, q, lines, out_real, out_imag):
    """Frequency q of the transforms of real numbers that went as real and imaginary parts.

    real, imag: float32 (length, lanes), transformed along the first axis; out_...: float32
    (lines, components), written with twice the value of each component.
    """
    length, lanes = real.shape
    mirror = (length - q) % length
    each = lanes // lines
    for line in range(lines):
        for block in range(each // HALF):
            for r in range(HALF):
                lane = line * each + block * HALF + r
                j = block * EIGHT + r
                p, m, a, b = real[q, lane], real[mirror, lane], imag[q, lane], imag[mirror, lane]
                out_real[line, j], out_imag[line, j] = p + m, a - b
                out_real[line, j + HALF], out_imag[line, j + HALF] = a + b, m - p


@njit(nogil=True, cache=True)
def add_lines(real, imag, lines, kernel_real, kernel_imag, image_real, image_imag):
    """Add the contributions of some scan lines to an image, all transformed along x.

    image[q, lines[l] + d] += 2 sum_j kernel[q, j, d] line[q, l, j]: a convolution along y is a sum
    over the kernel's rows, one along x a product.

    real, imag: float32 (length, lanes), of the lines `lines`, int64 (l,), one after another, see
    above; kernel_...: float32 (length // 2 + 1, components, rows), rows a multiple of ROWS;
    image_...: float32 (length // 2 + 1, ny + rows), added to. The kernels of a frequency stay in
    the nearest cache for all lines: 4 rows components / 2 multiplications a position.
    """
    frequencies, components, rows = kernel_real.shape
    tall = image_real.shape[1]
    re = np.zeros((lines.size, components), np.float32)
    im = np.zeros((lines.size, components), np.float32)
    one, other = re.reshape(-1), im.reshape(-1)
    k_re, k_im = kernel_real.reshape(-1), kernel_imag.reshape(-1)
    to_re, to_im = image_real.reshape(-1), image_imag.reshape(-1)
    for q in range(frequencies):
        two_by_two(real, imag, q, lines.size, re, im)
        for number in range(lines.size):
            for d in range(0, rows, ROWS):
                add_rows(
                    k_re, k_im, q * components * rows + d, rows, one, other, number * components,
                    components, to_re, to_im, q * tall + lines[number] + d,
                )  # fmt: skip
