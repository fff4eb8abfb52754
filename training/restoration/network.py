"""The restoration network: a U-Net of residual blocks that works on blocks of 2 x 2 pixels."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Layout:
    """Channels of each level, and residual blocks going down, at the bottom, and going up.

    Level 0 works at half the image's sampling (space to depth by 2), each next one at half of
    the one before. An image's sides must be multiples of `multiple`.
    """

    widths: tuple[int, ...] = (48, 64, 96, 128)
    down: tuple[int, ...] = (1, 2, 1, 1)
    up: tuple[int, ...] = (1, 2, 2)

    @property
    def multiple(self) -> int:
        """Sides of the input must be multiples of this, in pixels."""
        return 1 << len(self.widths)

    def as_dict(self) -> dict[str, list[int]]:
        """The layout as plain lists, for a checkpoint."""
        return {key: list(value) for key, value in asdict(self).items()}


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))); starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)
        for conv in (self.first, self.second):
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, ny, nx) to the same shape."""
        inner: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + inner


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(width) for _ in range(count)))


class RestorationNetwork(nn.Module):
    """Restored image from a distorted one, both (n, 1, ny, nx) and normalised the same way.

    relu only and no normalisation layers: intensity goes through linearly, bfloat16 is enough,
    and any part of an image gives the same as the whole away from the part's edges.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        widths = layout.widths
        self.enter = nn.Conv2d(4, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, layout.down, strict=True))
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths)
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, layout.up, strict=False))
        self.leave = nn.Conv2d(widths[0], 4, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 1, ny, nx) float32 to the same; sides must be multiples of `layout.multiple`."""
        x = self.enter(nn.functional.pixel_unshuffle(image, 2))
        passed: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            x = blocks(x)
            if level < len(self.shrink):
                passed.append(x)
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            x = nn.functional.pixel_shuffle(self.grow[level](x), 2)
            x = self.up[level](x + passed[level])
        return nn.functional.pixel_shuffle(self.leave(x), 2)
