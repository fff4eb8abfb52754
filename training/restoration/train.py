"""Train the restoration network, or go on training it from its checkpoint.

    python -m training.restoration.train --state state/restoration.pt --steps 100000

The run can be ended at any moment and started again with the same command: it goes on from the
last checkpoint and gives the same weights as a run that was never interrupted. `--finish N`
takes the checkpoint of `--from` and lets the learning rate fall to zero within N steps: the
last part of a training, which may be repeated while the main one goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemd.engines.restoration.estimate.channels import stacked
from training import checkpoints
from training.restoration.losses import restoration_loss
from training.restoration.network import Layout, RestorationNetwork, mixed
from training.restoration.optimiser import optimisers
from training.restoration.pool import IMAGES, drawn, path_of
from training.restoration.shipped import load_shipped

log = structlog.get_logger()

VALIDATION_SEED = 990_001
WARM_UP_STEPS = 200
AVERAGING = 0.9995


@dataclass(frozen=True, slots=True)
class Recipe:
    """What, with the step number, determines a run's weights."""

    layout: Layout = field(default_factory=Layout)
    seed: int = 1
    size: int = 128
    batch: int = 12
    learning_rate: float = 3e-3
    finish_at: int | None = None
    finish_steps: int = 0

    def fraction(self, step: int) -> float:
        """Of the learning rate, for this step: a rise, a plateau, where asked a fall to zero."""
        fraction = min(1.0, (step + 1) / WARM_UP_STEPS)
        if self.finish_at is not None:
            fraction *= max(0.0, (self.finish_at - step) / max(1, self.finish_steps))
        return fraction


class Run:
    """Network, its averaged twin, optimiser, and the number of steps done."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        network = RestorationNetwork(recipe.layout)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.optimisers = optimisers(self.network, recipe.learning_rate, ("enter", "leave"))
        self.rates = [one.param_groups[0]["lr"] for one in self.optimisers]
        self.step = 0

    def learn(self, channels: Tensor, truth: Tensor) -> float:
        """One step; the batch is (n, 7, ny, nx) and (n, 1, ny, nx). Returns the loss."""
        for one, rate in zip(self.optimisers, self.rates, strict=True):
            one.param_groups[0]["lr"] = rate * self.recipe.fraction(self.step)
        self.network.train()
        loss = restoration_loss(restored(self.network, channels), truth)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for one in self.optimisers:
            one.step()
        self.step += 1
        checkpoints.follow(self.averaged, self.network, self.step, AVERAGING)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write the checkpoint; a reader sees the old or the new one, never a part."""
        checkpoints.write(
            {
                "layout": self.recipe.layout.as_dict(),
                "seed": self.recipe.seed,
                "size": self.recipe.size,
                "batch": self.recipe.batch,
                "step": self.step,
                "network": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimisers": [one.state_dict() for one in self.optimisers],
            },
            path,
        )

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same layout, or from the weights of an exported model,
        which know no optimiser's state: the learning rate rises anew.
        """
        if path.suffix == ".onnx":
            network, _ = load_shipped(path)
            self.network.load_state_dict(network.state_dict())
            self.averaged.load_state_dict(network.state_dict())
            return
        state = checkpoints.read(path)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        for one, saved in zip(self.optimisers, state["optimisers"], strict=True):
            one.load_state_dict(saved)
        self.step = int(state["step"])


def load_averaged(path: Path) -> tuple[RestorationNetwork, int]:
    """The averaged network of a checkpoint, for scoring and export, and its step."""
    state = checkpoints.read(path)
    layout = Layout(**{key: tuple(value) for key, value in state["layout"].items()})
    network = RestorationNetwork(layout)
    network.load_state_dict(state["averaged"])
    return network.eval(), int(state["step"])


def restored(network: RestorationNetwork, channels: Tensor) -> Tensor:
    """Restored images (n, 1, ny, nx): features in bfloat16, the rest in float32."""
    with torch.autocast("cpu", torch.bfloat16):
        features = network.features(channels)
    return channels[:, 3:4] + mixed(channels, features.float())


@dataclass(frozen=True, slots=True)
class Source:
    """Where images come from: the first `images` of a pool, or drawn for each batch (None)."""

    pool: Path | None = None
    images: int = 0

    def batch(self, seed: int, number: int, count: int, size: int) -> tuple[Tensor, Tensor]:
        """Batch `number` of the endless series `seed`: what the network is given and the truth,
        (count, 7, size, size) and (count, 1, size, size).
        """
        if self.pool is None:
            parts = [drawn(seed, number * count + n, size) for n in range(count)]
        else:
            rng = np.random.default_rng([seed, 7, number])
            parts = [self._cut(rng, size) for _ in range(count)]
        stack = [np.asarray(part, np.float32) for part in parts]
        channels = torch.from_numpy(np.stack([stacked(p[0], *p[2:]) for p in stack]))
        truth = torch.from_numpy(np.stack([p[1:2] for p in stack]))
        return channels.contiguous(memory_format=torch.channels_last), truth

    def _cut(self, rng: np.random.Generator, size: int) -> NDArray[np.float16]:
        """A part of an image, half of them upside down: scans look the same that way."""
        assert self.pool is not None
        number = int(rng.integers(self.images))
        file = np.load(path_of(self.pool, number // IMAGES), mmap_mode="r")
        y, x = rng.integers(0, file.shape[-1] - size + 1, 2)
        part = file[number % IMAGES, :, y : y + size, x : x + size]
        return np.array(part[:, ::-1] if rng.random() < 0.5 else part)


def batches(
    recipe: Recipe, source: Source, first: int, stop: threading.Event
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches from number `first` on, made ahead of time by one thread until `stop`."""
    ready: queue.Queue[tuple[Tensor, Tensor] | Exception] = queue.Queue(maxsize=3)

    def offer(item: tuple[Tensor, Tensor] | Exception) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.5)
                return

    def produce() -> None:
        number = first
        try:
            while not stop.is_set():
                offer(source.batch(recipe.seed, number, recipe.batch, recipe.size))
                number += 1
        except Exception as error:  # raised again where the batch was wanted
            offer(error)

    threading.Thread(target=produce, name="pairs", daemon=True).start()
    while True:
        item = ready.get()
        if isinstance(item, Exception):
            raise RuntimeError("a training pair could not be made") from item
        yield item


def validate(network: RestorationNetwork, count: int = 48, size: int = 192) -> dict[str, float]:
    """Mean over unseen pairs, in dB: error below the truth's variance, and below the estimate's."""
    channels, truth = _unseen(count, size)
    with torch.inference_mode():
        out = torch.cat([restored(network, part) for part in torch.split(channels, 8)])
    after = (out - truth).square().mean(dim=(1, 2, 3)) + 1e-6
    before = (channels[:, 3:4] - truth).square().mean(dim=(1, 2, 3)) + 1e-6
    variance = truth.var(dim=(1, 2, 3)) + 1e-6
    seen = variance > 1e-3
    return {
        "snr_db": float(10.0 * torch.log10(variance / after)[seen].mean()),
        "gain_db": float(10.0 * torch.log10(before / after).mean()),
        "mean_error": float((out - truth).mean(dim=(1, 2, 3)).abs().mean()),
    }


@cache
def _unseen(count: int, size: int) -> tuple[Tensor, Tensor]:
    return Source().batch(VALIDATION_SEED, 0, count, size)


def train(
    run: Run, source: Source, state: Path, steps: int, every_s: float, validate_s: float
) -> None:
    """Train until `run.step` reaches `steps`, with a checkpoint and a score now and then."""
    stop = threading.Event()
    ready = batches(run.recipe, source, run.step, stop)
    saved = scored = time.monotonic()
    losses: list[float] = []
    try:
        while run.step < steps:
            loss = run.learn(*next(ready))
            if not math.isfinite(loss):
                raise RuntimeError(f"the loss is not finite at step {run.step}")
            losses.append(loss)
            now = time.monotonic()
            if now - saved > every_s or run.step >= steps:
                run.save(state)
                log.info("checkpoint", step=run.step, loss=round(float(np.mean(losses)), 4),
                         steps_per_s=round(len(losses) / (now - saved), 3))  # fmt: skip
                saved = now
                losses.clear()
            if now - scored > validate_s or run.step >= steps:
                scored = now
                result = validate(run.averaged)
                log.info("validation", step=run.step, **{k: round(v, 3) for k, v in result.items()})
    finally:
        stop.set()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--state", type=Path, default=Path("state/restoration.pt"))
    parser.add_argument(
        "--from", dest="origin", type=Path, help="start from this checkpoint, or exported .onnx"
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="train up to this step")
    parser.add_argument("--finish", type=int, default=0, help="fall to zero within N steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pool", type=Path, help="images made by training.restoration.pool")
    parser.add_argument("--images", type=int, default=8000, help="how many of them")
    parser.add_argument("--size", type=int, default=128, help="side of a training image, pixels")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--checkpoint-s", type=float, default=180.0)
    parser.add_argument("--validate-s", type=float, default=900.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    origin = options.state if options.state.exists() else options.origin
    begun = 0
    if options.finish:
        if options.origin is None:
            parser.error("--finish needs --from, the checkpoint to finish")
        begun = checkpoints.step_of(options.origin)
    recipe = Recipe(
        seed=options.seed,
        size=options.size,
        batch=options.batch,
        learning_rate=options.learning_rate,
        finish_at=begun + options.finish if options.finish else None,
        finish_steps=options.finish,
    )
    run = Run(recipe)
    if origin is not None:
        run.restore(origin)
        log.info("resumed", checkpoint=str(origin), step=run.step)
    steps = recipe.finish_at if recipe.finish_at is not None else options.steps
    source = Source(options.pool, options.images)
    train(run, source, options.state, steps, options.checkpoint_s, options.validate_s)


if __name__ == "__main__":
    main()
