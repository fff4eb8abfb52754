"""The network of AIRPI: from the features of nine patterns to the specimen's transmission.

On a grid in units of the aperture every pixel has a meaning of its own, so full connections do
what a U-Net's convolutions do for patterns of any scale, at a fraction of the cost: each pattern
is put into few numbers by one common matrix, the nine together go through residual layers, and
the last gives real and imaginary part of D = T - 1 in the window about the probe. T = 1, an
empty specimen, is what a network of zeros says: the probe's residual of the published network.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from stemd.engines.airpi.features import GRID, SCALARS, WINDOW

K = GRID.members.size
OUTPUTS = 2 * WINDOW**2


@dataclass(frozen=True, slots=True)
class Layout:
    """`pattern`: numbers that a pattern is put into; `width` of the residual layers, `blocks` of
    them, each `inner` wide inside; `told` numbers that the plain ones are put into.
    """

    pattern: int = 160
    width: int = 640
    inner: int = 640
    blocks: int = 4
    told: int = 64

    def as_dict(self) -> dict[str, int]:
        """For checkpoints and metadata."""
        return asdict(self)


class Block(nn.Module):
    """x + second(relu(first(norm(x)) (1 + a) + b)), a and b from the plain numbers."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(layout.width)
        self.first = nn.Linear(layout.width, layout.inner)
        self.tell = nn.Linear(layout.told, layout.inner)
        self.second = nn.Linear(layout.inner, layout.width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """x (n, width), told (n, told)."""
        inner = torch.relu(self.first(self.norm(x)) + self.tell(told))
        out: Tensor = x + self.second(inner)
        return out


class ExitWaveNetwork(nn.Module):
    """Features (n, 9 K + SCALARS) to D (n, 2, WINDOW, WINDOW)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.embed = nn.Linear(K, layout.pattern, bias=False)
        self.hear = nn.Linear(SCALARS, layout.told)
        self.hear_more = nn.Linear(layout.told, layout.told)
        self.gain = nn.Linear(layout.told, layout.width)
        self.enter = nn.Linear(9 * layout.pattern, layout.width)
        self.blocks = nn.ModuleList(Block(layout) for _ in range(layout.blocks))
        self.norm = nn.LayerNorm(layout.width)
        self.straight = nn.Linear(layout.width, OUTPUTS, bias=False)
        self.leave = nn.Linear(layout.width, OUTPUTS)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)
        for layer in (self.straight, self.leave):
            nn.init.normal_(layer.weight, std=0.003)
        nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        patterns = features[:, : 9 * K].reshape(-1, 9, K)
        told = torch.relu(self.hear(features[:, 9 * K :]))
        told = torch.relu(self.hear_more(told))
        seen = self.embed(patterns).flatten(1)
        x = self.enter(seen) * (1.0 + self.gain(told))
        first = x
        for block in self.blocks:
            x = block(x, told)
        # a linear way past the layers: at low dose the answer is a weak, linear one
        out: Tensor = self.straight(first) + self.leave(self.norm(x))
        return out.reshape(-1, 2, WINDOW, WINDOW)
