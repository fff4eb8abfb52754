"""Compiled parts of a phase image that grows line by line: cells mixed, lines added by kernels."""

from __future__ import annotations

import numpy as np

from stemd.compilation import njit


@njit(nogil=True, cache=True, fastmath={"contract"})
def mix_cells(counts, columns, chosen, weights, offset, out):
    """Components of the positions of a line: out[j, x] = offset[j] + sum_k c[x, k] weights[k, j].

    counts: float32 (nx, kept cells); columns: int64 (cells,), those that are used, c[x, k] =
    counts[x, columns[k]]; chosen: bool (nx,), the others get 0; weights: float32 (cells,
    components); offset: float32 (components,); out: float32 (components, nx). Components a multiple
    of 4. Four cells and four components share their loads and stores: 2 cells x components
    floating-point operations a position.
    """
    cells, nx = columns.size, chosen.size
    # rows of a power of two would all fall into the same places of the cache
    turned = np.zeros((-(-cells // 4) * 4, nx + 16), np.float32)
    w = np.zeros((4, 4), np.float32)
    for x in range(nx):
        if chosen[x]:
            for k in range(cells):
                turned[k, x] = counts[x, columns[k]]
    for j in range(0, offset.size, 4):
        r, s, t, o = out[j], out[j + 1], out[j + 2], out[j + 3]
        for x in range(nx):
            there = np.float32(1.0) if chosen[x] else np.float32(0.0)
            r[x], s[x] = offset[j] * there, offset[j + 1] * there
            t[x], o[x] = offset[j + 2] * there, offset[j + 3] * there
        for k in range(0, cells, 4):
            a, b, c, d = turned[k], turned[k + 1], turned[k + 2], turned[k + 3]
            # element by element: a row assigned to a row takes 1.4 s to compile
            for n in range(4):
                for i in range(4):
                    w[n, i] = weights[k + n, j + i] if k + n < cells else np.float32(0.0)
            ar, br, cr, dr = w[0, 0], w[1, 0], w[2, 0], w[3, 0]
            at, bt, ct, dt = w[0, 1], w[1, 1], w[2, 1], w[3, 1]
            au, bu, cu, du = w[0, 2], w[1, 2], w[2, 2], w[3, 2]
            av, bv, cv, dv = w[0, 3], w[1, 3], w[2, 3], w[3, 3]
            for x in range(nx):
                r[x] += a[x] * ar + b[x] * br + c[x] * cr + d[x] * dr
                s[x] += a[x] * at + b[x] * bt + c[x] * ct + d[x] * dt
                t[x] += a[x] * au + b[x] * bu + c[x] * cu + d[x] * du
                o[x] += a[x] * av + b[x] * bv + c[x] * cv + d[x] * dv


@njit(nogil=True, cache=True, fastmath={"contract"})
def add_lines(real, imag, lines, kernel_real, kernel_imag, image_real, image_imag):
    """Add the contributions of some scan lines to an image, all transformed along x.

    image[lines[l] + d - n // 2, q] += sum_j kernel[d, j, q] line[l, j, q]: a convolution along y
    is a sum over the kernel's rows, one along x a product. What lies outside the image is dropped.

    real, imag: float32 (l, components, frequencies), of the lines `lines`, int64 (l,);
    kernel_...: float32 (n, components, frequencies); image_...: float32 (ny, frequencies), added
    to. Components a multiple of 4: so many share each load and store of the image. 16 n
    components / 2 floating-point operations a position.
    """
    ny = image_real.shape[0]
    rows, components, width = kernel_real.shape
    for d in range(rows):
        for number in range(lines.size):
            y = lines[number] + d - rows // 2
            if y < 0 or y >= ny:
                continue
            re, im = image_real[y], image_imag[y]
            for j in range(0, components, 4):
                ar, ai = kernel_real[d, j], kernel_imag[d, j]
                br, bi = kernel_real[d, j + 1], kernel_imag[d, j + 1]
                cr, ci = kernel_real[d, j + 2], kernel_imag[d, j + 2]
                er, ei = kernel_real[d, j + 3], kernel_imag[d, j + 3]
                ur, ui = real[number, j], imag[number, j]
                vr, vi = real[number, j + 1], imag[number, j + 1]
                wr, wi = real[number, j + 2], imag[number, j + 2]
                xr, xi = real[number, j + 3], imag[number, j + 3]
                for q in range(width):
                    re[q] += (
                        ar[q] * ur[q] - ai[q] * ui[q]
                        + br[q] * vr[q] - bi[q] * vi[q]
                        + cr[q] * wr[q] - ci[q] * wi[q]
                        + er[q] * xr[q] - ei[q] * xi[q]
                    )  # fmt: skip
                    im[q] += (
                        ar[q] * ui[q] + ai[q] * ur[q]
                        + br[q] * vi[q] + bi[q] * vr[q]
                        + cr[q] * wi[q] + ci[q] * wr[q]
                        + er[q] * xi[q] + ei[q] * xr[q]
                    )  # fmt: skip
