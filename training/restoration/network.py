"""The restoration network: a U-Net of residual blocks that works on blocks of 2 x 2 pixels."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

INPUTS, OUTPUTS = 7, 6
"""Channels of the input; own image, part of the noise and four weights of the output."""
BOUND = 10.0
"""Multiples of the noise at which the network's eyes begin to close."""
FIRST_GUESS = (0.0, 0.0, 0.0, 1.0, -2.0, -3.0)
"""Outputs before any training: mostly what is shown already, and an image of nothing."""


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
    """What is to be added to the estimate of an image, from the estimate's channels.

    Input (n, 7, ny, nx), `stemd.engines.restoration.estimate.channels.CHANNELS`; output (n, 1, ny,
    nx): the restored image is `shown` plus the output. For each pixel the network weighs four
    candidates with each other (its own image, `shown`, `waves`, `aligned`) and adds a part of the
    noise's deviation. So what is right already is kept as exactly as it was measured.

    relu only and no normalisation layers: intensity goes through linearly, bfloat16 is enough,
    and any part of an image gives the same as the whole away from the part's edges.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        widths = layout.widths
        self.enter = nn.Conv2d(4 * INPUTS, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, layout.down, strict=True))
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths)
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, layout.up, strict=False))
        self.leave = nn.Conv2d(widths[0], 4 * OUTPUTS, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=0.01)
        with torch.no_grad():
            assert self.leave.bias is not None
            self.leave.bias.copy_(torch.tensor(FIRST_GUESS).repeat_interleave(4))

    def forward(self, channels: Tensor) -> Tensor:
        """(n, 7, ny, nx) float32 to (n, 1, ny, nx); sides must be multiples of the layout's."""
        return mixed(channels, self.features(channels))

    def features(self, channels: Tensor) -> Tensor:
        """(n, 6, ny, nx): own image, part of the noise, and the candidates' four weights."""
        seen = torch.cat([channels[:, :4], bounded(channels[:, 4:6]), channels[:, 6:]], dim=1)
        x = self.enter(nn.functional.pixel_unshuffle(seen, 2))
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


def bounded(values: Tensor) -> Tensor:
    """Multiples of the noise, those beyond `BOUND` pressed together."""
    return BOUND * nn.functional.softsign(values / BOUND)


def mixed(channels: Tensor, features: Tensor) -> Tensor:
    """What is added to `shown`: both inputs float32, since the sum is of nearly equal numbers."""
    own, part, weights = features[:, :1], features[:, 1:2], torch.softmax(features[:, 2:], dim=1)
    spread = torch.exp(channels[:, 6:7])
    to_own = weights[:, :1] * (own - channels[:, 3:4])
    to_rest = weights[:, 3:4] * channels[:, 4:5] - weights[:, 2:3] * channels[:, 5:6] + part
    return to_own + spread * to_rest
