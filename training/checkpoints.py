"""Checkpoints and averaged weights, as all trainings have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn


def write(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def read(path: Path) -> dict[str, Any]:
    """What `write` has written: tensors, numbers and texts, never code."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def step_of(path: Path) -> int:
    """The step at which a checkpoint was written."""
    return int(read(path)["step"])


def follow(averaged: nn.Module, network: nn.Module, step: int, most: float) -> None:
    """Weights of `averaged` become a running mean of those of `network`, after step `step`.

    The old mean counts `most` of the new one; less in the first steps, so that the weights of
    the beginning are soon forgotten.
    """
    share = min(most, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        for slow, fast in zip(averaged.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - share)
