"""What is measured on a restored image: PSNR, SSIM, and columns fitted by least squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


def psnr(image: Image, truth: Image) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the truth's range."""
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return float(10.0 * np.log10(float(np.ptp(truth)) ** 2 / max(error, 1e-30)))


def ssim(image: Image, truth: Image) -> float:
    """Structural similarity, gaussian windows, on the truth's range."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            image, truth, data_range=float(np.ptp(truth)), gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
    )  # fmt: skip


def fitted_columns(image: Image, columns: Numbers, radius_px: float, sigma_px: float) -> Numbers:
    """Least-squares fit of background + height exp(-r^2 / 2 sigma^2) to each column.

    `columns` (n, 2) are first guesses (y, x). Returns (n, 3): y, x and the volume 2 pi sigma^2
    height (the scattering cross-section in electrons, thesis 2.20 to 2.22). Levenberg-Marquardt
    on all columns at once. A column that runs away stays at `radius_px` from its guess.
    """
    reach = int(np.ceil(radius_px))
    offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    offsets = offsets[np.hypot(*offsets.T) <= radius_px + 0.5]
    middle = np.round(columns).astype(int)
    y = middle[:, :1] + offsets[:, 0]
    x = middle[:, 1:] + offsets[:, 1]
    data = image[y, x].astype(np.float64)
    low, high = np.quantile(data, 0.1, axis=1), np.quantile(data, 0.95, axis=1)
    p = np.stack(
        [low, np.maximum(high - low, 1e-6), *columns.T, np.full(len(columns), sigma_px)], axis=1
    )
    damping = np.full(len(p), 1e-2)
    residual, jacobian = _model(p, y, x, data)
    cost = (residual**2).sum(axis=1)
    for _ in range(60):
        normal = np.einsum("nki,nkj->nij", jacobian, jacobian)
        gradient = np.einsum("nki,nk->ni", jacobian, residual)
        diagonal = np.einsum("nii->ni", normal)
        heavy = normal + (damping[:, None] * diagonal + 1e-12)[:, :, None] * np.eye(5)
        trial = p + np.linalg.solve(heavy, gradient[:, :, None])[:, :, 0]
        trial[:, 4] = np.clip(trial[:, 4], 0.4 * sigma_px, 2.5 * sigma_px)
        trial[:, 2:4] = np.clip(trial[:, 2:4], columns - radius_px, columns + radius_px)
        new_residual, new_jacobian = _model(trial, y, x, data)
        new_cost = (new_residual**2).sum(axis=1)
        better = new_cost < cost
        p[better], cost[better] = trial[better], new_cost[better]
        residual[better], jacobian[better] = new_residual[better], new_jacobian[better]
        damping = np.where(better, damping / 3.0, damping * 4.0)
    return np.stack([p[:, 2], p[:, 3], 2.0 * np.pi * p[:, 4] ** 2 * p[:, 1]], axis=1)


def _model(
    p: Numbers, y: NDArray[np.int_], x: NDArray[np.int_], data: Numbers
) -> tuple[Numbers, Numbers]:
    """Data minus model (n, k), and the model's derivatives (n, k, 5)."""
    background, height, y0, x0, sigma = (p[:, i : i + 1] for i in range(5))
    dy, dx = y - y0, x - x0
    r2 = dy**2 + dx**2
    bell = np.exp(-0.5 * r2 / sigma**2)
    derivatives = np.stack(
        [
            np.ones_like(bell),
            bell,
            height * bell * dy / sigma**2,
            height * bell * dx / sigma**2,
            height * bell * r2 / sigma**3,
        ],
        axis=2,
    )
    return data - background - height * bell, derivatives


def column_errors(
    image: Image, truth: Image, columns: Numbers, radius_px: float, sigma_px: float
) -> tuple[float, float]:
    """Root mean square error of position (pixels) and cross-section (fraction of their mean).

    Against the same fit to the truth, so that what the model leaves out (neighbours' tails)
    counts for no method.
    """
    ideal = fitted_columns(truth, columns, radius_px, sigma_px)
    found = fitted_columns(image, columns, radius_px, sigma_px)
    shift = found[:, :2] - ideal[:, :2]
    position = float(np.sqrt(np.mean(np.sum(shift**2, axis=1))))
    section = float(np.sqrt(np.mean((found[:, 2] - ideal[:, 2]) ** 2)) / np.mean(ideal[:, 2]))
    return position, section
