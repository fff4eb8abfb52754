"""What training makes small. Every term compares intensities: nothing rewards mere looks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = 1e-5
"""Squared error, in units of the noisy image's variance, below which nothing is gained."""


def restoration_loss(restored: Tensor, truth: Tensor) -> Tensor:
    """Loss of a batch, both (n, 1, ny, nx) float32 on the network's scale; a scalar.

    Sum of, each the mean over images:
    - ln(squared error + FLOOR): a dB counts the same at every dose (PSNR is what is scored);
    - 0.3 x L1 / deviation of the truth;
    - 0.3 x L1 / local deviation of the truth (8 x 8 windows): faint detail counts beside strong;
    - 0.2 x L1 / deviation of the two images averaged over 4 x 4 and 16 x 16 pixels, and their
      whole means: slow intensity and the mean are right.
    """
    error = restored - truth
    squared = error.square().mean(dim=(1, 2, 3))
    variance = truth.var(dim=(1, 2, 3), correction=0)
    deviation = (variance + 0.01).sqrt()
    absolute = error.abs()
    l1 = absolute.mean(dim=(1, 2, 3)) / deviation
    local = (absolute / _local_deviation(truth, variance)).mean(dim=(1, 2, 3))
    slow = error.mean(dim=(1, 2, 3)).abs() / deviation
    for window in (4, 16):
        slow = slow + functional.avg_pool2d(error, window).abs().mean(dim=(1, 2, 3)) / deviation
    return (torch.log(squared + FLOOR) + 0.3 * l1 + 0.3 * local + 0.2 * slow).mean()


def _local_deviation(truth: Tensor, variance: Tensor) -> Tensor:
    mean = functional.avg_pool2d(truth, 8, stride=4, padding=4, count_include_pad=False)
    square = functional.avg_pool2d(truth.square(), 8, stride=4, padding=4, count_include_pad=False)
    local = (square - mean.square()).clamp_min(0.0)
    local = functional.interpolate(local, size=truth.shape[-2:], mode="bilinear")
    return (local + 0.1 * variance[:, None, None, None] + 0.01).sqrt()
